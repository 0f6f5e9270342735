"""Records: what step 4 makes of a block, as columns of numbers over one run of bytes.

There is no object per record. A block whose lines need nothing done to them is *plain*: the
bytes as they were read, without any columns; the encoder finds the ends of the lines itself.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import accumulate, chain, islice
from operator import itemgetter
from typing import Final

from sidecar.block import FileFacts

Column = array
"""Signed 64-bit numbers (`q`), one a record."""

NO_END: Final = 2**63 - 1
"""In `stops`, while a block is transformed: the record is still open."""
SECOND: Final = 1_000_000_000
"""Nanoseconds."""
NO_TIME: Final = -(2**63)
"""In `seconds`: the line says none, the time is when its block was read."""

SEVERITY_MASK: Final = 0b111
"""In `marks`: 0 for none, else 1 + the place in `contract.record.SEVERITIES`."""
IOSTREAM_SHIFT: Final = 3
"""In `marks`, two bits: 0 for none, 1 for stdout, 2 for stderr."""
ERROR_SHIFT: Final = 5
"""In `marks`, three bits: 0 for none, else 1 + the place in PARSE_ERRORS."""
PARSED_APART: Final = 1 << 8
"""In `marks`: the span of `parsed` is one of `Records.parsed`, not of `Records.text`."""
REDACTED: Final = 1 << 9
"""In `marks`: a redaction changed the message; its own bytes (`message.raw`) are never sent."""

PARTIAL: Final = 1 << 10
"""In `marks`, while a block is transformed: the line goes on with the next of its stream."""
UNSURE: Final = 1 << 11
"""In `marks`, while a block is transformed: objects.c leaves the record to Python."""

PARSE_ERRORS: Final = (
    "not a JSON object",
    "a key stands twice in one object",
    "nested too deep",
    "a number is out of range",
    "a redaction went through its structure",
)

FILTERED: Final = "filtered"
"""A reason in `dropped`: left out by `keep` or `drop`."""
EMPTY: Final = "empty"
"""A reason in `dropped`: left out by `skip_empty`."""
_EMPTY_SHIFT: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One number a record in each column; None stands for the same number everywhere."""

    begins: "Column[int]"
    """Where the message begins in `Records.text`."""
    ends: "Column[int]"
    """Where it ends; nothing of the newline is in it."""
    offsets: "Column[int]"
    """Of the record's first byte in its file; ascending."""
    stops: "Column[int] | None" = None
    """Offset after the record's last line. None: each stops before the next begins; given
    where records interleave, as the two streams of a CRI file do."""
    seconds: "Column[int] | None" = None
    """The record's own time: whole seconds since the epoch, or NO_TIME. None: NO_TIME."""
    nanos: "Column[int] | None" = None
    """Nanoseconds behind the second, 0 to 999,999,999; given with `seconds`."""
    marks: "Column[int] | None" = None
    """Small facts in one number: masks and shifts above. None: 0."""
    lines: "Column[int] | None" = None
    """Lines of the file that the record is made of. None: 1."""
    left_out: "Column[int] | None" = None
    """Lines left out between the record before and this one: filtered + (empty << 32).
    None: 0."""
    truncated: "Column[int] | None" = None
    """Bytes left out of the line. None: 0."""
    parsed_begins: "Column[int] | None" = None
    """Where the JSON text of `parsed` begins. None: there is none."""
    parsed_ends: "Column[int] | None" = None
    """Where it ends; not after its begin where the record has none."""

    def slice(self, first: int, stop: int) -> "Columns":
        """Return the columns of the records from `first` up to `stop`."""
        return self.each(lambda column: column[first:stop])

    def pick(self, indices: list[int]) -> "Columns":
        """Return the columns of the records at `indices`."""
        return self.each(lambda column: _pick(column, indices))

    def each(self, change: "Callable[[Column[int]], Column[int]]") -> "Columns":
        """Return the columns, each one changed alike."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return Columns(**{name: change(old) for name, old in columns.items() if old is not None})


_COLUMNS: Final = [field.name for field in fields(Columns)]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the first records of a `Records` stand for in their file."""

    end: int
    """The offset up to which the file is then consumed."""
    lines: int
    """Lines of the file in those records."""
    dropped: Mapping[str, int]
    """Reason → lines of the file left out before `end`, on purpose."""


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The records of one block, in the order of their first bytes in the file.

    Without `columns` they are plain: each line of `text` is a record, and the first one
    begins at the offset `start` of the file.
    """

    facts: FileFacts
    read_at: int
    """Nanoseconds since the epoch: the time of every record that has none of its own."""
    start: int
    """The offset at which the block begins."""
    end: int
    """The offset consumed when all records (and what is left out) are settled. Less than the
    block's end where a record is still open; equal to `start` where there is nothing yet."""
    text: bytes
    count: int
    """How many records there are."""
    columns: Columns | None = None
    parsed: bytes = b""
    left_out: int = 0
    """Lines left out after the last record, packed like `Columns.left_out`."""
    nuls: tuple[tuple[int, int], ...] = ()
    """(offset, how many): NULs at the heads of lines (holes that were filled), in no record."""
    splits: tuple[int, ...] = ()
    """Offsets at which a record was ended only because it reached `max_line_bytes`."""

    @property
    def line_count(self) -> int:
        """Lines of the file in the records; what is left out does not count."""
        lines = None if self.columns is None else self.columns.lines
        return self.count if lines is None else sum(lines)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason → lines of the file that are in no record."""
        return self.taken(self.count).dropped

    @property
    def nul_bytes(self) -> int:
        """How many NULs at the heads of lines are in no record."""
        return sum(count for _, count in self.nuls)

    def taken(self, count: int) -> Taken:
        """Return what the first `count` records stand for (0 to `self.count`, see `cut`)."""
        columns = self.columns
        if columns is None:
            return Taken(self._line_offset(count), count, {})
        lines = count if columns.lines is None else sum(columns.lines[:count])
        left_out = 0 if columns.left_out is None else sum(columns.left_out[: count + 1])
        if count == self.count:
            return Taken(self.end, lines, _unpack(left_out + self.left_out))
        return Taken(columns.offsets[count], lines, _unpack(left_out))

    def cut(self, count: int) -> int:
        """Return the largest number of records, at most `count`, that a batch may end with.

        Where records interleave, one may still run on behind the beginning of the next; then
        0 may be all that is left, and `together` says how many have to go together.
        """
        stops = None if self.columns is None else self.columns.stops
        if self.columns is None or stops is None or count == self.count:
            return count
        offsets = self.columns.offsets
        reached = list(accumulate(stops[:count], max))
        while count and reached[count - 1] > offsets[count]:
            count -= 1
        return count

    def together(self) -> int:
        """Return the smallest number of records, at least one, that a batch may end with."""
        stops = None if self.columns is None else self.columns.stops
        if self.columns is None or stops is None or not self.count:
            return min(1, self.count)
        later = chain(self.columns.offsets[1:], [NO_END])
        pairs = zip(accumulate(stops, max), later, strict=True)
        return next(count for count, (reached, offset) in enumerate(pairs, 1) if reached <= offset)

    def slice(self, first: int, stop: int) -> "Records":
        """Return the records from `first` up to `stop`, with the part of the file they are."""
        begin = self.start if first == 0 else self.taken(first).end
        end = begin if first == stop > 0 else self.taken(stop).end
        if self.columns is None:
            text = self.text[begin - self.start : end - self.start]
            return replace(self, start=begin, end=end, text=text, count=stop - first)
        return replace(
            self,
            start=begin,
            end=end,
            count=stop - first,
            columns=self._columns_of_slice(first, stop),
            left_out=0 if first == stop > 0 else self._left_out_before(stop),
            nuls=tuple(run for run in self.nuls if begin <= run[0] < end),
            splits=tuple(offset for offset in self.splits if begin < offset <= end),
        )

    def _columns_of_slice(self, first: int, stop: int) -> Columns | None:
        columns = None if self.columns is None else self.columns.slice(first, stop)
        if columns is not None and columns.left_out and first:
            columns.left_out[0] = 0  # those lines were consumed with the record before them
        return columns

    def _left_out_before(self, stop: int) -> int:
        """Return what is left out between the record before `stop` and the next one."""
        if stop == self.count:
            return self.left_out
        column = None if self.columns is None else self.columns.left_out
        return 0 if column is None else column[stop]

    def pick(self, indices: Iterable[int]) -> "Records":
        """Return the records at `indices` (ascending), to be sent again by themselves.

        What they stand for in the file was said by the whole: `start`, `end` and what is left
        out are not those of the pick.
        """
        from sidecar.transform.lines import columns_of

        chosen = list(indices)
        return replace(self, columns=columns_of(self).pick(chosen), count=len(chosen))

    def offset(self, index: int) -> int:
        """Return the offset of the record at `index`; its id is made of it."""
        return self._line_offset(index) if self.columns is None else self.columns.offsets[index]

    def message(self, index: int) -> bytes:
        """Return the message of the record at `index`, as bytes."""
        if self.columns is None:
            begin = self._line_offset(index) - self.start
            end = self.text.find(b"\n", begin)
            line = self.text[begin:end] if end >= 0 else self.text[begin:]
            return line.removesuffix(b"\r") if end >= 0 else line
        return self.text[self.columns.begins[index] : self.columns.ends[index]]

    def _line_offset(self, count: int) -> int:
        """Return the offset after `count` plain lines."""
        if count == 0:
            return self.start
        if count == self.count:
            return self.end
        return self.start + sum(len(line) + 1 for line in islice(self.text.split(b"\n"), count))


def marks_of(records: Records) -> "Column[int]":
    """Return the records' marks, to be changed and put into other columns."""
    marks = None if records.columns is None else records.columns.marks
    return array("q", bytes(8 * records.count)) if marks is None else marks[:]


