r"""Undoes Docker's json-file format: `{"log":"text\n","stream":"stdout","time":"…"}`.

In: a block of such lines. Out: records of the texts, with the lines' times and streams; one
whose text has no newline is marked PARTIAL (Docker cuts at 16 KiB). What is no such line is a
record as it stands. Source: Docker, json-file logging driver.
"""

from array import array
from dataclasses import replace
from itertools import accumulate
from typing import Final

import orjson

from sidecar.block import Block
from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.cri import STREAMS
from sidecar.transform.lines import columns_of, read_lines, with_columns
from sidecar.transform.records import NO_TIME, PARTIAL, Records, time_columns
from sidecar.transform.severity import SPELLINGS
from sidecar.transform.tight import messages_of
from sidecar.transform.times import parse_rfc3339

_Line = tuple[bytes, int, int]
"""Text, time, marks."""
_NO_STREAM: Final = 0


def undo_docker(block: Block) -> Records:
    """Return the records of a block of Docker's lines."""
    records = with_columns(read_lines(block))
    native = library()
    if native is not None:
        read = in_c.read_objects(native, "docker", records.text, columns_of(records), SPELLINGS)
        if not read.unsure:
            return _with_texts(records, read)
    return undo_lines(records)


def _with_texts(records: Records, read: in_c.ReadObjects) -> Records:
    """Return the records with the texts that objects.c has read."""
    columns = read.columns
    columns = replace(
        columns,
        begins=columns.parsed_begins or columns.begins,
        ends=columns.parsed_ends or columns.ends,
        parsed_begins=None,
        parsed_ends=None,
    )
    return replace(records, text=read.text, columns=columns)


def undo_lines(records: Records) -> Records:
    """Return the records of Docker's lines that were split already; objects.c does the same."""
    columns = columns_of(records)
    lines = [_read_line(message) for message in messages_of(records)]
    texts, times, marks = zip(*lines, strict=True) if lines else ((), (), ())
    ends = array("q", accumulate(map(len, texts)))
    seconds, nanos = time_columns(times)
    columns = replace(
        columns,
        begins=array("q", [0, *ends[:-1]][: len(ends)]),
        ends=ends,
        seconds=seconds,
        nanos=nanos,
        marks=array("q", marks),
    )
    return replace(records, text=b"".join(texts), columns=columns)


def _read_line(line: bytes) -> _Line:
    try:
        fields = orjson.loads(line)
        text = fields["log"].encode("utf-8")
        stream = STREAMS.get(fields.get("stream", "").encode("utf-8"), _NO_STREAM)
        time = parse_rfc3339(fields["time"].encode("utf-8"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return line, NO_TIME, 0
    if time is None:
        time = NO_TIME
    if not text.endswith(b"\n"):
        return text, time, stream | PARTIAL
    return text.removesuffix(b"\n").removesuffix(b"\r"), time, stream
