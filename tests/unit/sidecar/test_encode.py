"""What a body promises to a batch, by both ways."""

import json
from array import array
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from sidecar import native
from sidecar.block import FileFacts
from sidecar.encode import Body, encode
from sidecar.ndjson import ndjson_template
from sidecar.transform.lines import with_columns
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
from tests.unit.sidecar.transform.blocks import READ_AT, block, facts, records, source, transform


@pytest.fixture(params=["native", "python"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    if request.param == "python":
        monkeypatch.setenv(native.ENCODER_ENV, "python")
    native.library.cache_clear()
    if request.param == "native" and native.library() is None:
        pytest.skip("no encoder library: make encoder")
    yield
    native.library.cache_clear()


LINE = Template([Offset(), b" ", Message(Text.UTF8), b"\n"])


def test_a_body_takes_what_fits_and_says_how_much():
    made = records(b"aaaa\nbbbb\ncccc\n")
    with Body(100) as body:
        assert body.append(made, LINE, 14) == 2
        assert bytes(body.view()) == b"0 aaaa\n5 bbbb\n"
        assert body.append(made, LINE, 14) == 0
        assert body.append(made, LINE, 20) == 0
        assert body.append(made, LINE, 21) == 1
        assert body.size == 21


def test_an_empty_body_takes_a_record_however_large():
    with Body(10) as body:
        assert body.append(records(b"a" * 1000 + b"\nb\n"), LINE, 1) == 1
        assert body.size == 1003


def cri(stream: str, tag: str, text: str) -> bytes:
    return f"2024-05-01T00:00:00Z {stream} {tag} {text}\n".encode()


def test_records_that_interleave_go_together_or_not_at_all():
    data = (
        cri("stdout", "F", "zero")
        + cri("stdout", "P", "a")
        + cri("stderr", "F", "b")
        + cri("stdout", "F", "c")
        + cri("stdout", "F", "d")
    )
    made = records(data, format="cri")
    messages = Template([Message(Text.UTF8), b"\n"])
    with Body(100) as body:
        assert body.append(made, messages, 8) == 1
        assert bytes(body.view()) == b"zero\n"
        assert body.append(made.slice(1, 4), messages, 9) == 0
        assert body.size == 5
        assert body.append(made.slice(1, 4), messages, 10) == 2
        assert bytes(body.view()) == b"zero\nac\nb\n"
    with Body(100) as body:
        assert body.append(made.slice(1, 4), messages, 1) == 2


def test_a_body_is_used_again():
    with Body(100) as body:
        body.append(records(b"aaaa\n"), LINE, 100)
        body.clear()
        body.write(b"[")
        body.append(records(b"b\n"), LINE, 100)
        body.write(b"]")

        assert bytes(body.view()) == b"[0 b\n]"


def test_records_are_told_apart_in_what_was_encoded():
    encoded = encode(records(b"a\n\nccc"), LINE)

    assert encoded.body == b"0 a\n2 \n3 ccc\n"
    assert list(encoded.ends) == [4, 7, 13]
    assert encoded.each() == [b"0 a\n", b"2 \n", b"3 ccc\n"]


def test_a_frame_is_the_length_and_a_space():
    template = Template([b"<14>1 ", Message(Text.UTF8)], framed=True)

    assert (
        encode(records("é\nbb bb bb\n".encode()), template).body
        == "8 <14>1 é14 <14>1 bb bb bb".encode()
    )


@pytest.mark.parametrize(
    ("clock", "text"),
    [
        (Clock.RFC3339, b"2024-05-01T12:00:00.123456789Z"),
        (Clock.MICROSECONDS, b"2024-05-01T12:00:00.123456Z"),
        (Clock.NANOSECONDS, b"1714564800123456789"),
        (Clock.EVENT_TIME, bytes.fromhex("66322ec0075bcd15")),
    ],
)
def test_times_are_written_as_the_backend_has_them(clock: Clock, text: bytes):
    assert encode(records(b"a\n"), Template([Time(clock)])).body == text
    assert encode(records(b"a\n"), Template([ReadAt(clock)])).body == text


@pytest.mark.parametrize(
    ("stamp", "clock", "text"),
    [
        ("0001-01-01T00:00:00Z", Clock.RFC3339, b"0001-01-01T00:00:00.000000000Z"),
        ("9999-12-31T23:59:59.5Z", Clock.RFC3339, b"9999-12-31T23:59:59.500000000Z"),
        ("1969-12-31T23:59:59.5Z", Clock.RFC3339, b"1969-12-31T23:59:59.500000000Z"),
        ("1600-02-29T00:00:00Z", Clock.RFC3339, b"1600-02-29T00:00:00.000000000Z"),
        ("1969-12-31T23:59:59.5Z", Clock.NANOSECONDS, b"0"),
        ("2999-01-01T00:00:00Z", Clock.NANOSECONDS, b"9223372036854775807"),
        ("2262-04-11T23:47:16.854775807Z", Clock.NANOSECONDS, b"9223372036854775807"),
        ("1969-12-31T23:59:59.5Z", Clock.EVENT_TIME, bytes(8)),
        ("2999-01-01T00:00:00Z", Clock.EVENT_TIME, b"\xff\xff\xff\xff" + bytes(4)),
    ],
)
def test_times_far_away_are_written_as_near_as_the_form_allows(
    stamp: str, clock: Clock, text: bytes
):
    made = records(f'{{"time":"{stamp}"}}\n'.encode(), format="json")

    assert encode(made, Template([Time(clock)])).body == text


def times(*nanos: int, after: int = 0) -> tuple[list[int], int]:
    made = with_columns(records(b"a\n" * len(nanos)))
    assert made.columns is not None
    seconds, rests = zip(*(divmod(nano, 10**9) for nano in nanos), strict=True)
    columns = replace(made.columns, seconds=array("q", seconds), nanos=array("q", rests))
    template = Template([Time(Clock.NANOSECONDS), b" "], increasing=True)
    encoded = encode(replace(made, columns=columns), template, after=after)
    return [int(time) for time in encoded.body.split()], encoded.last_time


NOW = 1_714_564_800 * 10**9


def test_increasing_times_are_a_nanosecond_apart_where_they_stand_still():
    assert times(NOW, NOW, NOW - 5, NOW + 9) == ([NOW, NOW + 1, NOW + 2, NOW + 9], NOW + 9)


def test_increasing_times_go_on_behind_the_last_one_that_was_sent():
    assert times(NOW, after=NOW + 7) == ([NOW + 8], NOW + 8)


def test_a_line_from_the_future_does_not_drag_the_others_there():
    future = NOW + 10**18

    assert times(NOW, future, NOW + 1, NOW + 1)[0] == [NOW, future, NOW + 1, NOW + 2]


def test_increasing_times_carry_over_a_second():
    last = NOW + 999_999_999

    assert times(last, last, last)[0] == [last, last + 1, last + 2]


def test_lines_without_a_time_of_their_own_are_a_nanosecond_apart():
    template = Template([Time(Clock.NANOSECONDS), b" "], increasing=True)
    encoded = encode(records(b"a\nb\nc\n"), template)

    assert encoded.body.split() == [b"%d" % (READ_AT + number) for number in range(3)]
    assert encoded.last_time == READ_AT + 2


def packed(made: Any, *, parsed_as: Any = None) -> list[dict[str, Any]]:
    def key(name: str) -> bytes:
        return bytes(msgpack.packb(name))

    template = Template(
        [
            MapHeader(3),
            key("message"),
            Message(Text.MSGPACK),
            key("offset"),
            Offset(Number.MSGPACK),
            key("id"),
            PackedId(b"f0-"),
            Severity([key("severity") + key(name) for name in "abcdef"]),
            IoStream(key("iostream") + key("out"), key("iostream") + key("err")),
            Truncated(key("truncated"), form=Number.MSGPACK),
            RawMessage(key("raw"), form=Text.MSGPACK),
            ParseError(key("error"), form=Text.MSGPACK),
            Parsed(key("parsed")),
        ],
        parsed_as=parsed_as,
    )
    body = encode(made, template).body
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    return list(unpacker)


def test_a_msgpack_map_counts_the_facts_that_are_there():
    data = b'{"level":"warn","a":1}\n{"a":\ntext \xff\n'
    found = packed(
        records(data, format="json"), parsed_as=lambda text: bytes(msgpack.packb(json.loads(text)))
    )

    assert found == [
        {
            "message": '{"level":"warn","a":1}',
            "offset": 0,
            "id": "f0-0",
            "severity": "d",
            "parsed": {"level": "warn", "a": 1},
        },
        {"message": '{"a":', "offset": 23, "id": "f0-23", "error": "not a JSON object"},
        {
            "message": "text \ufffd",
            "offset": 29,
            "id": "f0-29",
            "raw": "dGV4dCD/",
            "error": "not a JSON object",
        },
    ]


def test_a_msgpack_map_of_a_plain_line_and_of_one_that_was_cut():
    assert packed(records(b"a\n")) == [{"message": "a", "offset": 0, "id": "f0-0"}]
    cut = transform()(block(b"abc", truncated=2**40))
    assert packed(cut)[0]["truncated"] == 2**40


def test_redacted_bytes_are_in_no_form():
    made = records(b"joe@x.com \xff\n", redact=(("email", r"\w+@\w+\.com"),))

    assert packed(made) == [{"message": "[redacted] \ufffd", "offset": 0, "id": "f0-0"}]


def test_each_line_is_one_line_of_ndjson_whatever_it_holds():
    line = bytes(set(range(256)) - {10}) + "\u2028\u2029\x85\u202e".encode()
    made = records(line + b"\n" + line + b"\n")
    body = encode(made, ndjson_template(made.facts)).body

    assert body.count(b"\n") == 2
    assert all(json.loads(text)["message"] for text in body.splitlines())
    assert not any(byte in body.replace(b"\n", b"") for byte in range(32))


def test_a_name_that_is_half_a_surrogate_pair_does_not_break_a_template():
    of = source(fields={"\ud800": "\udfff"}, attributes={"k8s.pod.label.\ud83d": "x"})
    made = replace(records(b"a\n"), facts=facts(of))
    record = json.loads(encode(made, ndjson_template(made.facts)).body)

    assert record["fields"] == {"\ud800": "\udfff"}


def test_a_path_with_quotes_is_a_path():
    named = FileFacts("f0", '/var/log/a"b\\x01.log', source())
    made = replace(records(b"a\n"), facts=named)

    assert json.loads(encode(made, ndjson_template(named)).body)["log.file.path"] == named.path


def test_a_template_has_bounds():
    with pytest.raises(ValueError, match="64"):
        Template([Offset(), b"-"] * 33)
    with pytest.raises(ValueError, match="6"):
        Severity([b"a", b"b"])
    with pytest.raises(ValueError, match="235"):
        PackedId(b"x" * 236)


def test_an_empty_template_writes_nothing():
    assert encode(records(b"a\nb\n"), Template([])).body == b""
