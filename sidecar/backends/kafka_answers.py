"""What the names of Kafka's errors mean for a batch.

Source: the Kafka protocol's error codes, by the names that kafka-python gives them.
"""

from typing import Final

from sidecar.backends.answers import Answer, Hold, Retry
from sidecar.backends.connection import ConnectError, ExchangeError

STORED: Final = frozenset({"NO_ERROR", "DUPLICATE_SEQUENCE_NUMBER"})
"""The records are there; with the second, since an earlier attempt."""
TOO_LARGE: Final = frozenset({"MESSAGE_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
REFUSED: Final = frozenset({"INVALID_RECORD", "INVALID_TIMESTAMP"})
OUT_OF_STEP: Final = frozenset(
    {
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "UNKNOWN_PRODUCER_ID",
        "INVALID_PRODUCER_EPOCH",
        "INVALID_PRODUCER_ID_MAPPING",
        "PRODUCER_FENCED",
    }
)
"""The broker does not know what we count on: only a new producer id helps."""
_OPERATORS: Final = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "TOPIC_EXCEPTION",
        "POLICY_VIOLATION",
        "INCOMPATIBLE_BROKER",
        "UNSUPPORTED_VERSION",
        "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        "UNSUPPORTED_COMPRESSION_TYPE",
    }
)
"""What an operator has to mend."""
NOT_STORED: Final = TOO_LARGE | REFUSED | _OPERATORS
"""After these it is certain that nothing was stored; after all others nobody knows."""


class BrokerError(Exception):
    """A broker says no; `name` is Kafka's word for why."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


def classify_error(name: str) -> Answer:
    """Say what an error means that is about no single record."""
    reason = "kafka_" + name.lower()
    return Hold(reason) if name in _OPERATORS else Retry(reason)


def classify_trouble(error: BrokerError | ConnectError | ExchangeError) -> Answer:
    """Say what it means that a broker cannot be reached, breaks off or says no."""
    return classify_error(error.name) if isinstance(error, BrokerError) else Retry(error.reason)
