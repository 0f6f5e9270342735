"""The transform's functions in C, as Python calls them; the C files say what they do."""

import ctypes
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sidecar.native import NUMBER, POINTER, TEXT, Library, members
from sidecar.transform.records import NO_TIME, Columns

if TYPE_CHECKING:
    from sidecar.transform.automaton import Table

Messages = tuple["array[int]", "array[int]"]
"""Where messages begin in a text, and where they end."""
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


class AutomatonJob(ctypes.Structure):
    """`struct automaton` of automaton.c."""

    _fields_ = (
        *members(POINTER, "cells"),
        *members(TEXT, "classes"),
        *members(POINTER, "entries"),
        *members(TEXT, "stays"),
        *members(NUMBER, "idle", "matched", "end"),
        *members(TEXT, "needed"),
        *members(NUMBER, "needed_length", "begins_needed", "is_literal", "reads_all"),
    )


class MatchesJob(ctypes.Structure):
    """`struct matches` of automaton.c."""

    _fields_ = (
        *members(POINTER, "end", "begin", "spans"),
        *members(NUMBER, "room", "found"),
    )


class RedactionJob(ctypes.Structure):
    """`struct redaction` of automaton.c."""

    _fields_ = (
        *members(POINTER, "spans"),
        *members(NUMBER, "span_count"),
        *members(TEXT, "mark"),
        *members(NUMBER, "mark_length"),
        *members(POINTER, "out", "begins", "ends", "changed"),
    )


class Automaton:
    """A pattern as automaton.c reads it."""

    def __init__(
        self, table: "Table | None", needed: bytes, *, begins_needed: bool = False
    ) -> None:
        """Keep a table and a text that every match needs, or begins with.

        Without a table the text is the match.
        """
        self._table = table
        self._job = AutomatonJob(needed=needed, needed_length=len(needed), is_literal=table is None)
        self._job.reads_all = not needed.isascii()
        self._job.begins_needed = begins_needed
        if table is not None:
            self._job.cells = table.cells.buffer_info()[0]
            self._job.entries = table.entries.buffer_info()[0]
            for name in ("classes", "stays", "idle", "matched", "end", "reads_all"):
                setattr(self._job, name, getattr(table, name))

    @property
    def address(self) -> int:
        """Of what C reads; valid as long as this object lives."""
        return ctypes.addressof(self._job)


NOT_UTF8: Final = 2
"""In a mask of `find`: the message is not UTF-8, and the pattern asks."""


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
    columns = Columns(*(_column(count) for _ in range(3)))
    job = _lines_job(text, start, count, columns)
    library.c.sidetail_split_lines(text, ctypes.byref(job))
    return columns


def split_cri(library: Library, text: bytes, start: int, count: int) -> Columns:
    """Return the columns of `count` CRI lines; none of them may begin with a NUL."""
    begins, ends, offsets, seconds, nanos, marks = (_column(count) for _ in range(6))
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
    places = _column(count)
    size = library.c.sidetail_gather(
        text,
        begins.buffer_info()[0],
        ends.buffer_info()[0],
        count,
        ctypes.addressof(ctypes.c_char.from_buffer(out)) if out else None,
        places.buffer_info()[0],
    )
    return bytes(memoryview(out)[:size]), places


def find(library: Library, text: bytes, messages: Messages, automaton: Automaton) -> bytearray:
    """Return a byte for each message: 1 where the pattern is in it, 0 or NOT_UTF8."""
    mask = bytearray(len(messages[0]))
    library.c.sidetail_find(text, *_columns(messages), automaton.address, _room(mask))
    return mask


def find_all(
    library: Library, text: bytes, messages: Messages, end: Automaton, begin: Automaton
) -> "array[int]":
    """Return begin and end, one after the other, of every match in the messages.

    All of them are UTF-8. `end` finds where one ends, `begin` where it begins.
    """
    job = MatchesJob(end=end.address, begin=begin.address)
    spans, found = _column(0), len(messages[0]) + 1
    while job.room < found:
        spans = _column(2 * found)
        job.room, job.spans = found, spans.buffer_info()[0]
        library.c.sidetail_find_all(text, *_columns(messages), ctypes.byref(job))
        found = job.found
    return spans[: 2 * found]


