"""Joins the parts of long lines again, each stream for itself (CRI's `P`, Docker's 16 KiB)."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from sidecar.transform.lines import bits_of
from sidecar.transform.records import IOSTREAM_SHIFT, NO_END, PARTIAL, Columns, Records

_STREAM_MASK: Final = 0b11 << IOSTREAM_SHIFT


@dataclass(slots=True)
class _Line:
    """The parts of one line, as rows of the records."""

    rows: list[int]
    size: int
    is_open: bool = True


@dataclass(slots=True)
class _Lines:
    """What was joined of a block, and what is being joined."""

    max_bytes: int
    done: list[_Line] = field(default_factory=list)
    open: dict[int, _Line] = field(default_factory=dict)
    splits: list[int] = field(default_factory=list)
    """Rows before which a line was ended for its size."""

    def add(self, row: int, size: int, mark: int) -> None:
        """Put a part to the open line of its stream."""
        stream = mark & _STREAM_MASK
        line = self.open.get(stream)
        if line is not None and line.size + size > self.max_bytes:
            line.is_open = False
            self.splits.append(line.rows[-1])
            line = None
        if line is None:
            line = _Line([], 0)
            self.done.append(line)
        line.rows.append(row)
        line.size += size
        if mark & PARTIAL:
            self.open[stream] = line
        else:
            line.is_open = False
            self.open.pop(stream, None)


def join_partials(records: Records, *, max_bytes: int, flush: bool) -> Records:
    """Return the records with parts (PARTIAL) joined to lines, in the order of their beginnings.

    A line that is open at the end has NO_END in `stops`, unless `flush`; one that would be
    longer than `max_bytes` goes on as another record.
    """
    columns = records.columns
    if columns is None or columns.marks is None or not bits_of(columns.marks) & PARTIAL:
        return records
    lines = _Lines(max_bytes)
    sizes = (end - begin for begin, end in zip(columns.begins, columns.ends, strict=True))
    for row, (size, mark) in enumerate(zip(sizes, columns.marks, strict=True)):
        lines.add(row, size, mark)
    ends_of_lines = [*columns.offsets[1:], records.end]
    stops = [
        NO_END if line.is_open and not flush else ends_of_lines[line.rows[-1]]
        for line in lines.done
    ]
    joined, text = _join(records, columns, lines.done)
    return replace(
        records,
        text=text,
        count=len(lines.done),
        columns=replace(joined, stops=array("q", stops)),
        splits=(*records.splits, *(ends_of_lines[row] for row in lines.splits)),
    )


def _join(records: Records, columns: Columns, lines: list[_Line]) -> tuple[Columns, bytes]:
    """Return the columns of the joined lines and the text that they point into."""
    pieces: list[bytes] = [records.text]
    size = len(records.text)
    joined = columns.pick([line.rows[0] for line in lines])
    marks = array("q", [mark & ~PARTIAL for mark in joined.marks or ()])
    for index, line in enumerate(lines):
        if len(line.rows) > 1:
            parts = list(_parts(records.text, columns, line.rows))
            pieces += parts
            joined.begins[index] = size
            size += sum(map(len, parts))
            joined.ends[index] = size
    counts = array("q", [len(line.rows) for line in lines])
    return replace(joined, marks=marks, lines=counts), b"".join(pieces)


def _parts(text: bytes, columns: Columns, rows: list[int]) -> Iterator[bytes]:
    return (text[columns.begins[row] : columns.ends[row]] for row in rows)
