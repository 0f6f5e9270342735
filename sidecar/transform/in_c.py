"""The transform's functions in C, as Python calls them; the C files say what they do."""

import ctypes
from array import array
from dataclasses import dataclass, replace
from typing import Final

from sidecar.native import NUMBER, POINTER, TEXT, Library, members
from sidecar.transform.records import NO_TIME, Columns

OBJECT_FORMATS: Final = {"json": 0, "logfmt": 1, "auto": 2, "docker": 3}


class LinesJob(ctypes.Structure):
    """`struct lines` of lines.c."""

    _fields_ = (
        *members(NUMBER, "length", "start", "count"),
        *members(POINTER, "begins", "ends", "offsets", "seconds", "nanos", "marks"),
    )


class ObjectsJob(ctypes.Structure):
    """`struct objects` of objects.c."""

    _fields_ = (
        *members(NUMBER, "format", "length", "count"),
        *members(POINTER, "begins", "ends", "seconds", "nanos", "marks"),
        *members(POINTER, "parsed_begins", "parsed_ends"),
        *members(TEXT, "spellings"),
        *members(POINTER, "out"),
        *members(NUMBER, "out_size", "unsure", "found", "timed"),
    )


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """What objects.c found out about some records."""

    columns: Columns
    text: bytes
    """What the columns' spans of `parsed` point into, if not into the records' own text."""
    unsure: int
    """How many records are marked UNSURE: nothing is known of them."""
    found: int
    """How many say anything."""


def count_lines(library: Library, text: bytes) -> int:
    """Return how many newlines there are in `text`."""
    count: int = library.c.sidetail_count_lines(text, len(text))
    return count


def split_lines(library: Library, text: bytes, start: int, count: int) -> Columns:
    """Return the columns of `count` lines; none of them may begin with a NUL."""
    columns = Columns(*(new_column(count) for _ in range(3)))
    job = _lines_job(text, start, count, columns)
    library.c.sidetail_split_lines(text, ctypes.byref(job))
    return columns


def split_cri(library: Library, text: bytes, start: int, count: int) -> Columns:
    """Return the columns of `count` CRI lines; none of them may begin with a NUL."""
    begins, ends, offsets, seconds, nanos, marks = (new_column(count) for _ in range(6))
    columns = Columns(begins, ends, offsets, seconds=seconds, nanos=nanos, marks=marks)
    job = _lines_job(text, start, count, columns)
    library.c.sidetail_split_cri(text, ctypes.byref(job))
    return columns


def gather(library: Library, text: bytes, columns: Columns) -> tuple[bytes, "array[int]"]:
    """Return all messages with a newline behind each, and where they begin."""
    begins, ends = columns.begins, columns.ends
    count = len(begins)
    # No message stands in the text twice, so that this is room enough.
    out = bytearray(len(text) + count)
    places = new_column(count)
    size = library.c.sidetail_gather(
        text,
        begins.buffer_info()[0],
        ends.buffer_info()[0],
        count,
        ctypes.addressof(ctypes.c_char.from_buffer(out)) if out else None,
        places.buffer_info()[0],
    )
    return bytes(memoryview(out)[:size]), places


def move_objects(library: Library, before: Columns, after: Columns) -> None:
    """Move the spans of objects with their messages, in place, where only strings have changed.

    Both have the same columns but for `begins` and `ends`, and all of what is parsed.
    """
    columns = (before.begins, before.ends, after.begins, after.ends)
    spans = (after.marks, after.parsed_begins, after.parsed_ends)
    library.c.sidetail_move_objects(
        len(after.begins),
        *(each.buffer_info()[0] for each in (*columns, *spans) if each is not None),
    )


def keep(library: Library, column: "array[int]", mask: bytes, kept: int) -> "array[int]":
    """Return the `kept` numbers of a column that `mask` has a 1 for."""
    out = new_column(len(column) + 1)
    library.c.sidetail_keep(mask, len(column), column.buffer_info()[0], out.buffer_info()[0])
    return out[:kept]


def left_out(library: Library, columns: Columns, mask: bytes, unit: int, kept: int) -> "array[int]":
    """Return what is left out before each row that `mask` has a 1 for, and behind them."""
    out = new_column(kept + 1)
    lines, before = columns.lines, columns.left_out
    library.c.sidetail_left_out(
        mask,
        len(mask),
        None if lines is None else lines.buffer_info()[0],
        None if before is None else before.buffer_info()[0],
        unit,
        out.buffer_info()[0],
    )
    return out


def first_bytes(
    library: Library, text: bytes, begins: "array[int]", byte_set: bytes
) -> "array[int]":
    """Return the rows of messages whose first byte has a 1 in `byte_set` (256 bytes).

    Each message has a newline behind it.
    """
    rows = new_column(len(begins) + 1)
    found = library.c.sidetail_first_bytes(
        text, begins.buffer_info()[0], len(begins), byte_set, rows.buffer_info()[0]
    )
    return rows[:found]


def set_bits(library: Library, column: "array[int]", mask: bytes, bits: int) -> None:
    """Set bits in the rows of a column that `mask` has a 1 for."""
    library.c.sidetail_set_bits(mask, len(mask), bits, column.buffer_info()[0])


def bits(library: Library, column: "array[int]") -> int:
    """Return all the bits that are set anywhere in a column."""
    bits: int = library.c.sidetail_bits(column.buffer_info()[0], len(column))
    return bits


def read_objects(
    library: Library, format_name: str, text: bytes, columns: Columns, spellings: bytes
) -> ReadObjects:
    """Read what messages say, in one of OBJECT_FORMATS.

    Args:
        library: the one that was loaded.
        format_name: of the messages.
        text: what the columns point into.
        columns: of the records; they are not changed.
        spellings: of severities, as `spellings_table` returns them.
    """
    count = len(columns.offsets)
    read = replace(
        columns,
        seconds=_copy(columns.seconds) or array("q", [NO_TIME]) * count,
        nanos=_copy(columns.nanos) or new_column(count),
        marks=_copy(columns.marks) or new_column(count),
        parsed_begins=new_column(count),
        parsed_ends=new_column(count),
    )
    room = {"logfmt": 5 * len(text) + 8 * count, "docker": len(text)}.get(format_name, 0)
    out = bytearray(room)
    job = ObjectsJob(
        format=OBJECT_FORMATS[format_name],
        length=len(text),
        count=count,
        spellings=spellings,
        out=address_of(out),
    )
    for name in ("begins", "ends", "seconds", "nanos", "marks", "parsed_begins", "parsed_ends"):
        setattr(job, name, getattr(read, name).buffer_info()[0])
    library.c.sidetail_read_objects(text, ctypes.byref(job))
    if not job.timed and columns.seconds is None:
        read = replace(read, seconds=None, nanos=None)
    return ReadObjects(read, bytes(memoryview(out)[: job.out_size]), job.unsure, job.found)


def address_of(buffer: bytearray) -> int | None:
    """Return where a buffer's bytes lie; None for an empty one."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else None


def new_column(count: int) -> "array[int]":
    """Return so many zeros, to be written over."""
    return array("q", bytes(8 * count))


def _copy(column: "array[int] | None") -> "array[int] | None":
    return None if column is None else column[:]


def _lines_job(text: bytes, start: int, count: int, columns: Columns) -> LinesJob:
    job = LinesJob(length=len(text), start=start, count=count)
    for name in ("begins", "ends", "offsets", "seconds", "nanos", "marks"):
        column: array[int] | None = getattr(columns, name)
        if column is not None:
            setattr(job, name, column.buffer_info()[0])
    return job
