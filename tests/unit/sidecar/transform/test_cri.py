import pytest

from tests.unit.sidecar.transform.blocks import (
    READ_TIME,
    block,
    decoded,
    messages,
    records,
    shipped,
    transform,
)


def cri(stream: str, tag: str, text: str, second: int = 0) -> bytes:
    return f"2024-05-01T00:00:{second:02d}.5Z {stream} {tag} {text}\n".encode()


@pytest.mark.parametrize(
    "changes", [{"stream": "stdout"}, {"format": "cri"}, {"stream": "stdout", "format": "cri"}]
)
def test_a_line_of_a_container_has_its_time_and_stream(changes: dict[str, str]):
    first = cri("stdout", "F", "one  two ")
    found = shipped(first + cri("stderr", "F", "x", 1), **changes)

    assert [(r["message"], r["time"], r["log.iostream"], r["offset"]) for r in found] == [
        ("one  two ", "2024-05-01T00:00:00.500000000Z", "stdout", 0),
        ("x", "2024-05-01T00:00:01.500000000Z", "stderr", len(first)),
    ]


def test_times_with_an_offset_are_sent_as_utc():
    line = b"2024-05-01T00:00:00.123456789+02:00 stdout F x\n"

    assert shipped(line, format="cri")[0]["time"] == "2024-04-30T22:00:00.123456789Z"


@pytest.mark.parametrize(
    "line",
    [
        b"no head at all",
        b"",
        b"2024-05-01T00:00:00Z",
        b"2024-05-01T00:00:00Z stdout",
        b"2024-05-01T00:00:00Z stdin F x",
        b"2024-05-01T00:00:00Z stdout X x",
        b"2024-05-01T00:00:00Z stdout FX x",
        b"2024-05-01T00:00:00Z  stdout F x",
        b"2024-05-01T00:00:00 stdout F x",
        b"2024-02-30T00:00:00Z stdout F x",
        b"2024-05-01T25:00:00Z stdout F x",
        b" 2024-05-01T00:00:00Z stdout F x",
    ],
)
def test_what_is_no_cri_line_is_a_record_as_it_stands(line: bytes):
    record = shipped(line + b"\n", format="cri")[0]

    assert record["message"] == line.decode()
    assert record["time"] == READ_TIME
    assert "log.iostream" not in record


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"2024-05-01T00:00:00Z stdout F\n", ""),
        (b"2024-05-01T00:00:00Z stdout F \n", ""),
        (b"2024-05-01T00:00:00Z stdout F\r\n", ""),
        (b"2024-05-01T00:00:00Z stdout F \r\n", ""),
        (b"2024-05-01T00:00:00Z stdout F  \n", " "),
        (b"2024-05-01T00:00:00Z stdout F:tag:x a b\r\n", "a b"),
        (b"2024-05-01T00:00:00Z stdout F a\r\r\n", "a\r"),
        (b"2024-05-01T00:00:00Z stdout F unterminated\r", "unterminated\r"),
    ],
)
def test_the_text_is_all_that_stands_behind_the_head(line: bytes, text: str):
    record = shipped(line, format="cri")[0]

    assert (record["message"], record["log.iostream"]) == (text, "stdout")


def test_parts_are_joined_each_stream_for_itself_and_stand_where_they_began():
    data = (
        cri("stdout", "P", "out one, ")
        + cri("stderr", "F", "err whole", 1)
        + cri("stderr", "P", "err part, ", 2)
        + cri("stdout", "P:x", "out two, ", 3)
        + cri("stdout", "F", "out end", 4)
        + cri("stderr", "F", "err end", 5)
    )
    made = records(data, stream="stdout")
    found = decoded(made)

    assert [(r["message"], r["time"][17:20]) for r in found] == [
        ("out one, out two, out end", "00."),
        ("err whole", "01."),
        ("err part, err end", "02."),
    ]
    assert [r["offset"] for r in found] == sorted(r["offset"] for r in found)
    assert made.line_count == 6
    assert made.columns is not None
    assert list(made.columns.lines or []) == [3, 1, 2]


def test_a_cr_in_the_middle_of_a_joined_line_stays():
    data = cri("stdout", "P", "one\r") + cri("stdout", "F", "\rtwo\r")

    assert messages(data, format="cri") == ["one\r\rtwo"]


def test_an_open_part_is_left_with_all_that_it_holds_up():
    whole = cri("stdout", "F", "before")
    data = whole + cri("stdout", "P", "part ") + cri("stderr", "F", "err")
    of = transform(format="cri")
    made = of(block(data, flush=False))

    assert [r["message"] for r in decoded(made)] == ["before"]
    assert made.end == len(whole)

    again = of(block(data[made.end :] + cri("stdout", "F", "end"), start=made.end, flush=False))
    assert [r["message"] for r in decoded(again)] == ["part end", "err"]
    assert again.end == len(data) + len(cri("stdout", "F", "end"))


def test_an_open_part_holds_up_the_line_that_began_before_it_and_ends_behind_it():
    data = (
        cri("stdout", "P", "out ")
        + cri("stderr", "P", "err ")
        + cri("stdout", "F", "end")
        + cri("stdout", "F", "next")
    )
    made = transform(format="cri")(block(data, start=5, flush=False))

    assert (made.count, made.end) == (0, 5)


def test_a_flushed_block_sends_open_parts():
    data = cri("stdout", "P", "out ") + cri("stderr", "F", "err")

    assert messages(data, format="cri") == ["out ", "err"]


def test_a_batch_may_not_end_between_parts():
    data = (
        cri("stdout", "P", "a")
        + cri("stderr", "F", "b")
        + cri("stdout", "F", "c")
        + cri("stdout", "F", "d")
    )
    made = records(data, format="cri")

    assert [made.cut(count) for count in range(4)] == [0, 0, 2, 3]
    assert made.together() == 2


def test_a_line_longer_than_the_limit_goes_on_as_another_record_and_loses_nothing():
    data = b"".join(cri("stdout", "P", letter * 10) for letter in "abcde") + cri("stdout", "F", "f")
    made = records(data, format="cri", max_line_bytes=25)

    assert [r["message"] for r in decoded(made)] == [
        "a" * 10 + "b" * 10,
        "c" * 10 + "d" * 10,
        "e" * 10 + "f",
    ]
    assert len(made.splits) == 2


def test_the_format_speaks_of_the_text_inside():
    data = cri("stdout", "P", '{"level":"err') + cri("stdout", "F", 'or","ts":1714564800.25}')
    record = shipped(data, stream="stdout", format="json")[0]

    assert record["severity"] == "error"
    assert record["parsed"] == {"level": "error", "ts": 1714564800.25}
    assert record["time"] == "2024-05-01T12:00:00.250000000Z"


def test_a_line_whose_json_says_no_time_keeps_that_of_the_container():
    record = shipped(cri("stderr", "F", '{"a":1}'), stream="stdout", format="json")[0]

    assert record["time"] == "2024-05-01T00:00:00.500000000Z"
    assert record["log.iostream"] == "stderr"


def test_a_line_of_bytes_that_are_not_utf8_is_undone_all_the_same():
    line = b"2024-05-01T00:00:00Z stdout F a\xffb\n"
    record = shipped(line, format="cri")[0]

    assert record["message"] == "a\ufffdb"
    assert record["message.raw"] == "Yf9i"
