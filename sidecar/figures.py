"""What one backend has done so far; one lock, so that one look is one moment."""

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the batch latency histogram, in seconds."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures at one moment: `lines_read = acknowledged + in flight + dropped`."""

    lines_read: int
    lines_acknowledged: int
    lines_in_flight: int
    lines_dropped: dict[str, int]
    bytes_read: int
    """Of files, as read."""
    bytes_delivered: int
    """Of files, whose lines were acknowledged."""
    bytes_sent: int
    """Of request bodies, after compression."""
    batches_delivered: int
    retries: dict[str, int]
    truncated_lines: int
    latency_counts: tuple[int, ...]
    """Batches by latency: one for each bound, and one above."""
    latency_seconds: float
    failing: bool


@dataclass(slots=True)
class Figures:
    """Counters of one backend."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: int = 0
    _acknowledged: int = 0
    _in_flight: int = 0
    _bytes_read: int = 0
    _bytes_delivered: int = 0
    _bytes_sent: int = 0
    _batches: int = 0
    _truncated: int = 0
    _failing: bool = False
    _latency_seconds: float = 0.0
    _dropped: Counter[str] = field(default_factory=Counter)
    _retries: Counter[str] = field(default_factory=Counter)
    _latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))

    def took(self, lines: int, size: int, dropped: dict[str, int], truncated: int) -> None:
        """Note lines taken into a batch, and others that a filter left out."""
        with self._lock:
            self._read += lines
            self._in_flight += lines
            self._bytes_read += size
            self._truncated += truncated
            if dropped:
                self._read += sum(dropped.values())
                self._dropped.update(dropped)

    def delivered(self, lines: int) -> None:
        """Note lines that the backend acknowledged."""
        with self._lock:
            self._in_flight -= lines
            self._acknowledged += lines
            self._failing = False

    def dropped(self, lines: int, reason: str) -> None:
        """Note lines in flight that no backend will have."""
        with self._lock:
            self._in_flight -= lines
            self._dropped[reason] += lines

    def given_back(self, lines: int) -> None:
        """Note lines in flight that will be read again, because a worker ended without them."""
        with self._lock:
            self._in_flight -= lines
            self._read -= lines

    def settled(self, size: int, seconds: float) -> None:
        """Note a whole batch that is settled: bytes of files, seconds since it was made."""
        with self._lock:
            self._bytes_delivered += size
            self._batches += 1
            self._latency_seconds += seconds
            self._latency[bisect_left(LATENCY_BOUNDS, seconds)] += 1

    def failed(self, reason: str) -> None:
        """Note an attempt that came to nothing."""
        with self._lock:
            self._retries[reason] += 1
            self._failing = True

    def sent(self, size: int) -> None:
        """Note the bytes of bodies that went out."""
        with self._lock:
            self._bytes_sent += size

    def snapshot(self) -> Snapshot:
        """Return all figures of this moment."""
        with self._lock:
            return Snapshot(
                lines_read=self._read,
                lines_acknowledged=self._acknowledged,
                lines_in_flight=self._in_flight,
                lines_dropped=dict(self._dropped),
                bytes_read=self._bytes_read,
                bytes_delivered=self._bytes_delivered,
                bytes_sent=self._bytes_sent,
                batches_delivered=self._batches,
                retries=dict(self._retries),
                truncated_lines=self._truncated,
                latency_counts=tuple(self._latency),
                latency_seconds=self._latency_seconds,
                failing=self._failing,
            )
