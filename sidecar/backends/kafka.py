"""`kafka`: each record a message of a topic, acknowledged by the broker's delivery report.

The producer is idempotent, so that what the client itself sends again is not stored twice; all
records of a file have one key, so that they lie in one partition in their order. The client
(librdkafka) is an optional extra: without it the backend holds and says so.
"""

import re
import time
from typing import Any

from runtime.settings import Key, ValueProblem, parse_choice
from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry, Sender
from sidecar.backends.connection import ConnectError, addresses
from sidecar.backends.credentials import Credentials, CredentialsError
from sidecar.backends.kafka_client import Client, NoBrokerError
from sidecar.backends.kafka_reports import classify_failures, classify_trouble
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings
from sidecar.url import Url, parse_url

SCHEMES = ("kafka", "tls")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


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


def parse_brokers(value: object) -> tuple[Url, ...]:
    """Return further brokers to begin with, each written `host:port`.

    Raises:
        ValueProblem: it is no list of such.
    """
    expected = "a list of host:port"
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueProblem(expected)
    brokers = tuple(parse_url(f"kafka://{item}") for item in value)
    if any(broker.path for broker in brokers):
        raise ValueProblem(expected)
    return brokers


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
    del settings
    return KafkaBackend(backend)


class KafkaBackend(TemplateEncoder):
    """A Kafka cluster."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(ndjson_template)
        self._settings = settings

    def sender(self) -> Sender:
        """Return a producer of its own, so that what it has outstanding is one batch."""
        return _Sender(self._settings)


class _Sender:
    def __init__(self, settings: BackendSettings) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._settings = settings
        self._servers = (settings.url, *settings.options["brokers"])
        self._credentials = Credentials(settings.credentials_dir)
        self._client: Client | None = None

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Produce the batch and wait for the reports of all its messages."""
        deadline = time.monotonic() + seconds
        try:
            if self._credentials.refresh():
                self.close()  # rotated credentials want a new client
            answer = self._produce(self._open(deadline), batch, deadline)
        except ImportError:
            return Hold("confluent_kafka_not_installed")
        except CredentialsError as error:
            return Hold(error.reason)
        except ConnectError as error:
            return Retry(error.reason)
        except NoBrokerError as error:
            answer = classify_trouble(error.trouble)
        if not isinstance(answer, Delivered):
            # It may be stuck, or still have what was given up: a new one begins clean.
            self.close()
            self._credentials.forget()
        return answer

    def close(self) -> None:
        """Give up what is outstanding, and let go of the client."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _produce(self, client: Client, batch: Batch, deadline: float) -> Answer:
        messages = _messages(batch)
        report = client.produce(messages, deadline)
        self.sent_bytes += batch.encoded_bytes
        if not report.done:
            return classify_trouble(report.trouble)
        if not report.failures:
            return Delivered()
        return classify_failures(report.failures, len(messages), report.trouble, client.limit)

    def _open(self, deadline: float) -> Client:
        if self._client is None:
            settings = self._settings
            for server in self._servers:
                # The client connects by itself: this much can be asked beforehand.
                addresses(server, allow_link_local=settings.allow_link_local)
            level = max(1, settings.compression_level)
            gzip = {"compression.type": "gzip", "compression.level": level}
            self._client = Client(
                {"bootstrap.servers": ",".join(map(_address, self._servers)), **self._security()},
                settings.options["topic"],
                deadline=deadline,
                compression=gzip if settings.compression == "gzip" else {},
            )
        return self._client

    def _security(self) -> dict[str, object]:
        settings, credentials = self._settings, self._credentials
        tls = self._servers[0].tls
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


def _address(url: Url) -> str:
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


def _messages(batch: Batch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for part in batch.parts:
        key = part.records.facts.file.encode("ascii")
        values = bytes(part.body).split(b"\n")
        del values[-1]
        messages += [{"value": value, "key": key} for value in values]
    return messages
