"""`kafka`: each record a message of a topic, acknowledged by the broker's delivery report.

The producer is idempotent, so that what the client itself sends again is not stored twice; all
records of a file have one key, so that they lie in one partition in their order. The client
(librdkafka) is an optional extra: without it the backend holds and says so.

Source: librdkafka's CONFIGURATION.md; confluent_kafka's API reference.
"""

import logging
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.settings import Key, ValueProblem, parse_choice
from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry, Sender
from sidecar.backends.connection import ConnectError, addresses
from sidecar.backends.credentials import Credentials, CredentialsError
from sidecar.backends.kafka_reports import Failure, classify_failures, is_lasting
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings
from sidecar.url import Url

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

SCHEMES = ("kafka", "tls")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_LOOK_SECONDS = 0.25
"""Between two looks at whether the client has run into something that waiting does not mend."""
_MAX_MESSAGE_BYTES = 1_000_000_000
"""The client's own bound is lifted: what a broker takes is said by the broker."""


def parse_topic(value: object) -> str:
    """Return the name of a topic.

    Raises:
        ValueProblem: Kafka allows no such name.
    """
    if (
        not isinstance(value, str)
        or not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value, re.ASCII)
        or value in (".", "..")
    ):
        raise ValueProblem("1 to 249 letters, digits and . _ -")
    return value


def parse_brokers(value: object) -> tuple[str, ...]:
    """Return further brokers to begin with, each `host:port`.

    Raises:
        ValueProblem: it is no list of such.
    """
    if not isinstance(value, list) or not all(
        isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,253}:[0-9]{1,5}", item, re.ASCII)
        for item in value
    ):
        raise ValueProblem("a list of host:port")
    return tuple(value)


