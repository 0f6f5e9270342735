"""How a file is cut into blocks and batches changes nothing about its records."""

import itertools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sidecar.transform.blocks import block, decoded, in_blocks, transform

LINES = st.sampled_from(
    [
        b"",
        b"INFO one",
        b"2024-05-01 ERROR failed",
        b"WARN: odd",
        b"\tat com.shop.Orders.open(Orders.java:17)",
        b"java.lang.IllegalStateException: no",
        b"Caused by: a.b.CException: c",
        b"\t... 3 more",
        b"Traceback (most recent call last):",
        b'  File "a.py", line 3, in <module>',
        b"ValueError: no",
        b"During handling of the above exception, another exception occurred:",
        b"panic: boom",
        b"goroutine 1 [running]:",
        b"main.main()",
        b"\t/app/main.go:8 +0x1d",
        b"exit status 2",
        b"  + Exception Group Traceback (most recent call last):",
        b"  | ValueError: x",
        b'{"level":"warn","msg":"a","time":"2024-05-01T00:00:00Z"}',
        b'{"level":"warn","level":"info"}',
        b'{"a":',
        b'level=info msg="a b" ts=1714564800.5',
        b"I0102 03:04:05.678901 1 main.go:1] klog",
        b"[1] first",
        b"secret@example.com",
        b"carriage\r",
        b"\0\0after a hole",
        b"\xff not UTF-8 \xc3\xa9",
    ]
)
STREAMS = st.sampled_from([b"stdout", b"stderr"])
TAGS = st.sampled_from([b"F", b"F", b"F", b"P", b"P:x"])
CRI_LINES = st.builds(
    lambda nano, stream, tag, text: (
        b"2024-05-01T00:00:00.%09dZ %s %s %s" % (nano, stream, tag, text)
    ),
    st.integers(0, 999_999_999),
    STREAMS,
    TAGS,
    LINES,
)
MODES = st.sampled_from(["none", "java", "python", "go", "indented", "auto", r"/^\[\d+\]/"])
SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=8)
EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
COUNTS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def whole_and_cut(
    content: bytes, sizes: list[int], counts: list[int], **changes: Any
) -> tuple[list[Any], list[Any]]:
    of = transform(**changes)
    whole = of(block(content))
    parts = list(in_blocks(content, of, itertools.cycle(sizes), itertools.cycle(counts)))
    assert whole.line_count + sum(whole.dropped.values()) == sum(
        part.line_count + sum(part.dropped.values()) for part in parts
    )
    assert [part.end for part in parts][-1:] == [whole.end]
    assert whole.nul_bytes == sum(part.nul_bytes for part in parts)
    return decoded(whole), [record for part in parts for record in decoded(part)]


@EXAMPLES
@given(multiline=MODES, lines=st.lists(LINES, min_size=1, max_size=40), sizes=SIZES, counts=COUNTS)
def test_lines_of_files(multiline: str, lines: list[bytes], sizes: list[int], counts: list[int]):
    content = b"\n".join(lines) + b"\n"
    whole, cut = whole_and_cut(content, sizes, counts, multiline=multiline)

    assert cut == whole


@EXAMPLES
@given(
    multiline=MODES, lines=st.lists(CRI_LINES, min_size=1, max_size=40), sizes=SIZES, counts=COUNTS
)
def test_streams_of_containers(
    multiline: str, lines: list[bytes], sizes: list[int], counts: list[int]
):
    content = b"\n".join(lines) + b"\n"
    changes: dict[str, Any] = {"stream": "stdout", "multiline": multiline}
    whole, cut = whole_and_cut(content, sizes, counts, **changes)

    assert cut == whole


@EXAMPLES
@given(
    format=st.sampled_from(["text", "json", "logfmt", "auto", "cri"]),
    lines=st.lists(LINES | CRI_LINES, min_size=1, max_size=40),
    sizes=SIZES,
    counts=COUNTS,
    multiline=st.sampled_from(["none", "auto"]),
    keep=st.sampled_from([None, "e", "^INFO|ERROR$"]),
    drop=st.sampled_from([None, "a", r"\d\d"]),
    redact=st.sampled_from([(), (("email", r"\w+@\w+"),), (("n", r"\d+"), ("v", "Value|no"))]),
    skip_empty=st.booleans(),
)
def test_formats_and_filters(
    lines: list[bytes], sizes: list[int], counts: list[int], **changes: Any
):
    content = b"\n".join(lines) + b"\n"
    whole, cut = whole_and_cut(content, sizes, counts, **changes)

    assert cut == whole
