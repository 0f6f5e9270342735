"""Brings a batch to the partitions of a topic, as an idempotent producer, acknowledged by all.

The records of one partition go out as record batches, one after the other: the next one only when
the one before is stored or refused for good, so that a file's lines keep their order whatever a
broker refuses. The partitions go at the same time.

A broker tells what comes again from what is new by producer id, partition and sequence number.
What may have been stored is therefore sent again under the very numbers that it had, or, if that
cannot be, by a new producer.

Source: the Kafka protocol guide; KIP-98, "Idempotent Producer Guarantees".
"""

import contextlib
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from kafka.partitioner import murmur2
from kafka.protocol.producer import (
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProduceRequest,
    ProduceResponse,
)

from sidecar.backends.answers import Answer, Delivered, Hold, Partly, Refused, Retry
from sidecar.backends.connection import ConnectError, ExchangeError
from sidecar.backends.kafka_answers import (
    NOT_STORED,
    OUT_OF_STEP,
    REFUSED,
    STORED,
    TOO_LARGE,
    BrokerError,
    classify_error,
    classify_trouble,
)
from sidecar.backends.kafka_cluster import Cluster
from sidecar.backends.kafka_connection import BrokerConnection, check, error_name, framed
from sidecar.backends.kafka_records import Page, Stamp, room_for
from sidecar.batch import Batch, Part

if TYPE_CHECKING:
    from sidecar.url import Url

_USUAL_BYTES: Final = 1024 * 1024
"""Of a record batch: brokers take twelve bytes more by default."""
_PRODUCE_VERSIONS: Final = (3, 8)
"""From the one on that has record batches, up to the last one without compact arrays."""
_ALL_IN_SYNC: Final = -1
_MANY_REFUSALS: Final = 20
"""Records refused alone in one attempt, after which it is the broker that is asked too much."""
_SEQUENCES: Final = 2**31
_NUMBERS: Final = struct.Struct(">ii")
"""Of a record batch in a request: its partition, and its bytes."""
_NUMBER: Final = struct.Struct(">i")

Identity = tuple[tuple[str, int, int], ...]
"""Which records: file, offset of the first one and how many, part by part."""


class Sequences:
    """The numbers that one producer id has used, partition by partition."""

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self._next: dict[int, int] = defaultdict(int)
        self._unsure: dict[int, Identity] = {}
        """What was sent under the next number, and may be stored."""

    def use(self, partition: int, identity: Identity) -> int | None:
        """Return the number for what is about to be sent.

        None: other records were sent under it. A broker that has those would take these for
        them, and throw them away.
        """
        if self._unsure.setdefault(partition, identity) != identity:
            return None
        return self._next[partition]

    def stored(self, partition: int, count: int) -> None:
        """Take note that what was sent is there."""
        self._next[partition] = (self._next[partition] + count) % _SEQUENCES
        del self._unsure[partition]

    def not_stored(self, partition: int) -> None:
        """Take note that what was sent is not there and will not be."""
        del self._unsure[partition]


@dataclass(frozen=True, slots=True)
class _Cut:
    """A record batch, as it was cut from what goes to one partition."""

    spans: Sequence[range]
    """Where its records stand in the whole batch."""
    count: int
    bytes: int
    """Before compression."""
    identity: Identity
    end: tuple[int, int, int]
    """Where the next one begins: part, record in it, byte in it."""

    def index(self, place: int) -> int:
        """Return where one of its records stands in the whole batch."""
        return next(islice(chain(*self.spans), place, None))


@dataclass(slots=True, eq=False)
class _Run:
    """What goes to one partition."""

    partition: int
    parts: list[tuple[Part, bytes, range]] = field(default_factory=list)
    """Each with the key of its records, and where they stand in the whole batch."""
    failure: Answer | None = None
    """Why the rest was not settled: Retry, Hold or Refused."""
    rejected: list[tuple[int, str]] = field(default_factory=list)
    at: tuple[int, int, int] = (0, 0, 0)
    """What is not settled yet begins here: part, record in it, byte in it."""

    @property
    def is_going(self) -> bool:
        """Whether there is something to be sent that nothing speaks against."""
        return self.failure is None and self.at[0] < len(self.parts)

    @property
    def room(self) -> int:
        """Bytes that it takes at most."""
        return sum(room_for(part.body, part.records.count, key) for part, key, _ in self.parts)

    @property
    def time(self) -> int:
        """When the records that come next were read: milliseconds since the epoch."""
        part, _, _ = self.parts[self.at[0]]
        return part.records.read_at // 1_000_000

    def cut(self, page: Page, limit: int) -> _Cut:
        """Write the records that come next, up to `limit` bytes, and leave the batch open."""
        place, record, byte = self.at
        spans: list[range] = []
        identity: list[tuple[str, int, int]] = []
        page.begin()
        for part, key, span in self.parts[place:]:
            before = page.count
            byte = page.add(part.body, byte, key, limit)
            added = page.count - before
            if added:
                spans.append(span[record : record + added])
                identity.append((part.records.facts.file, part.records.offset(record), added))
            if byte < len(part.body):
                record += added
                break
            place, record, byte = place + 1, 0, 0
        end = place, record, byte
        return _Cut(spans, page.count, page.batch_bytes, tuple(identity), end)

    def left(self) -> list[int]:
        """Return where what is not settled stands in the whole batch."""
        place, record, _ = self.at
        rejected = {index for index, _ in self.rejected}
        ahead = chain.from_iterable(span for _, _, span in self.parts[place:])
        return [index for index in islice(ahead, record, None) if index not in rejected]

    def reject(self, cut: _Cut, places: Iterable[int], reason: str) -> None:
        """Take note of records that will never be taken."""
        self.rejected += [(cut.index(place), reason) for place in places]


