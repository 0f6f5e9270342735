"""The verdict: what became of every line that was written, computed from the lines themselves.

In: the lines a test wrote, each `<run>-<stream>-<seq> <crc> <microseconds> <filler>`, and the
records that a backend stored. Out: which are missing, there twice, corrupt, invented, out of
order, late, and whether ids and offsets keep their promises.
"""

import random
import re
import string
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_FILLER = "".join(random.Random(4).choices(string.ascii_letters + string.digits + " ", k=1 << 16))
_LINE = re.compile(r"(?P<run>\w+)-(?P<stream>\w+)-(?P<seq>\d+) (?P<crc>[0-9a-f]{8}) (?P<rest>.*)")


class Stream:
    """The lines of one application: numbered, checked by a sum, dated by the monotonic clock."""

    def __init__(self, run: str, name: str) -> None:
        self.run = run
        self.name = name
        self.count = 0
        """Lines made so far; the next one has this number."""
        self.excused: set[int] = set()
        """Lines that a test destroyed before anybody could have read them."""
        self._lock = threading.Lock()

    def line(self, *, size: int = 100) -> bytes:
        """Return the next line with its newline, `size` bytes in all (or a little more)."""
        with self._lock:
            seq, self.count = self.count, self.count + 1
        head = f"{self.run}-{self.name}-{seq}"
        now = f"{time.monotonic_ns() // 1000} "
        wanted = max(1, size - len(head) - len(now) - len(" 12345678 \n"))
        start = seq * 31 % 4096
        filler = _FILLER[start : start + wanted]
        if len(filler) < wanted:
            filler += _FILLER * (wanted // len(_FILLER) + 1)
        # No blank at the end: a line is to be told apart from one that lost its last byte.
        rest = now + filler[: wanted - 1] + "#"
        return f"{head} {_sum(head, rest)} {rest}\n".encode()

    def lines(self, count: int, *, size: int = 100) -> bytes:
        """Return the next `count` lines."""
        return b"".join(self.line(size=size) for _ in range(count))

    def excuse(self, numbers: Iterable[int]) -> None:
        """Let lines be missing: they were destroyed unread."""
        self.excused.update(numbers)


def _sum(head: str, rest: str) -> str:
    return f"{zlib.crc32(f'{head} {rest}'.encode()):08x}"


class Ledger:
    """All streams of one test."""

    def __init__(self, run: str | None = None) -> None:
        self.run = run or "".join(random.Random().choices(string.ascii_lowercase, k=6))
        self.streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """Return the stream of this name (letters, digits and _), made on first use."""
        assert re.fullmatch(r"\w+", name), name
        return self.streams.setdefault(name, Stream(self.run, name))

    @property
    def count(self) -> int:
        """Lines made so far, in all streams."""
        return sum(stream.count for stream in self.streams.values())


@dataclass(slots=True)
class Verdict:
    """What is wrong; everything empty and 0 means exact."""

    missing: dict[str, list[int]] = field(default_factory=dict)
    """Stream → numbers that never arrived."""
    duplicates: int = 0
    """Records beyond the first of their line."""
    corrupt: list[str] = field(default_factory=list)
    """Messages that are no line as it was written."""
    invented: list[str] = field(default_factory=list)
    """Well-formed lines that nobody wrote."""
    disorder: list[str] = field(default_factory=list)
    """`stream: a after b`: lines of one file, first arrivals only."""
    changed_ids: list[str] = field(default_factory=list)
    """Lines that came under two ids: a backend that de-duplicates keeps both."""
    shared_ids: list[str] = field(default_factory=list)
    """Ids that two lines bore: a backend that de-duplicates loses one."""
    wrong_offsets: list[str] = field(default_factory=list)
    """Records whose id does not end in their offset."""
    changed_batches: list[str] = field(default_factory=list)
    """Batch ids that came with other lines."""
    late_seconds: list[float] = field(default_factory=list)
    """From write to arrival, first arrivals only, sorted."""
    records: int = 0

    def assert_at_least_once(self, *, duplicates: int) -> None:
        """Raise unless nothing is wrong but at most so many `duplicates`."""
        faults = {
            name: getattr(self, name)
            for name in (
                "missing",
                "corrupt",
                "invented",
                "disorder",
                "changed_ids",
                "shared_ids",
                "wrong_offsets",
                "changed_batches",
            )
            if getattr(self, name)
        }
        if self.duplicates > duplicates:
            faults["duplicates"] = f"{self.duplicates} (allowed: {duplicates})"
        assert not faults, _shown(faults)

    def assert_exact(self) -> None:
        """Raise unless every line arrived once, whole, in order."""
        self.assert_at_least_once(duplicates=0)

    def late(self, share: float) -> float:
        """Return the lateness in seconds that `share` of the lines stay below (0.99: p99)."""
        if not self.late_seconds:
            return 0.0
        return self.late_seconds[
            min(len(self.late_seconds) - 1, int(len(self.late_seconds) * share))
        ]


def _shown(faults: Mapping[str, Any]) -> str:
    lines = []
    for name, value in faults.items():
        ranges = isinstance(value, dict)
        text = str({key: _ranges(value[key]) for key in value} if ranges else value)
        size = f" ({len(value)})" if hasattr(value, "__len__") else ""
        lines.append(f"{name}{size}: {text[:1500]}")
    return "\n".join(lines)


def _ranges(numbers: list[int]) -> str:
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    text = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in found[:20])
    return text + (f", … ({len(numbers)} in all)" if len(found) > 20 else "")


