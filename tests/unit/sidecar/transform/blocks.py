"""Blocks and sources for tests of the transform, and what comes out of it as Python values."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import re2

from sidecar.block import Block, FileFacts
from sidecar.encode import encode
from sidecar.ndjson import ndjson_template
from sidecar.settings import Limits, Source
from sidecar.transform.compile import Transform, compile_transform
from sidecar.transform.records import Records

READ_AT = 1_714_564_800_123_456_789
READ_TIME = "2024-05-01T12:00:00.123456789Z"

LIMITS = Limits(
    batch_bytes=1 << 20,
    batch_seconds=1.0,
    in_flight=2,
    max_line_bytes=1 << 20,
    open_files=256,
    files=100_000,
    deleted_bytes=1 << 28,
    partial_seconds=2.0,
    multiline_seconds=3.0,
    rotated_seconds=30.0,
    request_seconds=30.0,
    drain_seconds=25.0,
    max_rate=None,
    clean_above=None,
)
SOURCE = Source(
    index=0,
    path="/logs/*.log",
    shown_as="/var/log",
    container="app",
    stream="file",
    exclude=(),
    format="text",
    multiline="none",
    fields={},
    attributes={},
    keep=None,
    drop=None,
    redact=(),
    skip_empty=False,
)


def source(**changes: Any) -> Source:
    return replace(SOURCE, **changes)


def facts(of: Source = SOURCE) -> FileFacts:
    return FileFacts("f0", "/var/log/a.log", of)


def block(
    data: bytes, *, start: int = 0, flush: bool = True, truncated: int = 0, of: Source = SOURCE
) -> Block:
    return Block(
        facts=facts(of),
        start=start,
        data=data,
        end=start + len(data) + truncated,
        read_at=READ_AT,
        truncated=truncated,
        flush=flush,
    )


def transform(max_line_bytes: int = 1 << 20, **changes: Any) -> Transform:
    return compile_transform(source(**changes), replace(LIMITS, max_line_bytes=max_line_bytes))


def records(data: bytes, *, max_line_bytes: int = 1 << 20, **changes: Any) -> Records:
    return transform(max_line_bytes, **changes)(block(data))


def decoded(made: Records) -> list[dict[str, Any]]:
    """Return the records as a reader of NDJSON has them."""
    if not made.count:
        return []
    lines = encode(made, ndjson_template(made.facts)).body.split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line) for line in lines]


def shipped(data: bytes, **changes: Any) -> list[dict[str, Any]]:
    return decoded(records(data, **changes))


def messages(data: bytes, **changes: Any) -> list[str]:
    return [record["message"] for record in shipped(data, **changes)]


def in_blocks(
    data: bytes, of: Transform, sizes: Iterator[int], counts: Iterator[int] | None = None
) -> Iterator[Records]:
    """Read `data` as the sidecar does: windows of whole lines, what is open is read again.

    Args:
        data: a whole file.
        of: makes records of a block.
        sizes: of each window, in bytes; a window in which all is open is doubled.
        counts: if given, no more than so many records of each block are taken.
    """
    place = 0
    window = next(sizes)
    while place < len(data):
        end = data.rfind(b"\n", place, place + window) + 1 or data.find(b"\n", place) + 1
        end = end or len(data)
        last = end == len(data)
        made = of(block(data[place:end], start=place, flush=last))
        if counts is not None:
            made = made.slice(0, made.cut(min(next(counts), made.count)) or made.together())
        if made.end == place:
            window = max(2 * window, 1)
            continue
        yield made
        place = made.end
        window = next(sizes)


def re2_knows(regex: str) -> bool:
    """Return whether RE2 can express it."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(regex, options)
    except re2.error:
        return False
    return True
