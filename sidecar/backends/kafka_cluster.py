"""The brokers of a cluster: which one leads which partition of a topic, and connections to them."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kafka.protocol.metadata import MetadataRequest, MetadataResponse

from sidecar.backends.connection import ConnectError, ExchangeError
from sidecar.backends.kafka_answers import BrokerError
from sidecar.backends.kafka_connection import BrokerConnection, check
from sidecar.url import Url

NOBODY = -1
"""The leader of a partition that has none."""
_METADATA_SECONDS = 300.0
"""After which leaders and partitions are asked for again; brokers say so earlier by an error."""
_METADATA_VERSIONS = (4, 8)
"""From the one on that may create the topic, where the cluster allows that."""
_CREATION_SECONDS = 5.0
"""For a topic to appear that the question itself has created."""
_LOOK_SECONDS = 0.1
_NOT_YET = frozenset({"UNKNOWN_TOPIC_OR_PARTITION", "LEADER_NOT_AVAILABLE"})


class Cluster:
    """The brokers, as they are known; belongs to one thread."""

    def __init__(
        self, servers: Sequence[Url], topic: str, connect: Callable[[Url], BrokerConnection]
    ) -> None:
        """Connect nothing yet.

        Args:
            servers: to begin with.
            topic: the one that is of interest.
            connect: makes a connection to a broker, not yet open.
        """
        self._servers = servers
        self._topic = topic
        self._connect = connect
        self._connections: dict[Url, BrokerConnection] = {}
        self._closed_sent_bytes = 0
        self._brokers: dict[int, Url] = {}
        self._leaders: Sequence[int] = ()
        self._asked_at = 0.0

    @property
    def sent_bytes(self) -> int:
        """Bytes that went to brokers, ever."""
        open_ones = sum(one.sent_bytes for one in self._connections.values())
        return self._closed_sent_bytes + open_ones

    def leaders(self, deadline: float) -> Sequence[int]:
        """Return the leader of each partition, or NOBODY; a partition is its place.

        Raises:
            BrokerError: there is no such topic, or we may not see it.
            ConnectError: no broker can be reached.
            ExchangeError: no broker gives an answer.
        """
        if not self._leaders or time.monotonic() - self._asked_at > _METADATA_SECONDS:
            now = time.monotonic()
            give_up_at = now + min(_CREATION_SECONDS, (deadline - now) / 2)
            while True:
                try:
                    self._ask(deadline)
                    break
                except BrokerError as error:
                    if error.name not in _NOT_YET or time.monotonic() >= give_up_at:
                        raise
                time.sleep(_LOOK_SECONDS)
        return self._leaders

    def address(self, node: int) -> Url | None:
        """Return where a broker listens; None for NOBODY, and where nobody knows."""
        return self._brokers.get(node)

    def broker(self, url: Url, deadline: float) -> BrokerConnection:
        """Return an open connection to a broker.

        Raises:
            BrokerError, ConnectError, ExchangeError: there is none to be had.
        """
        connection = self._connections.get(url)
        if connection is None:
            connection = self._connections[url] = self._connect(url)
        try:
            connection.open(deadline)
        except (BrokerError, ConnectError, ExchangeError):
            self._drop(url)
            raise
        return connection

    def any_broker(self, deadline: float) -> BrokerConnection:
        """Return an open connection to whichever broker can be reached.

        Raises:
            BrokerError, ConnectError, ExchangeError: none can; what the last one said.
        """
        failure: BrokerError | ConnectError | ExchangeError = ConnectError("dns", "no broker")
        for url in self._candidates():
            try:
                return self.broker(url, deadline)
            except (BrokerError, ConnectError, ExchangeError) as error:
                failure = error
        raise failure

    def forget(self) -> None:
        """Ask for leaders and partitions again before the next use."""
        self._leaders = ()

    def close(self) -> None:
        """Close all connections; they come again when they are needed."""
        for url in list(self._connections):
            self._drop(url)
        self.forget()

    def _ask(self, deadline: float) -> None:
        broker = self.any_broker(deadline)
        request = MetadataRequest(
            version=broker.version(MetadataRequest, *_METADATA_VERSIONS),
            topics=[MetadataRequest.MetadataRequestTopic(name=self._topic)],
            allow_auto_topic_creation=True,
        )
        self._brokers, code, leaders = broker.ask(request, MetadataResponse, deadline, self._read)
        for url in self._connections.keys() - {*self._brokers.values(), *self._servers}:
            self._drop(url)
        check(code)
        if not leaders:
            raise BrokerError("LEADER_NOT_AVAILABLE")
        self._leaders = leaders
        self._asked_at = time.monotonic()

    def _read(self, response: Any) -> tuple[dict[int, Url], int, list[int]]:
        """Return the brokers, an error's code, and the leaders of the topic's partitions."""
        scheme = self._servers[0].scheme
        brokers = {
            row.node_id: Url(scheme, row.host, row.port, "")
            for row in response.brokers
            if row.host.isprintable() and 0 < row.port < 65536
        }
        (topic,) = response.topics
        found = {row.partition_index: row.leader_id for row in topic.partitions or ()}
        leaders = [found.get(partition, NOBODY) for partition in range(len(found))]
        return brokers, topic.error_code, leaders

    def _candidates(self) -> Iterator[Url]:
        """Yield what may be tried, once each: open connections, known brokers, the first ones."""
        known = (*self._connections, *self._brokers.values(), *self._servers)
        yield from dict.fromkeys(known)

    def _drop(self, url: Url) -> None:
        connection = self._connections.pop(url)
        self._closed_sent_bytes += connection.sent_bytes
        with contextlib.suppress(OSError):
            connection.close()