@dataclass(slots=True, eq=False)
class _Request:
    """Record batches on their way to one broker."""

    broker: BrokerConnection
    version: int
    cuts: dict[int, tuple[_Run, _Cut]] = field(default_factory=dict)
    """By partition."""


class Producer:
    """Sends batches to one topic; belongs to one thread."""

    def __init__(self, cluster: Cluster, topic: str, gzip_level: int | None) -> None:
        self._cluster = cluster
        self._topic = topic
        self._gzip_level = gzip_level
        self._page = Page()
        self._sequences: Sequences | None = None
        self._limit = _USUAL_BYTES
        """Bytes of a record batch, less where a broker has refused one for its size."""

    @property
    def sent_bytes(self) -> int:
        """Bytes that went to brokers, ever."""
        return self._cluster.sent_bytes

    def produce(self, batch: Batch, deadline: float) -> Answer:
        """Send a batch; every record that is not settled in time is for another attempt.

        Raises:
            BrokerError, ConnectError, ExchangeError: nothing was sent.
        """
        leaders = self._cluster.leaders(deadline)
        sequences = self._known(deadline)
        runs = _runs(batch, len(leaders))
        while going := [run for run in runs if run.is_going]:
            self._send_next(going, leaders, sequences, deadline)
        if any(run.failure is not None for run in runs):
            self._cluster.forget()
        return _answer(runs, batch.count)

    def close(self) -> None:
        """Close all connections; what is known of earlier attempts stays."""
        self._cluster.close()

    def _known(self, deadline: float) -> Sequences:
        """Return the numbers of a producer that the brokers know."""
        if self._sequences is None:
            broker = self._cluster.any_broker(deadline)
            request = InitProducerIdRequest(
                version=broker.version(InitProducerIdRequest, 0, 1),
                transactional_id=None,
                transaction_timeout_ms=60_000,  # of no meaning without transactions
            )
            code, producer_id, epoch = broker.ask(
                request,
                InitProducerIdResponse,
                deadline,
                lambda said: (said.error_code, said.producer_id, said.producer_epoch),
            )
            check(code)
            self._sequences = Sequences(producer_id, epoch)
        return self._sequences

    def _send_next(
        self,
        runs: Sequence[_Run],
        leaders: Sequence[int],
        sequences: Sequences,
        deadline: float,
    ) -> None:
        """Send the next record batch of each run, and settle what is answered."""
        by_address: dict[Url | None, list[_Run]] = defaultdict(list)
        for run in runs:
            by_address[self._cluster.address(leaders[run.partition])].append(run)
        requests = []
        for url, some in by_address.items():
            with _failing(some):
                if url is None:
                    raise BrokerError("LEADER_NOT_AVAILABLE")
                broker = self._cluster.broker(url, deadline)
                requests.append(self._send(broker, some, sequences, deadline))
        for request in requests:
            with _failing([run for run, _ in request.cuts.values()]):
                self._settle(request, sequences, deadline)

    def _send(
        self,
        broker: BrokerConnection,
        runs: Sequence[_Run],
        sequences: Sequences,
        deadline: float,
    ) -> _Request:
        request = _Request(broker, broker.version(ProduceRequest, *_PRODUCE_VERSIONS))
        left = max(0.0, deadline - time.monotonic())
        # The broker's own time-out comes first, so that its word is heard.
        head = _empty_request(self._topic, request.version, 1 + int(0.9 * left))
        page = self._page
        page.clear(len(head) + sum(run.room for run in runs))
        page.write(head)
        for run in runs:
            begin = page.size
            page.write(bytes(_NUMBERS.size))
            cut = run.cut(page, self._limit)
            sequence = sequences.use(run.partition, cut.identity)
            if sequence is None:
                self._sequences = None
                run.failure = Retry("kafka_new_producer")
                page.cut_back(begin)
                continue
            request.cuts[run.partition] = run, cut
            stamp = Stamp(sequences.producer_id, sequences.epoch, sequence, run.time)
            page.end(stamp, self._gzip_level)
            page.put(begin, _NUMBERS.pack(run.partition, page.batch_bytes))
        if request.cuts:
            page.put(0, _NUMBER.pack(page.size - _NUMBER.size))
            page.put(len(head) - _NUMBER.size, _NUMBER.pack(len(request.cuts)))
            with page.view() as content:
                broker.send(content, deadline)
        return request

    def _settle(self, request: _Request, sequences: Sequences, deadline: float) -> None:
        """Read the answer and take note of what became of each record batch."""
        if not request.cuts:
            return
        said = request.broker.response(
            ProduceResponse, request.version, deadline, lambda response: _read(response, request)
        )
        for partition, (run, cut) in request.cuts.items():
            name, blamed = said[partition]
            if name in STORED:
                sequences.stored(partition, cut.count)
                run.at = cut.end
            elif name in NOT_STORED:
                sequences.not_stored(partition)
                self._refused(run, cut, name, blamed)
            else:
                if name in OUT_OF_STEP:
                    self._sequences = None
                run.failure = classify_error(name)

    def _refused(self, run: _Run, cut: _Cut, name: str, blamed: Sequence[int]) -> None:
        """A record batch was refused for good: find out whose fault it is."""
        if name in TOO_LARGE and cut.count > 1:
            # The limit stays above half of what the broker takes: what is larger goes alone.
            self._limit = min(self._limit, cut.bytes // 2)
        elif name in TOO_LARGE | REFUSED and cut.count == 1:
            run.reject(cut, [0], "too_large" if name in TOO_LARGE else "rejected")
            run.at = cut.end
            if len(run.rejected) >= _MANY_REFUSALS:
                run.failure = classify_error(name)
        elif name in REFUSED:
            places = sorted({place for place in blamed if 0 <= place < cut.count})
            run.reject(cut, places, "rejected")
            run.failure = classify_error(name) if places else Refused("rejected")
        else:
            run.failure = classify_error(name)


def _read(response: Any, request: _Request) -> dict[int, tuple[str, list[int]]]:
    """Return for each partition of a request an error's name, and the records that it blames."""
    rows = {row.index: row for topic in response.responses for row in topic.partition_responses}
    return {
        partition: (
            error_name(rows[partition].error_code),
            [blamed.batch_index for blamed in rows[partition].record_errors],
        )
        for partition in request.cuts
    }


@lru_cache(maxsize=64)
def _empty_request(topic: str, version: int, timeout_seconds: int) -> bytes:
    """Return a framed request that has no record batch yet.

    It begins with its length and ends with the number of record batches.
    """
    topics = [ProduceRequest.TopicProduceData(name=topic, partition_data=[])]
    request = ProduceRequest(
        version=version,
        transactional_id=None,
        acks=_ALL_IN_SYNC,
        timeout_ms=1000 * timeout_seconds,
        topic_data=topics,
    )
    return bytes(framed(request))


def _runs(batch: Batch, partitions: int) -> list[_Run]:
    """Return what goes to each partition; a file is the key of its records."""
    runs: dict[int, _Run] = {}
    for first, part in batch.indexed():
        key = part.records.facts.file.encode("ascii")
        partition = partition_of(key, partitions)
        run = runs.get(partition)
        if run is None:
            run = runs[partition] = _Run(partition)
        run.parts.append((part, key, range(first, first + part.records.count)))
    return list(runs.values())


@lru_cache(maxsize=1024)
def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a key among `count`, as Kafka's own producer chooses it."""
    return int(murmur2(key) & 0x7FFFFFFF) % count


@contextlib.contextmanager
def _failing(runs: Iterable[_Run]) -> Iterator[None]:
    """Give trouble with a broker to what goes there, and to nothing else."""
    try:
        yield
    except (BrokerError, ConnectError, ExchangeError) as error:
        for run in runs:
            run.failure = run.failure or classify_trouble(error)


def _answer(runs: Sequence[_Run], count: int) -> Answer:
    """Say what became of a batch of `count` records."""
    left = sorted(index for run in runs for index in run.left())
    rejected = sorted(pair for run in runs for pair in run.rejected)
    if not left and not rejected:
        return Delivered()
    if rejected or len(left) < count:
        return Partly(retry=tuple(left), rejected=tuple(rejected))
    failures = [run.failure for run in runs if run.failure is not None]
    return min(failures, key=_urgency)


def _urgency(failure: Answer) -> int:
    """Return the place of an answer where several partitions say different things of a batch.

    Refused halves what was sent, so it must be true of all of it.
    """
    return {Hold: 0, Retry: 1}.get(type(failure), 2)
