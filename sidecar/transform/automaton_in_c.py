"""Patterns in C, as Python calls them: automaton.c runs the tables over all messages of a block."""

import ctypes
from typing import TYPE_CHECKING, Final

from sidecar.native import NUMBER, POINTER, TEXT, Library, members
from sidecar.transform.in_c import address_of, new_column

if TYPE_CHECKING:
    from array import array

    from sidecar.transform.automaton import Table

Messages = tuple["array[int]", "array[int]"]
"""Where messages begin in a text, and where they end."""


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


def find(library: Library, text: bytes, messages: Messages, automaton: Automaton) -> bytearray:
    """Return a byte for each message: 1 where the pattern is in it, 0 or NOT_UTF8."""
    mask = bytearray(len(messages[0]))
    library.c.sidetail_find(text, *_columns(messages), automaton.address, address_of(mask))
    return mask


def find_all(
    library: Library, text: bytes, messages: Messages, end: Automaton, begin: Automaton
) -> "array[int]":
    """Return begin and end, one after the other, of every match in the messages.

    All of them are UTF-8. `end` finds where one ends, `begin` where it begins.
    """
    job = MatchesJob(end=end.address, begin=begin.address)
    spans, found = new_column(0), len(messages[0]) + 1
    while job.room < found:
        spans = new_column(2 * found)
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
    begins, ends = new_column(count), new_column(count)
    job = RedactionJob(
        spans=spans.buffer_info()[0],
        span_count=span_count,
        mark=mark,
        mark_length=len(mark),
        out=address_of(out),
        begins=begins.buffer_info()[0],
        ends=ends.buffer_info()[0],
        changed=address_of(changed),
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
    find(text, *_columns(messages), spans_at, len(spans) // 2, address_of(crossing))
    return bytes(crossing)


def find_escaped(library: Library, text: bytes, messages: Messages, automaton: Automaton) -> bytes:
    """Return a 1 for each message in which a string with escapes may match without them.

    The messages are JSON objects, in UTF-8; of others it says nothing.
    """
    mask, scratch = bytearray(len(messages[0])), bytearray(len(text))
    library.c.sidetail_find_escaped(
        text, *_columns(messages), automaton.address, address_of(scratch), address_of(mask)
    )
    return bytes(mask)


def _columns(messages: Messages) -> tuple[int, int, int]:
    begins, ends = messages
    return begins.buffer_info()[0], ends.buffer_info()[0], len(begins)
