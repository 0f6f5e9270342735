"""Records: what step 4 makes of a block, as columns of numbers over one run of bytes.

In: rows of numbers and the bytes they point into. Out: the same, cut, counted and picked.
There is no object per record. A block whose lines need nothing is *plain*: the bytes as they
were read, no rows at all; the encoder finds the line ends itself.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.block import FileFacts

BEGIN: Final = 0
"""Columns of a row. BEGIN and END: where the message stands in `text`."""
END: Final = 1
OFFSET: Final = 2
"""Of the record's first byte in its file."""
NEXT: Final = 3
"""The offset at which reading may go on after this record, or NO_CUT."""
TIME: Final = 4
"""Nanoseconds since the epoch, or NO_TIME: then the time is when the block was read."""
MARKS: Final = 5
"""Small facts in one number: see the masks and shifts below."""
LINES: Final = 6
"""Lines of the file that the record is made of."""
LEFT_OUT: Final = 7
"""Lines left out between the record before and this one: filtered + (empty << 32)."""
TRUNCATED: Final = 8
"""Bytes left out of the line."""
PARSED_BEGIN: Final = 9
"""PARSED_BEGIN and PARSED_END: where the JSON text of `parsed` stands; equal for none."""
PARSED_END: Final = 10
WIDTH: Final = 11
"""Numbers in a row."""

NO_CUT: Final = -1
"""In NEXT: a record further on began before this one ended (CRI streams that interleave), so
that a batch must not end here."""
NO_TIME: Final = -(2**63)

SEVERITY_MASK: Final = 0b111
"""0 for none, else 1 + the place in `contract.record.SEVERITIES`."""
IOSTREAM_SHIFT: Final = 3
"""Two bits: 0 for none, 1 for stdout, 2 for stderr."""
ERROR_SHIFT: Final = 5
"""Three bits: 0 for none, else 1 + the place in PARSE_ERRORS."""
PARSED_APART: Final = 1 << 8
"""The span of `parsed` points into `Records.parsed`, not into `Records.text`."""
REDACTED: Final = 1 << 9
"""A redaction changed the record: the line's own bytes (`message.raw`) are never sent."""

PARSE_ERRORS: Final = (
    "not a JSON object",
    "a key twice in one object",
    "nested too deep",
    "a number out of range",
    "a secret in its structure",
)

FILTERED: Final = "filtered"
"""A reason in `dropped`: left out by `keep` or `drop`."""
EMPTY: Final = "empty"
"""A reason in `dropped`: left out by `skip_empty`."""


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

    `rows is None` says plain: each line of `text` is a record, the first begins at the
    file's offset `start`.
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
    rows: "array[int] | None" = None
    parsed: bytes = b""
    left_out: int = 0
    """Lines left out after the last record, packed like LEFT_OUT."""
    nul_bytes: int = 0
    """NULs at the heads of lines that are in no record (holes that were filled)."""

    @property
    def count(self) -> int:
        """How many records there are."""
        if self.rows is not None:
            return len(self.rows) // WIDTH
        return self.text.count(b"\n") + (not self.text.endswith(b"\n"))

    @property
    def line_count(self) -> int:
        """Lines of the file in the records; what is left out does not count."""
        return self.count if self.rows is None else sum(self.rows[LINES::WIDTH])

    @property
    def dropped(self) -> Mapping[str, int]:
        """Reason → lines of the file that are in no record."""
        return self.taken(self.count).dropped

    def taken(self, count: int) -> Taken:
        """Return what the first `count` records stand for (0 to `self.count`)."""
        rows = self.rows
        if rows is None:
            return Taken(self._plain_end(count), count, {})
        lines = sum(rows[LINES : count * WIDTH : WIDTH])
        left_out = sum(rows[LEFT_OUT : count * WIDTH : WIDTH])
        if count * WIDTH == len(rows):
            return Taken(self.end, lines, _unpack(left_out + self.left_out))
        end = rows[(count - 1) * WIDTH + NEXT] if count else self.start
        return Taken(end, lines, _unpack(left_out))

    def slice(self, first: int, stop: int) -> "Records":
        """Return the records from `first` up to `stop`, with the offsets that go with them."""
        raise NotImplementedError

    def pick(self, indices: Iterable[int]) -> "Records":
        """Return the records at `indices` (ascending), to be sent again by themselves.

        `end` and what is left out mean nothing there: the whole was used before.
        """
        raise NotImplementedError

    def _plain_end(self, count: int) -> int:
        raise NotImplementedError


def _unpack(left_out: int) -> Mapping[str, int]:
    counts = {FILTERED: left_out & 0xFFFFFFFF, EMPTY: left_out >> 32}
    return {reason: lines for reason, lines in counts.items() if lines}