class Judge:
    """Takes records as they are stored; can be asked at any time; safe from several threads."""

    def __init__(
        self, ledger: Ledger, *, check_ids: bool = True, copies: bool = False, foreign: bool = False
    ) -> None:
        """Judge by `ledger`.

        `check_ids=False` saves memory over millions of lines. `copies`: a line may be in two
        files (copytruncate inside the glob), then it may come once under each id.
        `foreign`: records that are no line of a stream belong to the test and are left aside.
        """
        self._ledger = ledger
        self._check_ids = check_ids
        self._copies = copies
        self._foreign = foreign
        self._lock = threading.Lock()
        self._seen: dict[str, bytearray] = {}
        self._last: dict[tuple[str, str], int] = {}
        self._count: dict[str, int] = {}
        self._ids_of: dict[tuple[str, int], set[str]] = {}
        self._line_of: dict[str, tuple[str, int]] = {}
        self._batches: dict[str, int] = {}
        self._verdict = Verdict()
        self.strangers: list[dict[str, Any]] = []
        """Records left aside with `foreign`."""

    def take(self, request: Any) -> None:
        """Take a stored request of the fake backend."""
        records = request.records
        self.take_batch(request.header("x-sidetail-batch-id"), records)
        self.take_records(records, at=request.at)

    def take_batch(self, batch_id: str | None, records: list[dict[str, Any]]) -> None:
        """Check that a batch id that comes again comes with the same lines.

        Not with the same bytes: a line without a time of its own bears that of its reading.
        """
        if batch_id is None:
            return
        with self._lock:
            lines = "\n".join(f"{record.get('id')} {record['message']}" for record in records)
            digest = zlib.crc32(lines.encode("utf-8", "replace"))
            if self._batches.setdefault(batch_id, digest) != digest:
                self._verdict.changed_batches.append(batch_id)

    def take_records(self, records: Iterable[Mapping[str, Any]], *, at: float = 0.0) -> None:
        """Take records (keys of the design's Record) that arrived at the monotonic time `at`."""
        with self._lock:
            for record in records:
                self._take(record, at)

    def _take(self, record: Mapping[str, Any], at: float) -> None:
        verdict, message = self._verdict, str(record["message"])
        verdict.records += 1
        match = _LINE.fullmatch(message)
        if match is None or match["run"] != self._ledger.run:
            if self._foreign:
                self.strangers.append(dict(record))
            else:
                verdict.corrupt.append(message[:300])
            return
        name, seq = match["stream"], int(match["seq"])
        if _sum(f"{match['run']}-{name}-{seq}", match["rest"]) != match["crc"]:
            verdict.corrupt.append(message[:300])
            return
        stream = self._ledger.streams.get(name)
        if stream is None or seq >= stream.count:
            verdict.invented.append(message[:100])
            return
        # Between two files of one stream (a rotation lies between them) there is no order.
        file = str(record.get("id", "")).rpartition("-")[0]
        first = self._mark(name, seq, file)
        if first and at:
            verdict.late_seconds.append(at - int(match["rest"].partition(" ")[0]) / 1e6)
        self._check(record, name, seq, first=first)

    def _mark(self, name: str, seq: int, file: str) -> bool:
        """Note the line; return whether it is its first arrival."""
        seen = self._seen.setdefault(name, bytearray())
        if seq >= len(seen):
            seen.extend(bytes(seq + 1 - len(seen)))
        seen[seq] = min(255, seen[seq] + 1)
        if seen[seq] > 1:
            return False
        self._count[name] = self._count.get(name, 0) + 1
        last = self._last.get((name, file), -1)
        if seq < last:
            self._verdict.disorder.append(f"{name}: {seq} after {last}")
        self._last[name, file] = max(seq, last)
        return True

    def _check(self, record: Mapping[str, Any], name: str, seq: int, *, first: bool) -> None:
        verdict = self._verdict
        if not self._check_ids:
            verdict.duplicates += not first
            return
        record_id, offset = str(record.get("id")), record.get("offset")
        if record_id.rpartition("-")[2] != str(offset):
            verdict.wrong_offsets.append(f"{name}-{seq}: id {record_id}, offset {offset}")
        if self._line_of.setdefault(record_id, (name, seq)) != (name, seq):
            verdict.shared_ids.append(f"{record_id}: {self._line_of[record_id]} and {(name, seq)}")
        ids = self._ids_of.setdefault((name, seq), set())
        if record_id in ids or not (self._copies or first):
            verdict.duplicates += 1
        if ids and record_id not in ids and not self._copies:
            verdict.changed_ids.append(f"{name}-{seq}: {ids} and {record_id}")
        ids.add(record_id)

    def owed(self) -> int:
        """Return how many lines are not there yet."""
        with self._lock:
            return sum(
                stream.count - self._count.get(name, 0) - self._excused(name)
                for name, stream in self._ledger.streams.items()
            )

    def arrived(self, name: str) -> int:
        """Return how many different lines of a stream are there."""
        with self._lock:
            return self._count.get(name, 0)

    def has(self, name: str, seq: int) -> bool:
        """Return whether a line is there."""
        with self._lock:
            seen = self._seen.get(name, b"")
            return seq < len(seen) and seen[seq] > 0

    def _excused(self, name: str) -> int:
        """Count the lines of a stream that are excused and really missing."""
        seen = self._seen.get(name, b"")
        excused = self._ledger.streams[name].excused
        return sum(seq >= len(seen) or not seen[seq] for seq in excused)

    def verdict(self) -> Verdict:
        """Return the verdict as of now."""
        with self._lock:
            self._verdict.missing = {
                name: gaps
                for name, stream in self._ledger.streams.items()
                if (gaps := self._gaps(stream))
            }
            self._verdict.late_seconds.sort()
            return self._verdict

    def _gaps(self, stream: Stream) -> list[int]:
        seen = self._seen.get(stream.name, b"")
        return [
            seq
            for seq in range(stream.count)
            if (seq >= len(seen) or not seen[seq]) and seq not in stream.excused
        ]
