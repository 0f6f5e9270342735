"""The table of contents: a line's way from its file to one backend's acknowledgement.

Every backend has a `Shipper` of its own, with its own offsets: a slow one holds up nobody.

    1 discovery   which files there are                                   sidecar.discovery
    2 open        without following a link, and which content it is       sidecar.open, .identity
    3 follow      a file's new bytes as blocks of whole lines             sidecar.follow
    4 transform   a block's lines as records: joined, filtered, parsed    sidecar.transform
    5 batch       records of several files that travel together           sidecar.batch
    6 backends    the wire form, and what an answer means                 sidecar.backends
    7 deliver     attempts and back-off until every record is settled     sidecar.deliver
    8 checkpoint  how far each file is settled, so that a restart goes on sidecar.checkpoint

Nothing waits in memory but the batches in flight: the file is the queue.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runtime.workers import Worker
from sidecar.batch import Batch
from sidecar.block import MAX_BLOCK_BYTES, Block
from sidecar.deliver import Delivery, Way
from sidecar.encode import Body
from sidecar.figures import Snapshot
from sidecar.files import Backlog
from sidecar.settings import Limits, Source
from sidecar.transform.compile import compile_transform
from sidecar.transform.records import Records

_log = logging.getLogger(__name__)

BLOCK_BYTES = 64 * 1024
"""Read of a file in one turn at least, however many others wait for theirs."""
_MIN_BLOCK_BYTES = 4 * 1024
_FITTING = 0.98
_FULL = 0.94
"""Parts of `batch_bytes`: what one block is to fill, and what is full enough to go out."""
_DRAIN_LOOK_SECONDS = 0.1
FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 60.0
"""Before a worker takes the place of one that ended by a fault of ours: doubled up to here."""
MAX_CRASHES_UNTIL_EOF = 3
MAX_FAILURES = 1000
"""Files of which it is remembered that workers failed at them."""


@dataclass(slots=True, eq=False)
class Hand:
    """What one worker has in hand."""

    blocks: list[Block] = field(default_factory=list)
    """Taken, and not settled."""
    lines: int = 0
    """Of those blocks, that are in a batch."""
    at: Block | None = None
    """The one whose records are being made: if that fails, the worker fails at it."""


class Shipper:
    """Carries lines to one backend, with up to `in_flight` workers."""

    def __init__(self, way: Way, backlog: Backlog, limits: Limits) -> None:
        self.name = way.name
        self.backlog = backlog
        self._way = way
        self._limits = limits
        self._transforms: dict[Source, Callable[[Block], Records]] = {}
        self._expansion = 4.0
        """Encoded bytes for a byte of a file, lately."""
        self._collecting = threading.Lock()
        """Held by the worker whose turn it is to wait for lines and take them."""
        self._filling = threading.Lock()
        """Held while lines are taken."""
        self._starting = threading.Lock()
        self._running = 0
        """Workers at work: never more than `in_flight`, not even while one is just starting."""
        self._workers: list[Worker] = []
        self._given_up = False
        self._crashes = 0
        """Faults of ours in a row."""
        self._failures: Counter[str] = Counter()
        """File → how often a worker failed at making its records."""

    def start(self) -> bool:
        """Start the first worker; the others come when there is work for them.

        Returns False if no thread is to be had: then nobody works, and it may be tried again.
        """
        return self._start_worker()

    def snapshot(self) -> Snapshot:
        """Return this backend's figures of one moment."""
        return self._way.figures.snapshot()

    def wake(self) -> None:
        """A stop was asked: let waiting workers see it."""
        self._way.gate.wake()

    def join(self, seconds: float) -> bool:
        """Wait for all workers to end; return whether they have."""
        deadline = time.monotonic() + seconds
        workers: list[Worker] = []
        while workers is not self._workers:  # one that ends may have started another
            workers = self._workers
            if not all(worker.join(deadline - time.monotonic()) for worker in workers):
                return False
        return True

    def _work(self, hand: Hand) -> None:
        """The body of one worker."""
        try:
            self._carry_all(hand)
        finally:
            with self._starting:
                self._running -= 1

    def _carry_all(self, hand: Hand) -> None:
        """Carry batch after batch until there will be no other."""
        sender = self._way.backend.sender()
        body = Body(self._limits.batch_bytes)
        delivery = Delivery(self._way, sender)
        try:
            while self._carry(delivery, body, hand):
                self._crashes = 0
        finally:
            # Given up, or a fault of ours: the files are free again, nothing of them is settled.
            self._way.figures.given_back(hand.lines - delivery.settled_lines)
            self.backlog.give_back(hand.blocks)
            if hand.at is not None:
                self._put_off(hand.at)
            sender.close()

    def _carry(self, delivery: Delivery, body: Body, hand: Hand) -> bool:
        """Bring one batch from its files to the backend; False when there will be no other.

        Args:
            delivery: steps 6 and 7.
            body: an empty buffer; it is empty again afterwards.
            hand: empty; it holds what is taken until it is settled.
        """
        batch = self._collect(body, hand)
        if not hand.blocks:
            return False
        started_at = time.monotonic()
        delivered = delivery.run(batch, lambda: self._others(hand)) if batch.count else True
        batch.release()
        body.clear()
        if not delivered:
            self._given_up = True
            return False
        self.backlog.settle(hand.blocks)
        hand.blocks.clear()
        hand.lines = delivery.settled_lines = 0
        if batch.count:
            self._way.figures.settled(batch.file_bytes, time.monotonic() - started_at)
        return True

    def _put_off(self, block: Block) -> None:
        """Leave a file alone at which a worker failed, longer each time: others go on."""
        file = block.facts.file
        self._failures[file] += 1
        times = self._failures[file]
        over = self._way.ending.draining and times >= MAX_CRASHES_UNTIL_EOF
        self.backlog.put_off(block, None if over else pause_after(times))
        if len(self._failures) > MAX_FAILURES:
            self._failures.clear()

    def _crashed(self, hand: Hand) -> None:
        """A fault of ours ended a worker: another one takes its place, later each time."""
        at_a_file = hand.at is not None
        if not at_a_file:
            self._crashes += 1
        if self._way.ending.until_eof and self._crashes >= MAX_CRASHES_UNTIL_EOF:
            self._given_up = True  # such a run has to end
            return
        if at_a_file and self._start_worker():
            return  # that file is put off, and the others need not wait
        pause = MAX_PAUSE_SECONDS if at_a_file else pause_after(self._crashes)
        while not self._way.ending.stop.wait(pause):
            if self._start_worker():
                return
            pause = MAX_PAUSE_SECONDS

    def _collect(self, body: Body, hand: Hand) -> Batch:
        """Wait for lines and return a batch of them, encoded in `body`.

        No blocks afterwards mean that the worker is to end: everything is sent, or given up.
        """
        with self._collecting:
            while not self._over():
                if self.backlog.ready():
                    self._linger()
                    with self._filling:
                        batch = self._fill(body, hand)
                    if hand.blocks:
                        self._help_if_ready()
                        return batch
                if self._way.ending.draining and self.backlog.drained():
                    break
                self.backlog.wait(_DRAIN_LOOK_SECONDS if self._way.ending.draining else None)
            return Batch()

    def _over(self) -> bool:
        left = self._way.ending.seconds_left()
        return self._given_up or (left is not None and left <= 0)

    def _linger(self) -> None:
        """Wait up to `batch_seconds` for a batch that is worth its request."""
        seconds = self._limits.batch_seconds
        if seconds == 0 or self._way.ending.draining:
            return
        if self.backlog.backlog_bytes() * self._expansion < self._limits.batch_bytes:
            self._way.ending.stop.wait(seconds)

    def _fill(self, body: Body, hand: Hand) -> Batch:
        """Take blocks in fair turn, a block a file a turn, until the batch is full."""
        spans: list[tuple[Block, Records, int]] = []
        again: list[Block] = []
        limit = self._limits.batch_bytes
        while body.size < limit * _FULL:
            want = self._want(limit - body.size)
            block = self.backlog.take(want)
            if block is None:
                block = next(self._more(again, want), None)
            if block is None:
                break
            hand.blocks.append(block)
            hand.at = block
            records = self._transform(block)
            before = body.size
            count = self._way.backend.append(body, records, limit) if records.count else 0
            hand.at = None
            full = count < records.count
            if full and count == 0:
                break  # not even one record fits: the block is read again for the next batch
            if full:
                records = records.slice(0, count)
            hand.lines += self._use(block, records)
            spans.append((block, records, body.size - before))
            if full:
                break
            if records.end > block.start:
                again.append(block)
        return self._sealed(spans, body)

    def _more(self, again: list[Block], want: int) -> Iterator[Block]:
        """Yield the next block of a file that is in the batch already, each in its turn."""
        while again:
            block = self.backlog.more(again.pop(0), want)
            if block is not None:
                yield block

    def _use(self, block: Block, records: Records) -> int:
        """Note what is in the batch; return how many lines that are."""
        taken = records.taken(records.count)
        self.backlog.use(block, taken.end, taken.lines)
        size = taken.end - block.start
        truncated = int(block.truncated > 0 and size > 0)
        self._way.figures.took(taken.lines, size, dict(taken.dropped), truncated)
        return taken.lines

    def _sealed(self, spans: list[tuple[Block, Records, int]], body: Body) -> Batch:
        """Return the batch whose parts' encoded pieces lie one after the other in `body`."""
        batch = Batch()
        whole = body.view()
        begin = 0
        for block, records, size in spans:
            if records.count:
                batch.add(block, records, whole[begin : begin + size])
            begin += size
        whole.release()
        if batch.file_bytes:
            expansion = batch.encoded_bytes / batch.file_bytes
            self._expansion = max(1.0, 0.5 * (self._expansion + expansion))
        return batch

    def _others(self, hand: Hand) -> Batch | None:
        """Return other lines than the ones in flight, of other files where there are any."""
        with self._filling:
            last = hand.blocks[-1]
            block = self.backlog.take(BLOCK_BYTES) or self.backlog.more(last, BLOCK_BYTES)
            if block is None:
                return None
            hand.blocks.append(block)
            hand.at = block
            records = self._transform(block)
            hand.at = None
            hand.lines += self._use(block, records)
        batch = Batch()
        if records.count:
            batch.add(block, records, self._way.backend.encode(records))
        return batch if batch.count else None

    def _transform(self, block: Block) -> Records:
        source = block.facts.source
        transform = self._transforms.get(source)
        if transform is None:
            transform = self._transforms[source] = compile_transform(source, self._limits)
        return transform(block)

    def _want(self, room: int) -> int:
        """Return how much of a file to read: its share of the room, with those that wait."""
        fitting = min(MAX_BLOCK_BYTES, int(_FITTING * room / self._expansion))
        share = max(BLOCK_BYTES, fitting // max(1, self.backlog.queued()))
        return max(_MIN_BLOCK_BYTES, min(fitting, share))

    def _help_if_ready(self) -> None:
        """Start one more worker if there is work for it now."""
        if self._running < self._limits.in_flight and self.backlog.ready():
            self._start_worker()

    def _start_worker(self) -> bool:
        """Start one more worker; return False if nobody works because no thread is to be had."""
        with self._starting:
            if self._running >= self._limits.in_flight:
                return True
            self._running += 1
            hand = Hand()
            worker = Worker(
                f"{self.name}-{self._running}",
                lambda: self._work(hand),
                on_crash=lambda _: self._crashed(hand),
            )
            alive = [each for each in self._workers if each.alive]
            try:
                self._workers = [*alive, worker.start()]
            except RuntimeError:  # the pod has as many processes and threads as it may
                self._running -= 1
                self._say_no_thread()
            return self._running > 0

    def _say_no_thread(self) -> None:
        if self._way.seldom.due("threads", self.name):
            _log.warning(
                "a thread cannot be started; the others do its work, and it is tried again",
                extra={"fields": {"backend": self.name}},
            )


def pause_after(crashes: int) -> float:
    """Return the seconds until a worker takes the place of one that crashed.

    Args:
        crashes: faults in a row, at least 1.
    """
    return min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(crashes - 1, 10))
