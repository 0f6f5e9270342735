"""Regexes that people write, as all our processes read them."""

import pytest

from runtime.patterns import MAX_PATTERN_BYTES, parse_pattern
from runtime.settings import ValueProblem


@pytest.mark.parametrize("pattern", ["ERROR|WARN", "(a+)+$", r"\p{Greek}", "(?i)fatal", "^$"])
def test_what_re2_expresses_is_returned_as_it_stands(pattern):
    assert parse_pattern(pattern) == pattern


@pytest.mark.parametrize(
    "value", ["", None, 3, ["a"], "(", "(?<=x)", r"(a)\1", "((a{100}){100}){100}", "\ud800"]
)
def test_what_re2_does_not_express_is_refused(value):
    with pytest.raises(ValueProblem, match="a regex"):
        parse_pattern(value)


def test_a_pattern_that_is_refused_is_not_shown():
    with pytest.raises(ValueProblem) as caught:
        parse_pattern("token=s3cret(")

    assert "s3cret" not in str(caught.value)


def test_the_length_counts_in_bytes():
    assert parse_pattern("é" * (MAX_PATTERN_BYTES // 2))
    with pytest.raises(ValueProblem, match="4096 bytes"):
        parse_pattern("é" * (MAX_PATTERN_BYTES // 2) + "x")