def time_columns(times: Iterable[int]) -> "tuple[Column[int], Column[int]]":
    """Return `seconds` and `nanos` for times in nanoseconds since the epoch, or NO_TIME."""
    pairs = [(NO_TIME, 0) if time == NO_TIME else divmod(time, SECOND) for time in times]
    return array("q", map(itemgetter(0), pairs)), array("q", map(itemgetter(1), pairs))


def times_of(records: Records) -> list[int]:
    """Return the records' own times in nanoseconds since the epoch, or NO_TIME."""
    columns = records.columns
    if columns is None or columns.seconds is None or columns.nanos is None:
        return [NO_TIME] * records.count
    pairs = zip(columns.seconds, columns.nanos, strict=True)
    return [NO_TIME if second == NO_TIME else second * SECOND + nano for second, nano in pairs]


def pack_left_out(*, filtered: int = 0, empty: int = 0) -> int:
    """Return lines left out, by reason, as one number that can be added to others."""
    return filtered + (empty << _EMPTY_SHIFT)


def _unpack(left_out: int) -> Mapping[str, int]:
    if not left_out:
        return {}
    counts = {FILTERED: left_out & ((1 << _EMPTY_SHIFT) - 1), EMPTY: left_out >> _EMPTY_SHIFT}
    return {reason: lines for reason, lines in counts.items() if lines}


def _pick(column: "Column[int]", indices: list[int]) -> "Column[int]":
    return array("q", [column[index] for index in indices])
