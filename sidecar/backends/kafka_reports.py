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
    size: int
    """Bytes of its value."""


def is_lasting(trouble: "KafkaError | None") -> bool:
    """Return whether the client's complaint will not go away by waiting."""
    return trouble is not None and (trouble.fatal() or trouble.name() in _LASTING)


def classify_trouble(trouble: "KafkaError | None") -> Answer:
    """Say what a batch came to of which nobody knows anything."""
    name = "timeout" if trouble is None else trouble.name()
    reason = "kafka_" + name.lstrip("_").lower()
    return Hold(reason) if name in _OPERATORS else Retry(reason)


def classify_failures(
    failures: Sequence[Failure], count: int, trouble: "KafkaError | None", limit: int | None
) -> Answer:
    """Say what became of a batch of `count` messages.

    Args:
        failures: those that the client gave up, at least one; all others are stored.
        count: messages in the batch.
        trouble: the client's complaint, which tells more than a time-out does.
        limit: bytes that brokers take at a time, if they say so.
    """
    names = {failure.error.name() for failure in failures}
    rejected = tuple(
        (failure.index, reason)
        for failure in failures
        if (reason := _rejection(failure, alone=count == 1, limit=limit)) is not None
    )
    if rejected or len(failures) < count:
        refused = {index for index, _ in rejected}
        retry = tuple(failure.index for failure in failures if failure.index not in refused)
        return Partly(retry=retry, rejected=rejected)
    if names <= _TOO_LARGE:
        # Brokers refuse whole sets of messages: halves tell which one is to blame.
        return TooLarge()
    return classify_trouble(trouble or failures[0].error)


def _rejection(failure: Failure, *, alone: bool, limit: int | None) -> str | None:
    """Return why a message will never be taken, None if it may be."""
    name = failure.error.name()
    if name in _REFUSED:
        return "rejected"
    too_large = alone or (limit is not None and failure.size > limit)
    return "too_large" if name in _TOO_LARGE and too_large else None
