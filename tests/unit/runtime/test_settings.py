"""Parsers of single values: what is taken, and what never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import (
    MAX_SHOWN,
    Problem,
    SettingsError,
    ValueProblem,
    nearest,
    parse_boolean,
    parse_choice,
    parse_count,
    parse_seconds,
    parse_seconds_or_zero,
    parse_size,
    parse_text,
    shown,
)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (1, 1), ("1", 1), ("64KiB", 65536), ("64Ki", 65536), ("1.5Mi", 1572864), ("10M", 10**7),
        ("2G", 2 * 10**9), ("1TiB", 2**40), ("0.5KiB", 512),
    ],
)  # fmt: skip
def test_sizes_are_bytes_whatever_their_unit(value: object, size: int):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    [
        0, -1, True, None, [], {}, "", "0", "-1", "1e9", "0x10", "٣", "1_000", "NaN", "1 Mi",
        "1mib", "9" * 30, "1KB", ".5Mi", float("nan"), 1.5, 2**63, "0.0001",
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused(value: object):
    with pytest.raises(ValueProblem, match="a size"):
        parse_size(value)


@pytest.mark.parametrize("value", [0, -1, True, None, "x", "1e3", "inf", "", float("inf"), 10**12])
def test_what_is_no_positive_time_is_refused(value: object):
    with pytest.raises(ValueProblem):
        parse_seconds(value)


def test_zero_seconds_are_a_time_only_where_they_mean_something():
    assert parse_seconds_or_zero(0) == 0.0
    assert parse_seconds(0.001) == 0.001
    assert parse_seconds("2.5") == 2.5


@pytest.mark.parametrize("value", [0, 65536, "65536", "", True, 1.0, None, "+1", "１"])
def test_counts_stay_in_their_range(value: object):
    with pytest.raises(ValueProblem, match="from 1 to 65535"):
        parse_count(1, 65535)(value)


@pytest.mark.parametrize("value", ["True", "yes", "1", 1, 0, "on", "false ", None])
def test_only_true_and_false_are_booleans(value: object):
    with pytest.raises(ValueProblem):
        parse_boolean(value)


def test_choices_and_texts():
    assert parse_choice("a", "b")("b") == "b"
    with pytest.raises(ValueProblem, match="one of a, b"):
        parse_choice("a", "b")("c")
    with pytest.raises(ValueProblem):
        parse_text(3)("abcd")
    with pytest.raises(ValueProblem):
        parse_text()("a\0b")


@given(st.text())
def test_a_shown_value_is_short_and_printable(text: str):
    assert len(shown(text)) <= MAX_SHOWN
    assert shown(text).isprintable()


def test_a_misspelling_finds_its_neighbour():
    assert nearest("multline", ["multiline", "format"]) == "multiline"
    assert nearest("zzz", ["multiline", "format"]) is None


def test_an_error_lists_every_problem():
    error = SettingsError([Problem("a", "1", "2"), Problem("b", "3", "4")])

    assert str(error) == "a: got 1, expected 2; b: got 3, expected 4"
