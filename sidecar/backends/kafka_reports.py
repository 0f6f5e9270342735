"""What a Kafka client's reports mean.

Source: librdkafka's rdkafka.h (error codes below 0); the Kafka protocol's error codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.backends.answers import Answer, Hold, Partly, Retry, TooLarge

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

_TOO_LARGE = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
_REFUSED = frozenset({"INVALID_RECORD", "INVALID_TIMESTAMP"})
_OPERATORS = frozenset(
    {
        "TOPIC_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "UNKNOWN_TOPIC_OR_PART",
        "TOPIC_EXCEPTION",
        "POLICY_VIOLATION",
        "_AUTHENTICATION",
        "_UNKNOWN_TOPIC",
        "_SSL",
    }
)
"""What an operator has to mend."""
_LASTING = frozenset({"_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_FATAL", "_SSL"})
"""Complaints after which waiting for this client's reports is in vain."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One message that was not stored."""

    index: int
    """In its batch."""
    error: "KafkaError"


def is_lasting(trouble: "KafkaError | None") -> bool:
    """Return whether the client's complaint will not go away by waiting."""
    return trouble is not None and (trouble.fatal() or trouble.name() in _LASTING)


def classify_failures(
    failures: Sequence[Failure], count: int, trouble: "KafkaError | None"
) -> Answer:
    """Say what became of a batch of `count` messages.

    Args:
        failures: those that the client gave up, in their order; none where no report came in
            time, or where the rest was given up by us.
        count: messages in the batch.
        trouble: the client's latest complaint, which tells more than a time-out does.
    """
    names = [failure.error.name() for failure in failures]
    if count > 1 and names and len(names) == count and set(names) <= _TOO_LARGE:
        # A broker refuses whole sets of messages: halves tell which one is to blame.
        return TooLarge()
    rejected = tuple(
        (failure.index, "too_large" if name in _TOO_LARGE else "rejected")
        for failure, name in zip(failures, names, strict=True)
        if name in _REFUSED or (name in _TOO_LARGE and count == 1)
    )
    retry = tuple(
        failure.index
        for failure in failures
        if failure.index not in {index for index, _ in rejected}
    )
    if rejected or 0 < len(retry) < count:
        return Partly(retry=retry, rejected=rejected)
    name = trouble.name() if trouble is not None else (names or ["timeout"])[0]
    reason = "kafka_" + name.lstrip("_").lower()
    return Hold(reason) if name in _OPERATORS else Retry(reason)
