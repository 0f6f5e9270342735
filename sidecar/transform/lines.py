"""Blocks of plain lines: as they are where nothing has to be done, else with columns."""

import re
from array import array
from dataclasses import replace
from functools import reduce
from io import BytesIO
from itertools import accumulate
from operator import add, or_

from sidecar.block import Block
from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.records import Columns, Records

_HEAD_NULS = re.compile(rb"(?<![^\n])\0+")


def read_lines(block: Block) -> Records:
    """Return the records of a block in which each line is one.

    NULs at the head of a line are a hole that was filled: they are in no record, and the
    offset is that of the first byte kept.
    """
    text = block.data
    records = Records(
        facts=block.facts,
        read_at=block.read_at,
        start=block.start,
        end=block.end,
        text=text,
        count=count_lines(text),
    )
    if b"\0" in text:
        records = _without_head_nuls(records)
    if block.truncated:
        records = with_columns(records)
        columns = replace(columns_of(records), truncated=array("q", [block.truncated]))
        return replace(records, columns=columns)
    return records


def count_lines(text: bytes) -> int:
    """Return how many lines there are; an unterminated one counts."""
    native = library()
    if native is None:
        return len(BytesIO(text).readlines())  # bytes.count looks at byte after byte
    return in_c.count_lines(native, text) + (not text.endswith(b"\n") and text != b"")


def with_columns(records: Records) -> Records:
    """Return the same records with columns, if they are plain."""
    if records.columns is not None:
        return records
    return replace(records, columns=columns_of(records))


def line_ends(text: bytes) -> "array[int]":
    """Return where each line's newline stands, and where the text ends if the last has none."""
    lengths = list(map(len, _lines(text)))
    return array("q", map(add, accumulate(lengths), range(len(lengths))))


def _lines(text: bytes) -> list[bytes]:
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines


def columns_of(records: Records) -> Columns:
    """Return the records' columns, made anew if they are plain."""
    if records.columns is not None:
        return records.columns
    native = library()
    if native is None:
        return split(records.text, records.start)
    return in_c.split_lines(native, records.text, records.start, records.count)


def bits_of(column: "array[int]") -> int:
    """Return all the bits that are set anywhere in a column."""
    native = library()
    return reduce(or_, column, 0) if native is None else in_c.bits(native, column)


def split(text: bytes, start: int) -> Columns:
    """Return the columns of the lines of a text; lines.c does the same."""
    ends = line_ends(text)
    begins = array("q", [0, *(end + 1 for end in ends[:-1])][: len(ends)])
    if b"\r" in text:
        _leave_out_returns(text, begins, ends)
    offsets = array("q", [start + begin for begin in begins])
    return Columns(begins, ends, offsets)


def _leave_out_returns(text: bytes, begins: "array[int]", ends: "array[int]") -> None:
    """Move the ends before the one CR that stands before a newline."""
    for index, end in enumerate(ends):
        if end > begins[index] and text[end - 1 : end + 1] == b"\r\n":
            ends[index] = end - 1


def _without_head_nuls(records: Records) -> Records:
    runs = [match.span() for match in _HEAD_NULS.finditer(records.text)]
    if not runs:
        return records
    columns = columns_of(records)
    by_begin = {begin: index for index, begin in enumerate(columns.begins)}
    for begin, end in runs:
        index = by_begin[begin]
        columns.begins[index] += end - begin
        columns.offsets[index] += end - begin
        columns.ends[index] = max(columns.ends[index], columns.begins[index])
    nuls = tuple((records.start + begin, end - begin) for begin, end in runs)
    count = records.count
    if runs[-1][1] == len(records.text):  # a hole and nothing behind it: no line yet
        count -= 1
        columns = columns.slice(0, count)
    return replace(records, columns=columns, nuls=nuls, count=count)
