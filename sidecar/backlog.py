"""One backend's view of the files: what is ready, in fair turn, and what is settled.

Every method may be called from several threads of that backend. A file that has lines in flight
is *taken*: no other worker gets anything of it until `settle` or `give_back`.
"""

import errno
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator

from sidecar.block import Block
from sidecar.follow import Changed, Found, Lines, Nothing, Unfinished, count_lines, read_lines
from sidecar.identity import digest
from sidecar.journal import offset_entry
from sidecar.known import KnownFiles
from sidecar.settings import Limits
from sidecar.source_file import Cursor, Look, Reading, SourceFile, Status, Turn, stamp_of

RETRY_SECONDS = 1.0
"""Until a file that cannot be opened or read is tried again."""
USED_UP_SECONDS = 0.1
"""The same, if it was for want of a descriptor, or on stop."""
LAST_FAILURES = 3
"""So often a file is tried again on stop."""
SECOND_LOOK_SECONDS = 0.05
"""Between the two looks at an unterminated line on stop: a write can be seen half."""
MIN_WINDOW_BYTES = 128 * 1024
"""Read at least for a record that did not end in a block."""


class Backlog:
    """What one backend has still to be sent."""

    def __init__(
        self,
        *,
        known: KnownFiles,
        index: int,
        entry_number: int,
        limits: Limits,
        listen: Callable[[], None],
    ) -> None:
        self._known = known
        self._turns = known.readers[index].turns
        self._lock = known.lock
        self._index = index
        self._entry_number = entry_number
        self._limits = limits
        self._listen = listen
        self._last = False
        self._wakes = 0
        self._line_bytes = 100.0
        """Mean length of a line, for the estimate of `lines_left`."""

    def take(self, max_bytes: int) -> Block | None:
        """Return the next block, in fair turn between files; None if nothing is ready.

        The file is the caller's until `settle` or `give_back`. A block is at most `max_bytes`
        long, but for a longer line or open record, which is a block of its own.
        """
        with self._lock:
            left = self._turns.length() + 1
        while left > 0:
            left -= 1
            with self._lock:
                cursor = self._turns.next(self._known.clock())
            if cursor is None:
                return None
            block = self._look(cursor, max_bytes)
            if block is not None:
                return block
            with self._lock:
                self._free(cursor)
        return None

    def more(self, block: Block, max_bytes: int) -> Block | None:
        """Return the block that follows what was used of `block`'s file, None if there is none."""
        look = _look_of(block)
        if look.generation != look.cursor.file.generation:
            return None
        reading = look.cursor.reading
        if reading is not None and reading.stamp and reading.stamp == look.cursor.file.stamp:
            return None
        return self._look(look.cursor, max_bytes)

    def use(self, block: Block, upto: int, lines: int) -> None:
        """Note that the lines before offset `upto` of the file are in the caller's batch.

        The rest of the block is read again. `upto == block.start` of a block without `flush`
        holds the record that is open: the file has its turn again when it grew, or when the
        record's time is over, or with a larger block if this one was full.
        """
        look = _look_of(block)
        with self._lock:
            reading = look.cursor.reading
            if reading is None or look.generation != look.cursor.file.generation:
                return  # the file has other content now; what the batch has is still right
            if upto > block.start:
                self._consume(reading, look, upto)
                self._line_bytes += 0.1 * ((upto - block.start) / max(1, lines) - self._line_bytes)
            elif not block.flush:
                self._hold(look.cursor, reading, look)

    def settle(self, blocks: Iterable[Block]) -> None:
        """Note that all that was used of the blocks' files is settled, and free the files.

        The journal has it before any of those files can be taken again.
        """
        looks = _last_looks(blocks)
        entries: list[bytes] = []
        with self._lock:
            for look in looks:
                entries += self._settled(look)
        if entries:
            self._known.append(entries)
        with self._lock:
            for look in looks:
                self._free(look.cursor)

    def give_back(self, blocks: Iterable[Block]) -> None:
        """Free the blocks' files; what was used of them will be read again."""
        with self._lock:
            for look in _last_looks(blocks):
                if look.generation == look.cursor.file.generation:
                    look.cursor.reading = None
                self._free(look.cursor)

    def put_off(self, block: Block, seconds: float | None) -> None:
        """Look at a file again after so long only, though it grows; None: never again.

        It was given back: nobody has it in hand.
        """
        look = _look_of(block)
        cursor = look.cursor
        with self._lock:
            if cursor.turn == Turn.TAKEN or look.generation != cursor.file.generation:
                return
            reading = cursor.reading = Reading(cursor)
            reading.put_off_until = math.inf if seconds is None else self._known.clock() + seconds

    def wait(self, seconds: float | None) -> bool:
        """Wait until something is ready, or `wake`, at most `seconds`; return `ready()`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            wakes = self._wakes
            while not self._turns.is_ready(self._known.clock()) and wakes == self._wakes:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    break
                due = self._turns.due_in(self._known.clock())
                pauses = [pause for pause in (left, due) if pause is not None]
                self._turns.listeners += 1
                self._listen()
                self._turns.changed.wait(min(pauses, default=None))
                self._turns.listeners -= 1
            return self._turns.is_ready(self._known.clock())

    def wake(self) -> None:
        """End every wait of this backend's workers now."""
        with self._lock:
            self._wakes += 1
            self._turns.changed.notify_all()

    def ready(self) -> bool:
        """Return whether `take` may find something now."""
        with self._lock:
            return self._turns.is_ready(self._known.clock())

    def queued(self) -> int:
        """Return about how many files wait for their turn; cheap."""
        return self._turns.length()

    def due_in(self) -> float | None:
        """Return the seconds until a partial line or an open record is sent; None without any."""
        with self._lock:
            return self._turns.due_in(self._known.clock())

    def last(self) -> None:
        """Send unterminated lines and open records from now on, after a second look at each.

        What is written from now on is left alone, so that there is an end.
        """
        with self._lock:
            self._last = True
            for cursor in self._cursors():
                cursor.file.final = cursor.file.size
                if cursor.turn in {Turn.IDLE, Turn.WAITING} and cursor.unsettled() > 0:
                    self._turns.queue(cursor)
            self._wakes += 1
            self._turns.changed.notify_all()

    def drained(self) -> bool:
        """Return whether everything is settled that stood in the files when last looked at."""
        with self._lock:
            now = self._known.clock()
            return not (
                self._turns.taken
                or self._turns.is_ready(now)
                or self._turns.due_in(now) is not None
            )

    def backlog_bytes(self) -> int:
        """Return the bytes that are not settled, in all files; cheap."""
        return self._turns.unsettled

    def oldest_unsettled_at(self) -> float | None:
        """Return about when the oldest byte that is not settled was first seen (monotonic)."""
        if self._turns.unsettled == 0:
            return None
        with self._lock:
            return min((each.since for each in self._cursors() if each.unsettled()), default=None)

    def lines_left(self, seconds: float = 1.0) -> int:
        """Count the lines that are not settled, reading the files for at most `seconds`.

        An unterminated line counts. What time does not suffice for is estimated.
        """
        with self._lock:
            owed = [cursor for cursor in self._cursors() if cursor.unsettled() > 0]
        deadline = time.monotonic() + seconds
        return sum(self._lines_left_of(cursor, deadline) for cursor in owed)

    # A look at a file.

    def _look(self, cursor: Cursor, max_bytes: int) -> Block | None:
        """Read what stands at a cursor that this worker has taken."""
        file = cursor.file
        with self._lock:
            seen, generation = file.stamp, file.generation
            if cursor.reading is None:
                cursor.reading = Reading(cursor)
            reading = cursor.reading
            if reading.put_off_until and self._is_put_off(reading):
                return None
            if self._last and file.final is not None and reading.place.position >= file.final:
                reading.stamp, reading.due = file.stamp, 0.0
                return None
        try:
            descriptor = self._known.hold(file)
        except OSError as error:
            self._cannot_open(reading, error)
            return None
        try:
            status = os.fstat(descriptor)
            found = self._read(file, reading, descriptor, status, max_bytes)
            with self._lock:
                if file.generation != generation or file.status == Status.GONE:
                    return None
                self._known.note_look(file, status, seen)
                return self._found(cursor, reading, found, descriptor, status)
        except OSError:
            self._try_again(reading, RETRY_SECONDS)
            return None
        finally:
            self._known.release(file)

    def _read(
        self,
        file: SourceFile,
        reading: Reading,
        descriptor: int,
        status: os.stat_result,
        max_bytes: int,
    ) -> Found:
        if not self._known.is_unchanged(file, descriptor, status):
            return Changed()
        stamp = stamp_of(status)
        if reading.stamp != stamp:
            reading.place.forget_probe()
        now = self._known.clock()
        grown_at = now if status.st_size != file.size else file.grown_at
        return read_lines(
            descriptor,
            reading.place,
            size=status.st_size,
            want=reading.window or max_bytes,
            max_line=self._limits.max_line_bytes,
            tail=self._is_over(reading, grown_at + self._tail_seconds(file), now),
        )

    def _found(
        self,
        cursor: Cursor,
        reading: Reading,
        found: Found,
        descriptor: int,
        status: os.stat_result,
    ) -> Block | None:
        """Act on what was read; the lock is held."""
        file = cursor.file
        now = reading.looked_at = self._known.clock()
        reading.due, reading.failures = 0.0, 0
        self._turns.unsettled += reading.room
        reading.room = 0
        match found:
            case Lines():
                return self._block(cursor, reading, found, descriptor, status)
            case Changed():
                self._known.replace(file, status)
            case Unfinished():
                reading.stamp = 0
            case Nothing():
                reading.stamp = stamp_of(status)
                self._turns.unsettled -= found.room
                reading.room = found.room
            case _:
                reading.stamp = stamp_of(status)
                reading.due = self._due(reading, file.grown_at + self._tail_seconds(file), now)
        return None

    def _block(
        self,
        cursor: Cursor,
        reading: Reading,
        lines: Lines,
        descriptor: int,
        status: os.stat_result,
    ) -> Block:
        file = cursor.file
        facts = self._known.facts_of(file, descriptor, lines)
        over = reading.held and self._is_over(
            reading, file.grown_at + self._hold_seconds(file), reading.looked_at
        )
        return Block(
            facts=facts,
            start=lines.start,
            data=lines.data,
            end=lines.end,
            read_at=time.time_ns(),
            truncated=lines.truncated,
            flush=over or lines.truncated > 0 or reading.window >= self._limits.max_line_bytes,
            context=Look(cursor, file.generation, lines, stamp_of(status)),
        )

    def _consume(self, reading: Reading, look: Look, upto: int) -> None:
        lines = look.lines
        self._known.hole_bytes += max(0, lines.start - reading.place.position)
        reading.place.go_to(upto, lines.anchor_at(upto))
        reading.held, reading.window, reading.second_at = False, 0, 0.0
        at_end = lines.at_end and upto == look.cursor.file.size
        reading.stamp = look.stamp if at_end else 0

    def _hold(self, cursor: Cursor, reading: Reading, look: Look) -> None:
        lines = look.lines
        reading.held = True
        reading.held_bytes = len(lines.data)
        if lines.at_end:
            reading.stamp = look.stamp
            due = cursor.file.grown_at + self._hold_seconds(cursor.file)
            reading.due = self._due(reading, due, reading.looked_at)
        else:
            reading.stamp = 0
            wider = max(2 * len(lines.data), 2 * reading.window, MIN_WINDOW_BYTES)
            reading.window = min(wider, self._limits.max_line_bytes)

    def _settled(self, look: Look) -> Iterator[bytes]:
        """Settle what was used of a file; yield its entry. The lock is held."""
        cursor = look.cursor
        file, reading = cursor.file, cursor.reading
        if reading is None or look.generation != file.generation:
            return
        if self._advance(cursor, reading) and file.status != Status.GONE:
            yield offset_entry(
                file.key, file.generation, self._entry_number, cursor.settled, cursor.anchor
            )

    def _advance(self, cursor: Cursor, reading: Reading) -> bool:
        """Settle everything before the place of reading; return whether that is more."""
        position = reading.place.position
        if position == cursor.settled:
            return False
        before = cursor.unsettled()
        self._age(cursor, position)
        cursor.settled = position
        cursor.anchor = reading.place.anchor = digest(reading.place.anchor)
        if cursor.file.status != Status.GONE:
            self._turns.unsettled += cursor.unsettled() - before
        return True

    def _age(self, cursor: Cursor, position: int) -> None:
        """Estimate when the byte at `position` was first seen, as if the file grew evenly."""
        file = cursor.file
        if position >= file.size:
            cursor.since = 0.0
        elif file.grown_at > cursor.since:
            part = (position - cursor.settled) / (file.size - cursor.settled)
            cursor.since += part * (file.grown_at - cursor.since)

    def _free(self, cursor: Cursor) -> None:
        """Give a taken file its next turn; the lock is held."""
        if cursor.turn != Turn.TAKEN:
            return
        self._turns.taken -= 1
        cursor.turn = Turn.IDLE
        file, reading = cursor.file, cursor.reading
        if file.status == Status.GONE:
            cursor.reading = None
        elif reading is None:
            self._turns.queue(cursor)
        else:
            self._advance(cursor, reading)
            self._next_turn(cursor, reading)
        self._turns.unblock(cursor)

    def _next_turn(self, cursor: Cursor, reading: Reading) -> None:
        """Queue a file of which there is more, or let it wait; forget what it needs no more."""
        if reading.stamp == cursor.file.stamp or reading.failures:
            if reading.due:
                self._turns.wait_for(cursor, reading.due)
                return
        else:
            self._turns.queue(cursor)
        if reading.is_idle():
            cursor.reading = None

    def _cannot_open(self, reading: Reading, error: OSError) -> None:
        """Try again later: it may be found elsewhere, or be readable then."""
        used_up = error.errno in {errno.EMFILE, errno.ENFILE}
        self._try_again(reading, USED_UP_SECONDS if used_up else RETRY_SECONDS)

    def _try_again(self, reading: Reading, seconds: float) -> None:
        reading.failures += 1
        reading.stamp = 0
        given_up = self._last and reading.failures > LAST_FAILURES
        pause = USED_UP_SECONDS if self._last else seconds
        reading.due = 0.0 if given_up else self._known.clock() + pause

    def _is_over(self, reading: Reading, due: float, now: float) -> bool:
        """Return whether the time of something unfinished is over."""
        return now >= due or (self._last and 0 < reading.second_at <= now)

    def _due(self, reading: Reading, due: float, now: float) -> float:
        """Return when something unfinished has its turn again."""
        if not self._last:
            return due
        if reading.second_at == 0:
            reading.second_at = now + SECOND_LOOK_SECONDS
        return min(due, reading.second_at)

    def _is_put_off(self, reading: Reading) -> bool:
        """Return whether a file that was put off has still to wait; the lock is held."""
        if self._known.clock() < reading.put_off_until:
            reading.failures += 1
            reading.due = 0.0 if reading.put_off_until == math.inf else reading.put_off_until
            return True
        reading.put_off_until, reading.failures = 0.0, 0
        return False

    def _tail_seconds(self, file: SourceFile) -> float:
        """Return how long an unterminated line of a file waits for its end."""
        seconds = self._limits.partial_seconds
        if file.status == Status.DELETED:
            return min(seconds, self._limits.rotated_seconds / 3)
        return seconds

    def _hold_seconds(self, file: SourceFile) -> float:
        """Return how long an open record of a file waits: of lines, or of CRI's partial lines."""
        if file.source.multiline == "none":
            return self._limits.partial_seconds
        return self._limits.multiline_seconds

    def _cursors(self) -> Iterator[Cursor]:
        """Yield this backend's cursors; the lock is held."""
        for file in self._known.files.values():
            cursor = file.cursors[self._index]
            if cursor is not None:
                yield cursor

    def _lines_left_of(self, cursor: Cursor, deadline: float) -> int:
        file = cursor.file
        end = file.size if file.final is None else min(file.size, file.final)
        start = cursor.settled
        if start >= end:
            return 0
        try:
            descriptor = self._known.hold(file)
        except OSError:
            return self._estimate(end - start)
        try:
            lines, reached = count_lines(
                descriptor, start, end, lambda: time.monotonic() < deadline
            )
        except OSError:
            return self._estimate(end - start)
        finally:
            self._known.release(file)
        return lines + (self._estimate(end - reached) if reached < end else 0)

    def _estimate(self, size: int) -> int:
        return max(1, round(size / max(1.0, self._line_bytes)))


def _look_of(block: Block) -> Look:
    look = block.context
    if not isinstance(look, Look):
        raise TypeError("this block is not of a backlog")
    return look


def _last_looks(blocks: Iterable[Block]) -> list[Look]:
    """Return the last look at each file."""
    looks = {}
    for block in blocks:
        look = _look_of(block)
        looks[id(look.cursor)] = look
    return list(looks.values())