def redact(
    library: Library, text: bytes, messages: Messages, spans: "array[int]", mark: bytes
) -> tuple[bytes, "array[int]", "array[int]", bytes]:
    """Return the messages with `mark` for each span, a newline behind each of them.

    Then where each begins, where it ends, and a 1 for each that had a span.
    """
    count, span_count = len(messages[0]), len(spans) // 2
    # No message stands in the text twice, and no span is empty.
    out, changed = bytearray(len(text) + count + span_count * len(mark)), bytearray(count)
    begins, ends = _column(count), _column(count)
    job = RedactionJob(
        spans=spans.buffer_info()[0],
        span_count=span_count,
        mark=mark,
        mark_length=len(mark),
        out=_room(out),
        begins=begins.buffer_info()[0],
        ends=ends.buffer_info()[0],
        changed=_room(changed),
    )
    size = library.c.sidetail_redact(text, *_columns(messages), ctypes.byref(job))
    return bytes(memoryview(out)[:size]), begins, ends, bytes(changed)


def find_crossing(
    library: Library, text: bytes, messages: Messages, spans: "array[int]", *, in_pairs: bool
) -> bytes:
    """Return a 1 for each message of which a span is not within a value without escapes.

    The messages are JSON objects, values those of them that are strings; or `in_pairs` of
    logfmt. Of other messages it says nothing.
    """
    crossing = bytearray(len(messages[0]))
    find = library.c.sidetail_find_crossing_pairs if in_pairs else library.c.sidetail_find_crossing
    spans_at = spans.buffer_info()[0]
    find(text, *_columns(messages), spans_at, len(spans) // 2, _room(crossing))
    return bytes(crossing)


def find_escaped(library: Library, text: bytes, messages: Messages, automaton: Automaton) -> bytes:
    """Return a 1 for each message in which a string with escapes may match without them.

    The messages are JSON objects, in UTF-8; of others it says nothing.
    """
    mask, scratch = bytearray(len(messages[0])), bytearray(len(text))
    library.c.sidetail_find_escaped(
        text, *_columns(messages), automaton.address, _room(scratch), _room(mask)
    )
    return bytes(mask)


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
    out = _column(len(column) + 1)
    library.c.sidetail_keep(mask, len(column), column.buffer_info()[0], out.buffer_info()[0])
    return out[:kept]


def left_out(library: Library, columns: Columns, mask: bytes, unit: int, kept: int) -> "array[int]":
    """Return what is left out before each row that `mask` has a 1 for, and behind them."""
    out = _column(kept + 1)
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
    rows = _column(len(begins) + 1)
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
        nanos=_copy(columns.nanos) or _column(count),
        marks=_copy(columns.marks) or _column(count),
        parsed_begins=_column(count),
        parsed_ends=_column(count),
    )
    room = {"logfmt": 5 * len(text) + 8 * count, "docker": len(text)}.get(format_name, 0)
    out = bytearray(room)
    job = ObjectsJob(
        format=OBJECT_FORMATS[format_name],
        length=len(text),
        count=count,
        spellings=spellings,
        out=ctypes.addressof(ctypes.c_char.from_buffer(out)) if room else None,
    )
    for name in ("begins", "ends", "seconds", "nanos", "marks", "parsed_begins", "parsed_ends"):
        setattr(job, name, getattr(read, name).buffer_info()[0])
    library.c.sidetail_read_objects(text, ctypes.byref(job))
    if not job.timed and columns.seconds is None:
        read = replace(read, seconds=None, nanos=None)
    return ReadObjects(read, bytes(memoryview(out)[: job.out_size]), job.unsure, job.found)


def _room(buffer: bytearray) -> int | None:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else None


def _columns(messages: Messages) -> tuple[int, int, int]:
    begins, ends = messages
    return begins.buffer_info()[0], ends.buffer_info()[0], len(begins)


def _column(count: int) -> "array[int]":
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
