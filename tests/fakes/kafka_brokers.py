"""A Kafka cluster that takes record batches by the letter, keeps what it takes, and lies if told.

Of brokers it has what a producer can see: leaders, sequence numbers (the last five record batches
of a producer are told from new ones), size limits, SASL by PLAIN. Source: the protocol guide;
KIP-98.
"""

import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataResponse,
)
from kafka.protocol.producer import (
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
)
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)
from kafka.record import MemoryRecords

from tests.fakes.stream import StreamServer, reset

NOT_LEADER, TOO_LARGE, OUT_OF_ORDER, INVALID_RECORD = 6, 10, 45, 87
UNKNOWN_TOPIC, UNSUPPORTED_SASL, SASL_FAILED = 3, 33, 58

Reply = (
    int | Literal["lose", "store-and-hang-up", "store-and-say-nothing", "garbage", "flood", "empty"]
)
"""An error's code (0: store it), or something that ends the connection."""


@dataclass(frozen=True, slots=True)
class Message:
    """One record that was stored."""

    partition: int
    key: bytes
    value: bytes
    time: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A record batch, as it was offered."""

    node: int
    partition: int
    producer_id: int
    sequence: int
    size: int
    """Bytes, as it was sent."""
    messages: tuple[Message, ...]
    compressed: bool

    @property
    def texts(self) -> list[bytes]:
        """The values."""
        return [message.value for message in self.messages]


def _store(offer: Offer) -> Reply:
    return 0


@dataclass
class Brokers:
    """The cluster, with one topic."""

    nodes: int = 1
    partitions: int = 3
    topic: str = "sidetail"
    topic_error: int = 0
    max_batch_bytes: int = 1_048_588
    reply: Callable[[Offer], Reply] = _store
    blame: Sequence[int] = ()
    """Places that are named with INVALID_RECORD."""
    users: dict[str, str] | None = None
    mechanisms: tuple[str, ...] = ("PLAIN",)
    produce_versions: tuple[int, int] = (3, 12)
    tls: ssl.SSLContext | None = None
    named_host: str = "127.0.0.1"
    one_address: bool = False
    """All nodes are reached at the first one's address, as behind some proxies."""
    leaders: dict[int, int] = field(default_factory=dict)
    """Partition → node, or -1 for nobody."""
    offers: list[Offer] = field(default_factory=list)
    stored: list[Message] = field(default_factory=list)
    duplicates: int = 0
    """Record batches that were known."""
    producers: int = 0
    """Producer ids that were given out."""
    asked_metadata: int = 0
    violations: list[str] = field(default_factory=list)
    _known: dict[tuple[int, int], deque[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=5))
    )
    """(partition, producer) → (first, last) sequence numbers of what was stored."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self.leaders = {each: each % self.nodes for each in range(self.partitions)} | self.leaders
        self.servers = [self._server(node) for node in range(self.nodes)]
        return self

    def __exit__(self, *unused: object) -> None:
        for server in self.servers:
            server.close()

    @property
    def url(self) -> str:
        """Where the first broker listens."""
        scheme = "kafka" if self.tls is None else "tls"
        return f"{scheme}://127.0.0.1:{self.servers[0].port}"

    @property
    def texts(self) -> list[bytes]:
        """The values that are stored."""
        return [message.value for message in self.stored]

    def in_partition(self, partition: int) -> list[bytes]:
        """Return the values of one partition, in their order."""
        return [message.value for message in self.stored if message.partition == partition]

    def _server(self, node: int) -> StreamServer:
        return StreamServer(lambda connection: self._serve(node, connection), tls=self.tls)

    def _serve(self, node: int, connection: socket.socket) -> None:
        let_in = self.users is None
        while True:
            head = _exactly(connection, 4)
            frame = _exactly(connection, int.from_bytes(head, "big"))
            api, version = struct.unpack(">hh", frame[:4])
            request_class, respond = self._apis[api]
            if not let_in and api not in (17, 18, 36):
                self.violations.append(f"api {api} before the login")
                return
            request = request_class.decode(frame, version=version, header=True)
            with self._lock:
                response = respond(self, node, request)
            if isinstance(response, str):
                if response == "garbage":
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                elif response == "flood":
                    connection.sendall(b"\x7f\xff\xff\xff" + bytes(1 << 16))
                elif response == "store-and-say-nothing":
                    continue
                else:
                    reset(connection)
                    return
            else:
                let_in = let_in or (api == 36 and response.error_code == 0)
                response.API_VERSION = version
                response.with_header(correlation_id=request.header.correlation_id)
                connection.sendall(response.encode(header=True, framed=True))

    def _versions(self, node: int, request: Any) -> Any:
        ranges = {0: self.produce_versions, 3: (0, 12), 17: (0, 1), 18: (0, 3), 22: (0, 4)}
        ranges[36] = (0, 1)
        rows = [
            ApiVersionsResponse.ApiVersion(api_key=key, min_version=low, max_version=high)
            for key, (low, high) in ranges.items()
        ]
        return ApiVersionsResponse(error_code=0, api_keys=rows)

    def _handshake(self, node: int, request: Any) -> Any:
        known = request.mechanism in self.mechanisms
        return SaslHandshakeResponse(
            error_code=0 if known else UNSUPPORTED_SASL, mechanisms=list(self.mechanisms)
        )

    def _login(self, node: int, request: Any) -> Any:
        _, username, password = bytes(request.auth_bytes).decode().split("\0")
        right = self.users is not None and self.users.get(username) == password
        return SaslAuthenticateResponse(
            error_code=0 if right else SASL_FAILED, error_message=None, auth_bytes=b""
        )

    def _metadata(self, node: int, request: Any) -> Any:
        self.asked_metadata += 1
        topic = MetadataResponse.MetadataResponseTopic
        names = [row.name for row in request.topics]
        if names != [self.topic] or not request.allow_auto_topic_creation:
            self.violations.append(f"metadata of {names}")
        rows = [
            topic.MetadataResponsePartition(
                error_code=0 if leader >= 0 else 5,
                partition_index=partition,
                leader_id=leader,
                replica_nodes=[leader],
                isr_nodes=[leader],
                offline_replicas=[],
            )
            for partition, leader in sorted(self.leaders.items())
        ]
        return MetadataResponse(
            throttle_time_ms=0,
            brokers=[
                MetadataResponse.MetadataResponseBroker(
                    node_id=each,
                    host=self.named_host,
                    port=self.servers[0].port if self.one_address else server.port,
                    rack=None,
                )
                for each, server in enumerate(self.servers)
            ],
            cluster_id="fake",
            controller_id=0,
            topics=[
                topic(
                    error_code=self.topic_error,
                    name=self.topic,
                    is_internal=False,
                    partitions=[] if self.topic_error else rows,
                )
            ],
        )

    def _new_producer(self, node: int, request: Any) -> Any:
        if request.transactional_id is not None:
            self.violations.append("a transaction")
        self.producers += 1
        return InitProducerIdResponse(
            throttle_time_ms=0, error_code=0, producer_id=1000 + self.producers, producer_epoch=0
        )

    def _produce(self, node: int, request: Any) -> Any:
        if request.acks != -1 or request.timeout_ms <= 0 or request.transactional_id is not None:
            self.violations.append(f"acks {request.acks}, {request.timeout_ms} ms")
        (topic,) = request.topic_data
        rows = []
        for data in topic.partition_data:
            offer = self._offer(node, data.index, bytes(data.records))
            self.offers.append(offer)
            reply = self._reply(offer)
            if reply == "empty":
                return ProduceResponse(responses=[], throttle_time_ms=0)
            if isinstance(reply, str):
                if reply.startswith("store"):
                    self._keep(offer)
                return reply
            code = self._keep(offer) if reply == 0 else reply
            rows.append(self._row(offer, code))
        response = ProduceResponse.TopicProduceResponse
        return ProduceResponse(
            responses=[response(name=topic.name, partition_responses=rows)], throttle_time_ms=0
        )

    def _row(self, offer: Offer, code: int) -> Any:
        row = ProduceResponse.TopicProduceResponse.PartitionProduceResponse
        named = self.blame if code == INVALID_RECORD else ()
        return row(
            index=offer.partition,
            error_code=code,
            base_offset=0,
            log_append_time_ms=-1,
            log_start_offset=0,
            record_errors=[
                row.BatchIndexAndErrorMessage(batch_index=place, batch_index_error_message="no")
                for place in named
            ],
            error_message=None,
        )

    def _reply(self, offer: Offer) -> Reply:
        if self.leaders.get(offer.partition) != offer.node and not self.one_address:
            return NOT_LEADER
        return TOO_LARGE if offer.size > self.max_batch_bytes else self.reply(offer)

    def _keep(self, offer: Offer) -> int:
        """Store what is new; return the error's code."""
        known = self._known[offer.partition, offer.producer_id]
        first, last = offer.sequence, (offer.sequence + len(offer.messages) - 1) % 2**31
        if (first, last) in known:
            self.duplicates += 1
            return 0
        if known and first != (known[-1][1] + 1) % 2**31:
            return OUT_OF_ORDER
        known.append((first, last))
        self.stored.extend(offer.messages)
        return 0

    def _offer(self, node: int, partition: int, content: bytes) -> Offer:
        batches = MemoryRecords(content)
        batch = batches.next_batch()
        if batch is None or batches.has_next() or batch.magic != 2:
            self.violations.append("not exactly one record batch of format 2")
        if not batch.validate_crc():
            self.violations.append("a wrong checksum")
        records = list(batch)
        if [record.offset for record in records] != list(range(batch.records_count)):
            self.violations.append("offsets that do not count")
        if any(record.headers for record in records) or batch.is_transactional:
            self.violations.append("headers, or a transaction")
        messages = tuple(
            Message(partition, bytes(record.key), bytes(record.value), record.timestamp)
            for record in records
        )
        return Offer(
            node, partition, batch.producer_id, batch.base_sequence, len(content), messages,
            batch.compression_type != 0,
        )  # fmt: skip

    _apis = {
        0: (ProduceRequest, _produce),
        3: (MetadataRequest, _metadata),
        17: (SaslHandshakeRequest, _handshake),
        18: (ApiVersionsRequest, _versions),
        22: (InitProducerIdRequest, _new_producer),
        36: (SaslAuthenticateRequest, _login),
    }
    """By the protocol's numbers."""


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionResetError
        received += piece
    return received
