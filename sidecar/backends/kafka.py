"""`kafka`: each record a message of a topic, acknowledged by all in-sync replicas.

The producer is idempotent, so that what it sends again is not stored twice; all records of a file
have one key, so that they lie in one partition in their order. The client (kafka-python) is an
optional extra: without it the backend holds and says so.
"""

import re
import time
from typing import TYPE_CHECKING

from runtime.settings import Key, ValueProblem, parse_choice
from sidecar.backends.answers import Answer, Backend, Hold, Sender
from sidecar.backends.connection import ConnectError, ExchangeError
from sidecar.backends.credentials import Credentials, CredentialsError, tls_contexts
from sidecar.backends.kafka_answers import BrokerError, classify_trouble
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.encode import Body
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings
from sidecar.transform.records import Records
from sidecar.url import Url, parse_url

if TYPE_CHECKING:
    from sidecar.backends.kafka_connection import BrokerConnection
    from sidecar.backends.kafka_producer import Producer

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

    def append(self, body: Body, records: Records, limit: int) -> int:
        """Encode as many leading records as keep `body` within `limit`; return how many.

        What Kafka adds to each record counts too: a batch of one file is then one record batch.
        """
        return super().append(body, records, limit * 9 // 10)

    def sender(self) -> Sender:
        """Return a producer of its own, so that what is on its way is one batch."""
        return _Sender(self._settings)


class _Sender:
    def __init__(self, settings: BackendSettings) -> None:
        if settings.url is None:
            raise ValueError(f"backend {settings.name}: got no url, expected one")
        self.sent_bytes = 0
        self._settings = settings
        self._servers = (settings.url, *settings.options["brokers"])
        self._credentials = Credentials(settings.credentials_dir)
        self._producer: Producer | None = None

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Send the batch to the leaders of its partitions, and wait until they have it."""
        deadline = time.monotonic() + seconds
        try:
            if self._credentials.refresh():
                self.close()  # rotated credentials want new connections
            answer = self._opened().produce(batch, deadline)
        except ImportError:
            return Hold("kafka_client_not_installed")
        except CredentialsError as error:
            return Hold(error.reason)
        except (BrokerError, ConnectError, ExchangeError) as error:
            answer = classify_trouble(error)
        if isinstance(answer, Hold):
            self.close()  # who was not let in asks again from the beginning
            self._credentials.forget()
        if self._producer is not None:
            self.sent_bytes = self._producer.sent_bytes
        return answer

    def close(self) -> None:
        """Close all connections."""
        if self._producer is not None:
            self._producer.close()

    def _opened(self) -> "Producer":
        if self._producer is None:
            from sidecar.backends.kafka_cluster import Cluster  # these want the optional extra
            from sidecar.backends.kafka_producer import Producer

            settings = self._settings
            topic = settings.options["topic"]
            level = settings.compression_level if settings.compression == "gzip" else None
            self._producer = Producer(
                Cluster(self._servers, topic, self._connection), topic, gzip_level=level
            )
        return self._producer

    def _connection(self, url: Url) -> "BrokerConnection":
        from sidecar.backends.kafka_connection import BrokerConnection, Login

        settings, credentials = self._settings, self._credentials
        username = credentials.text("username")
        login = None
        if username:
            login = Login(
                settings.options["sasl_mechanism"], username, credentials.text("password") or ""
            )
        contexts = None
        if self._servers[0].tls:
            contexts = tls_contexts(credentials, insecure=settings.insecure)
        return BrokerConnection(url, contexts, login, allow_link_local=settings.allow_link_local)
