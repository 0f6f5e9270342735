"""One backend's queue of files: which are ready to be looked at, which wait and until when.

The lock of `sidecar.known.KnownFiles` is held in every call.
"""

import heapq
import threading
from collections import deque

from sidecar.source_file import Cursor, Status, Turn

HELD_BYTES_PER_SECOND = 8 * 1024 * 1024
"""An open record that grows line by line is read again at most at this pace."""


class Turns:
    """The files of one backend in fair turn: first come, first served, then to the end again."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.unsettled = 0
        """Bytes that are not settled, in all files."""
        self.taken = 0
        """Files that are in the hands of workers."""
        self.listeners = 0
        """Workers that wait for something new."""
        self.queued = 0
        """How often a file was queued."""
        self._ready: deque[Cursor] = deque()
        self._timers: list[tuple[float, int, Cursor]] = []
        self._count = 0
        self._blocked: dict[Cursor, list[Cursor]] = {}

    def make_ready(self, cursor: Cursor, now: float) -> None:
        """Queue a file that has changed, or whose time has come; one that is taken is not."""
        if cursor.turn == Turn.WAITING:
            reading = cursor.reading
            if reading is not None and reading.held:
                pause_ends = reading.looked_at + reading.held_bytes / HELD_BYTES_PER_SECOND
                if now < min(pause_ends, reading.due):
                    self.wait_for(cursor, pause_ends)
                    return
        elif cursor.turn != Turn.IDLE:
            return
        self.queue(cursor)

    def queue(self, cursor: Cursor) -> None:
        """Queue a file, whatever its turn was."""
        cursor.turn = Turn.READY
        self.queued += 1
        self._ready.append(cursor)
        self.changed.notify()

    def wait_for(self, cursor: Cursor, due: float) -> None:
        """Let a file wait until it changes, at most until `due` (monotonic)."""
        if cursor.reading is not None:
            cursor.reading.due = due
        cursor.turn = Turn.WAITING
        self._count += 1
        heapq.heappush(self._timers, (due, self._count, cursor))

    def next(self, now: float) -> Cursor | None:
        """Take the next file out of the queue; None if none is ready."""
        self._queue_due(now)
        while self._ready:
            cursor = self._ready.popleft()
            if cursor.turn != Turn.READY or cursor.file.status == Status.GONE:
                continue
            if self._may_pass(cursor, now):
                cursor.turn = Turn.TAKEN
                self.taken += 1
                return cursor
        return None

    def _may_pass(self, cursor: Cursor, now: float) -> bool:
        """Return whether a file need not wait for another; else it is blocked until `unblock`."""
        wait = cursor.after
        if wait is None or wait.is_over(now):
            cursor.after = None
            return True
        cursor.turn = Turn.BLOCKED
        self._blocked.setdefault(wait.cursor, []).append(cursor)
        return False

    def unblock(self, other: Cursor) -> None:
        """Queue the files that waited for another which has had its turn, or is gone."""
        for cursor in self._blocked.pop(other, ()):
            if cursor.turn == Turn.BLOCKED:
                self.queue(cursor)

    def is_ready(self, now: float) -> bool:
        """Return whether `next` would find a file."""
        self._queue_due(now)
        while self._ready:
            cursor = self._ready[0]
            if cursor.turn != Turn.READY or cursor.file.status == Status.GONE:
                self._ready.popleft()
            elif self._may_pass(cursor, now):
                return True
            else:
                self._ready.popleft()
        return False

    def length(self) -> int:
        """Return how many files are queued, those that left meanwhile included."""
        return len(self._ready)

    def due_in(self, now: float) -> float | None:
        """Return the seconds until a file's time is over; None if none waits."""
        while self._timers and not _is_valid(*self._timers[0]):
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - now) if self._timers else None

    def _queue_due(self, now: float) -> None:
        while self._timers and (self._timers[0][0] <= now or not _is_valid(*self._timers[0])):
            timer = heapq.heappop(self._timers)
            if _is_valid(*timer):
                self.queue(timer[2])


def _is_valid(due: float, _: int, cursor: Cursor) -> bool:
    """Return whether a timer still holds: a file that had its turn meanwhile has another."""
    reading = cursor.reading
    return cursor.turn == Turn.WAITING and reading is not None and reading.due == due
