"""Undoes the CRI log format: `<RFC 3339 time> <stdout|stderr> <P|F> <text>`.

In: a block of such lines. Out: records of the texts, with the lines' times and streams, parts
of a long line marked PARTIAL. What is no such line is a record as it stands.
Source: Kubernetes, CRI log format (pkg/kubelet/kuberuntime/logs).
"""

from array import array
from dataclasses import replace
from operator import add
from typing import Final

from sidecar.block import Block
from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of, line_ends, read_lines, with_columns
from sidecar.transform.records import (
    IOSTREAM_SHIFT,
    NO_TIME,
    PARTIAL,
    Records,
    time_columns,
)
from sidecar.transform.times import parse_rfc3339

STREAMS: Final = {b"stdout": 1 << IOSTREAM_SHIFT, b"stderr": 2 << IOSTREAM_SHIFT}

_Head = tuple[int, int, int]
"""Bytes before the text, time, marks."""
_NO_HEAD: Final[_Head] = (0, NO_TIME, 0)


def undo_cri(block: Block) -> Records:
    """Return the records of a block of CRI lines."""
    records = read_lines(block)
    native = library()
    if native is not None and records.columns is None:
        columns = in_c.split_cri(native, records.text, records.start, records.count)
        return replace(records, columns=columns)
    return undo_heads(with_columns(records))


def undo_heads(records: Records) -> Records:
    """Return the records of CRI lines that were split already; lines.c does the same."""
    columns = columns_of(records)
    # From where the line begins up to its newline: a part may end with a CR of its text.
    ends = line_ends(records.text)[: records.count]
    spans = zip(columns.begins, ends, strict=True)
    heads = [_read_head(records.text[begin:end]) for begin, end in spans]
    lengths, times, marks = zip(*heads, strict=True) if heads else ((), (), ())
    begins = array("q", map(add, columns.begins, lengths))
    triples = zip(begins, ends, columns.ends, marks, strict=True)
    seconds, nanos = time_columns(times)
    columns = replace(
        columns,
        begins=begins,
        ends=array(
            "q",
            [
                end if mark & PARTIAL else max(begin, without_return)
                for begin, end, without_return, mark in triples
            ],
        ),
        seconds=seconds,
        nanos=nanos,
        marks=array("q", marks),
    )
    return replace(records, columns=columns)


def _read_head(line: bytes) -> _Head:
    fields = line.split(b" ", 3)
    if len(fields) < 3 or fields[1] not in STREAMS:
        return _NO_HEAD
    tag = fields[2].removesuffix(b"\r") if len(fields) == 3 else fields[2]
    time = parse_rfc3339(fields[0])
    if time is None or tag[:1] not in {b"P", b"F"} or tag[1:2] not in {b"", b":"}:
        return _NO_HEAD
    marks = STREAMS[fields[1]] | (PARTIAL if tag[:1] == b"P" else 0)
    text_length = len(fields[3]) if len(fields) == 4 else 0
    return len(line) - text_length, time, marks
