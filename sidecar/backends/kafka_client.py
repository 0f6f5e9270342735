"""The Kafka client, opened for one topic: it produces one batch at a time and reports on it.

Source: librdkafka's CONFIGURATION.md; confluent_kafka's API reference.
"""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.backends.kafka_reports import Failure, is_lasting

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message
    from confluent_kafka.admin import AdminClient

USUAL_SET_BYTES = 1_000_000
"""Of a set of messages: what brokers take by default, and what the client makes by default."""
_SET_MARGIN_BYTES = 1024
"""For what stands around the messages of a set."""
_MAX_MESSAGE_BYTES = 1_000_000_000
"""The client's own bound is lifted: what a broker takes is said by the broker."""
_ASK_SECONDS = 5.0
"""For a broker to answer at all."""
_ASK_LIMIT_SECONDS = 1.0
"""For a broker to say what it takes at a time; some never do."""
_LOOK_SECONDS = 0.25
"""Between two looks at whether the client has run into something that waiting does not mend."""


class NoBrokerError(Exception):
    """No broker answers; `trouble` is the client's word for it, if it had one."""

    def __init__(self, trouble: "KafkaError | None") -> None:
        self.trouble = trouble
        super().__init__("no broker answers")


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a batch."""

    done: bool
    """Every message was reported on; if not, nobody knows of any of them."""
    failures: Sequence[Failure]
    """In the order of the messages; all others are stored."""
    trouble: "KafkaError | None"
    """The client's complaint about brokers meanwhile."""


class Client:
    """An idempotent producer; what it has outstanding is one batch of one thread."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        topic: str,
        *,
        deadline: float,
        compression: Mapping[str, Any],
    ) -> None:
        """Connect and ask what the brokers take at a time.

        Args:
            configuration: brokers and security.
            topic: that all messages go to; it need not exist yet.
            deadline: monotonic.
            compression: the producer's settings for it.

        Raises:
            ImportError: confluent_kafka is not installed.
            NoBrokerError: nobody answers in time.
        """
        from confluent_kafka import Producer

        self._topic = topic
        self._failures: list[tuple[bytes, KafkaError]] = []
        """Values and errors of messages that were given up."""
        self._trouble: KafkaError | None = None
        configuration = {**configuration, "client.id": "sidetail", "error_cb": self._on_error}
        self.limit = self._ask_limit(configuration, deadline)
        """Bytes that a set of messages may have, None where no broker says."""
        self._producer = Producer(
            {
                **configuration,
                **compression,
                "enable.idempotence": True,
                # Messages do not expire one by one, which would leave gaps in a file's lines:
                # a batch is given up as a whole, by us.
                "message.timeout.ms": 0,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "batch.size": set_bytes(self.limit),
                "batch.num.messages": 100_000,
                "queue.buffering.max.messages": 0,
                # A batch is complete before its first message goes; `flush` waits for nothing.
                "linger.ms": 1000,
                # Only failures are reported one by one: that the queue is empty says the rest.
                "delivery.report.only.error": True,
                "on_delivery": self._on_delivery,
            },
            logger=_silent(),
        )

    def produce(self, messages: list[dict[str, Any]], deadline: float) -> Report:
        """Produce messages (`{"key": …, "value": …}`, no value twice) and wait for the reports."""
        from confluent_kafka import KafkaException

        self._failures.clear()
        self._trouble = None
        try:
            queued = self._producer.produce_batch(self._topic, messages)
            left = self._flush(deadline)
        except KafkaException as error:  # a fatal one: this client will never send again
            return Report(done=False, failures=(), trouble=error.args[0])
        if left:
            return Report(done=False, failures=(), trouble=self._trouble)
        failures = (
            self._gather(messages, queued) if self._failures or queued < len(messages) else ()
        )
        return Report(done=True, failures=failures, trouble=self._trouble)

    def close(self) -> None:
        """Give up what is outstanding."""
        from confluent_kafka import KafkaException

        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(0)

    def _flush(self, deadline: float) -> int:
        """Wait until everything is reported on; return what is not, at the deadline or in vain."""
        while True:
            seconds = max(0.0, min(_LOOK_SECONDS, deadline - time.monotonic()))
            left: int = self._producer.flush(seconds)
            if not left or time.monotonic() >= deadline or is_lasting(self._trouble):
                return left

    def _gather(self, messages: list[dict[str, Any]], queued: int) -> Sequence[Failure]:
        found: list[Failure] = []
        if queued < len(messages):
            found = [
                Failure(index, message["_error"], len(message["value"]))
                for index, message in enumerate(messages)
                if "_error" in message
            ]
        places = {message["value"]: index for index, message in enumerate(messages)}
        found += [Failure(places[value], error, len(value)) for value, error in self._failures]
        return sorted(found, key=lambda failure: failure.index)

    def _ask_limit(self, configuration: Mapping[str, Any], deadline: float) -> int | None:
        """Return what brokers take at a time of our topic, or at all.

        They refuse whole sets of messages. If ours were too large, what follows would be stored
        before what was refused, and a file's lines would lose their order.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import (  # type: ignore[attr-defined] # documented there all the same
            AdminClient,
            ConfigResource,
            ResourceType,
        )

        seconds = max(0.001, min(_ASK_SECONDS, deadline - time.monotonic()))
        client = AdminClient(dict(configuration), logger=_silent())
        try:
            brokers = client.list_topics(timeout=seconds).brokers
        except KafkaException as error:
            raise NoBrokerError(self._trouble or error.args[0]) from error
        seconds = min(seconds, _ASK_LIMIT_SECONDS)
        with contextlib.suppress(KafkaException, KeyError, ValueError, TypeError, StopIteration):
            # A topic that is not there yet has the limit of the brokers.
            topic = ConfigResource(ResourceType.TOPIC, self._topic)
            limit = _ask(client, topic, "max.message.bytes", seconds)
            if limit is None:
                broker = ConfigResource(ResourceType.BROKER, str(next(iter(brokers))))
                limit = _ask(client, broker, "message.max.bytes", seconds)
            return limit
        return None  # an operator need not allow this question

    def _on_delivery(self, error: "KafkaError | None", message: "Message") -> None:
        if error is not None:
            self._failures.append((message.value() or b"", error))

    def _on_error(self, error: "KafkaError") -> None:
        # What lasts is not forgotten for the next broker's refusal.
        if not is_lasting(self._trouble):
            self._trouble = error


def set_bytes(limit: int | None) -> int:
    """Return how large a set of messages is made for brokers that take `limit` bytes."""
    if limit is None:
        return USUAL_SET_BYTES
    return max(1, min(USUAL_SET_BYTES, limit - _SET_MARGIN_BYTES))


def _ask(client: "AdminClient", resource: Any, setting: str, seconds: float) -> int | None:
    """Return a setting, None where its topic is not there; raises whatever the client does."""
    from confluent_kafka import KafkaError, KafkaException

    (answer,) = client.describe_configs([resource], request_timeout=seconds).values()
    try:
        return int(answer.result()[setting].value)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _silent() -> logging.Logger:
    """Return a logger that says nothing: what concerns us comes as an error of its own."""
    logger = logging.getLogger("sidecar.backends.kafka.client")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