OPTIONS = (
    Key("topic", parse_topic, "sidetail", "The topic that messages go to."),
    Key("brokers", parse_brokers, [], "Brokers to begin with besides the one of `url`."),
    Key(
        "sasl_mechanism",
        parse_choice(*SASL_MECHANISMS),
        "PLAIN",
        "How `username` and `password` of the credentials folder are used.",
    ),
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    return KafkaBackend(backend, message_seconds=settings.limits.request_seconds)


class KafkaBackend(TemplateEncoder):
    """A Kafka cluster."""

    def __init__(self, settings: BackendSettings, *, message_seconds: float) -> None:
        super().__init__(ndjson_template)
        self._settings = settings
        self._message_seconds = message_seconds

    def sender(self) -> Sender:
        """Return a producer of its own, so that what it has outstanding is one batch."""
        return _Sender(self._settings, self._message_seconds)


class _Sender:
    def __init__(self, settings: BackendSettings, message_seconds: float) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._settings = settings
        self._topic: str = settings.options["topic"]
        self._message_seconds = message_seconds
        self._credentials = Credentials(settings.credentials_dir)
        self._producer: Producer | None = None
        self._failures: list[tuple[bytes, KafkaError]] = []
        """Values and errors of messages that were given up."""
        self._trouble: KafkaError | None = None
        """The client's complaint about brokers, since the batch was begun."""

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Produce the batch and wait for the reports of all its messages."""
        deadline = time.monotonic() + seconds
        try:
            if self._credentials.refresh():
                self.close()  # rotated credentials want a new client
            producer = self._ready()
        except ImportError:
            return Hold("confluent_kafka_not_installed")
        except CredentialsError as error:
            return Hold(error.reason)
        except ConnectError as error:
            return Retry(error.reason)
        answer = self._produce(producer, _messages(batch), deadline)
        if not isinstance(answer, Delivered):
            # It may be stuck, or have sent what was given up: a new one begins clean.
            self.close()
            self._credentials.forget()
        return answer

    def close(self) -> None:
        """Give up what is outstanding, and let go of the client."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(0)

    def _produce(
        self, producer: "Producer", messages: list[dict[str, Any]], deadline: float
    ) -> Answer:
        self._failures.clear()
        self._trouble = None
        queued = producer.produce_batch(self._topic, messages)
        self.sent_bytes += sum(len(message["value"]) for message in messages)
        while left := producer.flush(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or is_lasting(self._trouble):
                break
        if left:
            # Nobody knows of any of them: all are sent again.
            return classify_failures((), len(messages), self._trouble)
        failures = self._gather(messages, queued)
        if failures:
            return classify_failures(failures, len(messages), self._trouble)
        return Delivered()

    def _gather(self, messages: list[dict[str, Any]], queued: int) -> Sequence[Failure]:
        """Return what failed, in the order of the messages."""
        found: list[Failure] = []
        if queued < len(messages):
            found = [
                Failure(index, message["_error"])
                for index, message in enumerate(messages)
                if "_error" in message
            ]
        if self._failures:
            # A value holds its record's id: no other message has the same.
            places = {message["value"]: index for index, message in enumerate(messages)}
            found += [Failure(places[value], error) for value, error in self._failures]
        return sorted(found, key=lambda failure: failure.index)

    def _ready(self) -> "Producer":
        if self._producer is None:
            from confluent_kafka import Producer

            self._check_addresses()
            self._producer = Producer(self._configuration(), logger=_silent())
        return self._producer

    def _check_addresses(self) -> None:
        """Refuse link-local addresses, as for any backend.

        The client makes its connections itself: this is asked of the brokers to begin with.

        Raises:
            ConnectError: one of the names leads to such an address, or to none.
        """
        for server in self._servers():
            host, _, port = server.rpartition(":")
            url = Url("kafka", host.strip("[]"), int(port), "")
            addresses(url, allow_link_local=self._settings.allow_link_local)

    def _servers(self) -> list[str]:
        url = self._settings.url
        assert url is not None  # noqa: S101 - told to the type checker; __init__ made sure of it
        host = f"[{url.host}]" if ":" in url.host else url.host
        return [f"{host}:{url.port}", *self._settings.options["brokers"]]

    def _configuration(self) -> dict[str, object]:
        settings = self._settings
        gzip = settings.compression == "gzip"
        return {
            "bootstrap.servers": ",".join(self._servers()),
            "client.id": "sidetail",
            "enable.idempotence": True,
            "message.timeout.ms": max(1000, int(self._message_seconds * 1000)),
            "message.max.bytes": _MAX_MESSAGE_BYTES,
            "queue.buffering.max.messages": 0,
            # Only failures are reported one by one: an empty queue says that all others are there.
            "delivery.report.only.error": True,
            "on_delivery": self._on_delivery,
            "error_cb": self._on_error,
            # A batch is complete before its first message goes; `flush` does not wait for this.
            "linger.ms": 1000,
            "batch.num.messages": 100_000,
            "compression.type": "gzip" if gzip else "none",
            **({"compression.level": max(1, settings.compression_level)} if gzip else {}),
            **self._security(),
        }

    def _security(self) -> dict[str, object]:
        settings, credentials = self._settings, self._credentials
        tls = settings.url is not None and settings.url.tls
        username = credentials.text("username")
        found: dict[str, object] = {
            "security.protocol": ("SASL_" if username else "") + ("SSL" if tls else "PLAINTEXT")
        }
        if username:
            found["sasl.mechanism"] = settings.options["sasl_mechanism"]
            found["sasl.username"] = username
            found["sasl.password"] = credentials.text("password") or ""
        if tls:
            found["enable.ssl.certificate.verification"] = not settings.insecure
            files = (
                ("ssl.ca.location", "ca.crt"),
                ("ssl.certificate.location", "tls.crt"),
                ("ssl.key.location", "tls.key"),
            )
            found |= {key: path for key, name in files if (path := credentials.path(name))}
        return found

    def _on_delivery(self, error: "KafkaError | None", message: "Message") -> None:
        if error is not None:
            self._failures.append((message.value() or b"", error))

    def _on_error(self, error: "KafkaError") -> None:
        # What lasts is not forgotten for the next broker's refusal.
        if not is_lasting(self._trouble):
            self._trouble = error


def _messages(batch: Batch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for part in batch.parts:
        key = part.records.facts.file.encode("ascii")
        values = bytes(part.body).split(b"\n")
        del values[-1]
        messages += [{"value": value, "key": key} for value in values]
    return messages


def _silent() -> logging.Logger:
    """Return a logger that says nothing: what concerns us comes as an error of its own."""
    logger = logging.getLogger("sidecar.backends.kafka.client")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger
