import pytest

from sidecar.transform.patterns import Pattern
from tests.unit.sidecar.transform.blocks import block, messages, records, transform


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("ERROR", ["ERROR a", "x ERROR"]),
        ("^ERROR", ["ERROR a"]),
        ("ERROR$", ["x ERROR"]),
        ("^$", [""]),
        ("", ["ERROR a", "x ERROR", "", "info"]),
        ("(?i)INFO|error a", ["ERROR a", "info"]),
        (r"\AERROR", ["ERROR a"]),
        (r"ERROR\z", ["x ERROR"]),
        ("(?-m)^ERROR", ["ERROR a"]),
        ("(?s)ERROR.*info", []),
        (r"ERROR\s", ["ERROR a"]),
        ("[^x]ERROR", ["x ERROR"]),
        (r"\QERROR", ["ERROR a", "x ERROR"]),
        ("é", []),
    ],
)
def test_a_pattern_matches_anywhere_in_one_record(pattern: str, kept: list[str]):
    assert messages(b"ERROR a\nx ERROR\n\ninfo\n", keep=pattern) == kept


def test_what_is_dropped_is_counted_and_what_stays_keeps_its_offset():
    made = records(b"a1\nb2\na3\nb4\nb5\n", drop="^a")

    assert [made.offset(index) for index in range(made.count)] == [3, 9, 12]
    assert made.dropped == {"filtered": 2}
    assert (made.line_count, made.end) == (3, 15)


def test_drop_wins_over_keep():
    assert messages(b"ERROR a\nERROR b\nINFO\n", keep="ERROR", drop="b") == ["ERROR a"]


def test_a_block_of_which_all_is_kept_stays_the_bytes_that_were_read():
    assert records(b"a\nab\n", keep="a", drop="x").columns is None


def test_a_block_of_which_nothing_is_kept_is_used_up():
    made = transform(keep="x")(block(b"a\nb\n", start=5))

    assert (made.count, made.start, made.end) == (0, 5, 9)
    assert made.dropped == {"filtered": 2}


def test_the_cr_before_the_newline_is_not_seen():
    assert messages(b"one\r\ntwo\r\n", keep="one$") == ["one"]


def test_a_pattern_sees_bytes_that_are_not_utf8_as_they_are_sent():
    data = b"a\xffb\nab\n\xc3\xa9\n"

    assert messages(data, keep="a.b") == ["a\ufffdb"]
    assert messages(data, keep="^\ufffd|é") == ["é"]
    assert messages(data, keep="\ufffd") == ["a\ufffdb"]


def test_a_pattern_sees_a_joined_record_as_one_text():
    data = b"one\n  two\nthree\n  two\n"

    assert messages(data, multiline="indented", keep=r"^one\n\s+two$") == ["one\n  two"]
    assert messages(data, multiline="indented", keep="^  two") == []
    assert messages(data, multiline="indented", keep="(?m)^  two", drop="one") == ["three\n  two"]


def test_the_lines_of_a_dropped_record_are_all_counted():
    made = records(b"one\n  two\nthree\n", multiline="indented", drop="two")

    assert made.dropped == {"filtered": 2}


def test_a_dropped_record_that_others_run_into_still_holds_up_a_cut():
    def cri(stream: str, tag: str, text: str) -> bytes:
        return f"2024-05-01T00:00:00Z {stream} {tag} {text}\n".encode()

    data = (
        cri("stdout", "P", "drop ")
        + cri("stderr", "F", "one")
        + cri("stderr", "F", "two")
        + cri("stdout", "F", "me")
        + cri("stdout", "F", "three")
    )
    made = records(data, format="cri", drop="drop me")

    assert [made.message(index) for index in range(made.count)] == [b"one", b"two", b"three"]
    assert made.cut(1) in {0, 2}


@pytest.mark.parametrize("data", [b"a\nx\n", b"a\nx", b"a\n\n", b"\n", b""])
def test_a_pattern_that_matches_nothing_at_all_matches_each_line_and_no_more(data: bytes):
    made = records(data)

    assert Pattern("x*$").mask(made) == b"\1" * made.count


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"(\w+\s?)*$", "(.*)*x"])
def test_a_hostile_line_costs_linear_time_whatever_the_pattern(pattern: str):
    line = b"a" * 1_000_000

    assert messages(line + b"\nb\n", drop="nothing like it", keep=f"{pattern}|^b$")[-1] == "b"
