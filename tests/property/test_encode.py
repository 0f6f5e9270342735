"""The C files and their twins in Python: the same bytes and columns for whatever they are given."""

import random
import shutil
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.block import FileFacts
from sidecar.build_encoder import build
from sidecar.encode import Body
from sidecar.native import Library
from sidecar.ndjson import ndjson_template
from sidecar.settings import Source
from sidecar.transform.compile import compile_transform
from sidecar.transform.records import NO_TIME, Columns, Records
from sidecar.wire import (
    Clock,
    IoStream,
    MapHeader,
    Message,
    Number,
    Offset,
    PackedId,
    Parsed,
    ParseError,
    RawMessage,
    ReadAt,
    Severity,
    Template,
    Text,
    Time,
    Truncated,
)
from tests.unit.sidecar.transform.blocks import LIMITS, READ_AT, block, decoded, facts, source

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=["vectors", "portable"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    path: Path = tmp_path_factory.mktemp("encoder") / "encode.so"
    build(path, flags=["-DSIDETAIL_PORTABLE"] if request.param == "portable" else [])
    return Library(path)


def body_of(library: Library | None, size: int = 0) -> Body:
    body = Body(4096)
    body._library = library
    body.write(b"x" * size)
    return body


# --- encoding

PIECES = st.sampled_from(
    [
        *(b"a", b"plain text of some length", b'"', b"\\", b"\n", b"\r", b"\t", b"\0", b"\x1f"),
        *(b"\x7f", b"\xc2\x80", "é".encode(), "\u2028".encode(), "😀".encode(), b"\xff", b"\xc3"),
        *(b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xe0\x80\xaf"),
        *(b"\xf5", b"\xc0\xaf", b"\x80", b"\xe1\xa0\xc0", b"x" * 16, b"y" * 31),
    ]
)
TEXTS = st.lists(PIECES | st.binary(max_size=20), max_size=12).map(b"".join)
LITERALS = st.binary(max_size=12)
FORMS = st.sampled_from(Text)
NUMBERS = st.sampled_from(Number)
CLOCKS = st.sampled_from(Clock)
PARTS = st.one_of(
    LITERALS,
    LITERALS,
    st.builds(Offset, NUMBERS),
    st.builds(Time, CLOCKS),
    st.builds(ReadAt, CLOCKS),
    st.builds(Message, FORMS),
    st.builds(RawMessage, LITERALS, LITERALS, FORMS),
    st.builds(Truncated, LITERALS, LITERALS, NUMBERS),
    st.builds(Severity, st.lists(LITERALS, min_size=6, max_size=6), LITERALS),
    st.builds(IoStream, LITERALS, LITERALS, LITERALS),
    st.builds(ParseError, LITERALS, LITERALS, FORMS),
    st.builds(Parsed, LITERALS, LITERALS),
    st.builds(MapHeader, st.integers(0, 1000)),
    st.builds(PackedId, LITERALS),
)
CONVERTERS = st.sampled_from([None, None, lambda text: b"<" + text + b">", lambda text: text[1:]])
TEMPLATES = st.builds(
    Template,
    st.lists(PARTS, max_size=14),
    framed=st.booleans(),
    increasing=st.booleans(),
    parsed_as=CONVERTERS,
)
SECONDS = st.one_of(
    st.just(NO_TIME),
    st.integers(1_714_564_790, 1_714_564_810),
    st.integers(-62_135_596_800, 253_402_300_799),
)
NANOS = st.one_of(st.sampled_from([0, 1, 999_999_999]), st.integers(0, 999_999_999))
MARKS = st.integers(0, 2**10 - 1)
READ_ATS = st.integers(0, 2**62)


def column(draw: st.DrawFn, each: st.SearchStrategy[int], count: int) -> "array[int] | None":
    if not draw(st.booleans()):
        return None
    return array("q", draw(st.lists(each, min_size=count, max_size=count)))


@st.composite
def columned(draw: st.DrawFn) -> Records:
    text, parsed = draw(TEXTS), draw(TEXTS)
    count = draw(st.integers(1, 6))
    places = st.integers(0, len(text))
    spans = [sorted((draw(places), draw(places))) for _ in range(count)]
    marks = column(draw, MARKS, count)
    seconds = column(draw, SECONDS, count)
    inside = st.integers(0, min(len(text), len(parsed)))
    parsed_spans = [sorted((draw(inside), draw(inside))) for _ in range(count)]
    has_parsed = draw(st.booleans())
    columns = Columns(
        begins=array("q", [begin for begin, _ in spans]),
        ends=array("q", [end for _, end in spans]),
        offsets=array("q", sorted(draw(st.integers(0, 2**62)) for _ in range(count))),
        seconds=seconds,
        nanos=None if seconds is None else array("q", [draw(NANOS) for _ in range(count)]),
        marks=marks,
        truncated=column(draw, st.sampled_from([0, 0, 1, 2**40]), count),
        parsed_begins=array("q", [begin for begin, _ in parsed_spans]) if has_parsed else None,
        parsed_ends=array("q", [end for _, end in parsed_spans]) if has_parsed else None,
    )
    return Records(
        facts=facts(),
        read_at=draw(READ_ATS),
        start=0,
        end=2**62 + 1,
        text=text,
        count=count,
        columns=columns,
        parsed=parsed,
    )


@st.composite
def plain(draw: st.DrawFn) -> Records:
    text = b"\n".join(draw(st.lists(TEXTS, min_size=1, max_size=6))) + draw(
        st.sampled_from([b"\n", b"", b"\r\n"])
    )
    text = text or b"\n"
    count = text.count(b"\n") + (not text.endswith(b"\n"))
    start = draw(st.integers(0, 2**61))
    return Records(
        facts=facts(),
        read_at=draw(READ_ATS),
        start=start,
        end=start + len(text),
        text=text,
        count=count,
    )


@EXAMPLES
@given(
    records=plain() | columned(),
    template=TEMPLATES,
    room=st.integers(0, 700),
    size=st.sampled_from([0, 10]),
    after=st.sampled_from([0, READ_AT]) | st.integers(0, 2**62),
    with_ends=st.booleans(),
)
def test_both_ways_write_the_same_bytes(
    library: Library,
    records: Records,
    template: Template,
    room: int,
    size: int,
    after: int,
    with_ends: bool,
):
    written = []
    for way in (library, None):
        with body_of(way, size) as body:
            count = body.append(records, template, room, after=after, with_ends=with_ends)
            last_time = body.last_time if count else None
            written.append((count, bytes(body.view()), list(body.ends), last_time))

    assert written[0] == written[1]


@EXAMPLES
@given(records=plain() | columned(), template=TEMPLATES, after=st.integers(0, 2**62))
def test_the_ends_of_records_tile_the_body(
    library: Library, records: Records, template: Template, after: int
):
    with body_of(library) as body:
        body.append(records, template, 1 << 40, after=after, with_ends=True)
        ends = list(body.ends)

        assert len(ends) == records.count
        assert ends == sorted(ends)
        assert ends[-1] == body.size


@EXAMPLES
@given(records=plain() | columned(), room=st.integers(0, 3000))
def test_a_cut_body_holds_the_first_of_all_records(library: Library, records: Records, room: int):
    template = ndjson_template(records.facts)
    with body_of(library) as whole, body_of(library) as cut:
        whole.append(records, template, 1 << 40, with_ends=True)
        count = cut.append(records, template, room)

        assert count >= 1
        assert bytes(cut.view()) == bytes(whole.view())[: whole.ends[count - 1]]
        assert count == records.count or whole.ends[count] > room
        assert count == 1 or whole.ends[count - 1] <= room


# --- the transform

HEADS = st.sampled_from(
    [
        *(b"2024-05-01T12:00:00.123456789Z stdout F ", b"2024-05-01T12:00:00Z stderr P "),
        *(b"2024-05-01T12:00:00+02:00 stdout F:x ", b"2024-05-01T12:00:00,5-0130 stderr P:\xff "),
        *(b"2024-02-30T12:00:00Z stdout F ", b"2024-05-01T12:00:00Z stdout F", b"9999-12-31 "),
        *(b"2024-05-01T12:00:00Z stdout X ", b"2024-05-01T12:00:60Z  stdout F ", b""),
        *(b'{"log":"', b'{"log":"x\\n","stream":"stderr","time":"2024-05-01T00:00:00Z"}'),
        *(b'{"level":"warn","ts":1714564800.25,', b'{"a":', b"{", b"level=info ", b"a=", b'm="'),
        *(b"E0102 03:04:05.678901 ", b"I0102 03:04:05.67890", b"\xef\xbb\xbf{", b" { "),
    ]
)
TOKENS = st.sampled_from(
    [
        *(b'"', b"{", b"}", b"[", b"]", b":", b",", b" ", b"=", b"\\", b"\\n", b"\\u00e9"),
        *(b"\\ud83d", b"time=", b"ts=1714564800", b'"\\u0061":', b'"timestamp":', b"null"),
        *(b'"a"', b'"a":', b'"a":1,', b'"b":"x"', b'"time":', b'"level":"error"', b"true"),
        *(b"1", b"0", b"-1", b"1.5e3", b"1e999", b"01", b"1e-7", b"1.", b"2024-05-01T12:00:00Z"),
        *(b"1714564800", b"1714564800.123456789", b'"ts":', b'"severity":30', b"\xff"),
        *(b"\\n", b'\\n","stream":"stdout","time":"2024-05-01T00:00:00.5Z"}', b"\xc3\xa9"),
        *(b"\r", b"\t", b"\0", b"stdout", b" F ", b"}" * 3, b"[" * 70),
        *(b"9" * 299, b"9" * 310, b"e5", b"NaN", b"-", b"Infinity", b"an ordinary sentence"),
    ]
)
LINES = st.builds(
    lambda head, tokens: head + b"".join(tokens), HEADS, st.lists(TOKENS, max_size=14)
)
CHANGES: list[dict[str, Any]] = [
    {"format": "cri"},
    {"format": "docker"},
    {"format": "json"},
    {"format": "logfmt"},
    {"format": "auto"},
    {"stream": "stdout", "format": "json"},
    {"stream": "stdout", "multiline": "auto", "keep": "a"},
    {"skip_empty": True, "drop": "a$"},
    {"format": "auto", "multiline": "/^./", "redact": (("n", r"\d+"),)},
]


def made_by(way: Library | None, of: Source, data: bytes) -> tuple[Any, ...]:
    with pytest.MonkeyPatch.context() as patch:
        for module in native_users():
            patch.setattr(module, "library", lambda: way)
        made = compile_transform(of, LIMITS)(block(data, start=7, of=of))
        records = decoded(made)
    return records, made.start, made.end, made.count, made.line_count, dict(made.dropped)


def native_users() -> list[Any]:
    from sidecar import encode
    from sidecar.transform import cri, docker, lines, multiline, parse, patterns, tight
    from sidecar.transform import filter as filtering

    return [encode, cri, docker, filtering, lines, multiline, parse, patterns, tight]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@settings(EXAMPLES, max_examples=50)
@given(lines=st.lists(LINES, min_size=1, max_size=6))
def test_both_ways_make_the_same_records(
    library: Library, changes: dict[str, Any], lines: list[bytes]
):
    data = b"\n".join(lines) + b"\n"
    of = source(**changes)

    assert made_by(library, of, data) == made_by(None, of, data)


def test_both_ways_agree_on_random_bytes(library: Library):
    numbers = random.Random(random.randrange(2**32))
    alphabet = b'\n\r\t "\\{}[]:,=0123456789abcdefn-TZ.+\xc3\xa9\xff\xe2\x82\xac\0'
    for _ in range(100):
        weights = [numbers.random() ** 4 for _ in alphabet]
        data = bytes(numbers.choices(alphabet, weights, k=numbers.randrange(1, 3000)))
        of = source(**numbers.choice([{}, *CHANGES]))

        assert made_by(library, of, data) == made_by(None, of, data), data


def test_a_body_grows_for_what_it_did_not_expect(library: Library):
    text = b"\x01" * 3_000_000 + b"\n" + b"b\n"
    made = compile_transform(source(), LIMITS)(block(text))
    template = ndjson_template(made.facts)
    for way in (library, None):
        with body_of(way) as body:
            assert body.append(made, template, 1000) == 1
            assert body.size > 18_000_000
            held = body.view()
            assert body.append(made.slice(1, 2), template, 1 << 40) == 1
            assert bytes(held[-3:]) == b'"}\n'
            held.release()


def test_memory_beyond_the_usual_goes_back(library: Library):
    made = compile_transform(source(), LIMITS)(block(b"\x01" * 3_000_000 + b"\n"))
    with body_of(library) as body:
        body.append(made, ndjson_template(made.facts), 1 << 40)
        body.clear()
        assert body.size == 0
        body.write(b"begin")
        assert bytes(body.view()) == b"begin"
        assert bytes(body._memory[8_000_000:8_000_100]) == bytes(100)


def test_a_file_s_name_and_a_template_s_literals_may_be_long(library: Library):
    named = FileFacts("f", "/" + "x" * 5000, source(fields={"a": "y" * 9000}))
    made = replace(compile_transform(source(), LIMITS)(block(b"a\nb\n")), facts=named)
    written = []
    for way in (library, None):
        with body_of(way) as body:
            body.append(made, ndjson_template(named), 1 << 40)
            written.append(bytes(body.view()))

    assert written[0] == written[1]
