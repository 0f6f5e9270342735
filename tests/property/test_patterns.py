"""Patterns mean the same on a block as on each of its records, and the same without RE2."""

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar import native
from sidecar.transform.patterns import Pattern, sent_messages
from sidecar.transform.simple_patterns import Simple, read_simple
from sidecar.transform.tight import tighten
from tests.unit.sidecar.transform.blocks import records

EXAMPLES = settings(max_examples=400, deadline=None)

ATOMS = st.sampled_from(
    [
        *("a", "b", "A", "1", " ", "é", "-", ".", r"\.", r"\s", r"\S", r"\d", r"\D", r"\w", r"\W"),
        *("[^a]", "[ab]", "[a-c1]", r"[\d-]", r"\b", r"\B", "^", "$", "(?s:.)", r"\n", r"[\n]"),
        *(r"\pL", "(?i:A)", "(?m:^a)", "(?m:$)", r"\A", r"\z", "(?-m:^)", "\ufffd", r"\Qa"),
    ]
)
REGEXES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=0, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)
SIMPLE_ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "A",
        "1",
        "é",
        "-",
        r"\.",
        r"\d",
        r"\s",
        r"\w",
        "[ab]",
        "[a-c]",
        r"[\d_]",
        r"\[",
        " ",
    ]
)
SIMPLE_PARTS = st.tuples(SIMPLE_ATOMS, st.sampled_from(["", "", "{2}", "{0}", "{1}"])).map("".join)
SIMPLE_SEQUENCES = st.tuples(
    st.sampled_from(["", "^"]),
    st.lists(SIMPLE_PARTS, max_size=4).map("".join),
    st.sampled_from(["", "$"]),
).map("".join)
SIMPLE_REGEXES = st.builds(
    lambda flags, alternatives, before, group, end: (
        flags + before + (f"({'|'.join(group)})" if group else "") + "|".join(alternatives) + end
    ),
    st.sampled_from(["", "", "(?i)"]),
    st.lists(SIMPLE_SEQUENCES, min_size=1, max_size=3),
    st.sampled_from(["", "a"]),
    st.lists(SIMPLE_PARTS, max_size=3),
    st.sampled_from(["", "", "+", ".*", "+.*"]),
)
PIECES = st.sampled_from(
    [
        b"a",
        b"b",
        b"A",
        b"1",
        b" ",
        b"\t",
        b"-",
        b".",
        b"_",
        b"[",
        b"\xc3\xa9",
        b"\xff",
        b"\r",
        b"\0",
    ]
)
MESSAGES = st.lists(PIECES, max_size=6).map(b"".join)
TEXTS = st.lists(MESSAGES, min_size=1, max_size=6).map(lambda lines: b"\n".join(lines) + b"\n")


def is_known(regex: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(regex, options)
    except re2.error:
        return False
    return True


def one_by_one(pattern: Pattern, data: bytes) -> bytes:
    return bytes(map(pattern.is_in, sent_messages(tighten(records(data)))))


@pytest.fixture(params=["native", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Both ways of the transform; the first one where the library was built."""
    if request.param == "native" and native.library() is None:
        pytest.skip("no encoder library: make encoder")
    with monkeypatch.context() as patch:
        if request.param == "python":
            patch.setenv(native.ENCODER_ENV, "python")
            native.library.cache_clear()
        yield
    native.library.cache_clear()


@pytest.mark.usefixtures("way")
class TestBothWays:
    @EXAMPLES
    @given(regex=REGEXES.filter(is_known), data=TEXTS)
    def test_a_pattern_finds_in_a_block_what_it_finds_in_each_record(self, regex: str, data: bytes):
        pattern = Pattern(regex)

        assert pattern.mask(records(data)) == one_by_one(pattern, data)

    @EXAMPLES
    @given(regex=SIMPLE_REGEXES.filter(is_known), data=TEXTS)
    def test_a_simple_pattern_finds_what_re2_finds(self, regex: str, data: bytes):
        pattern = Pattern(regex)

        assert pattern.mask(records(data)) == one_by_one(pattern, data)

    @EXAMPLES
    @given(regex=REGEXES.filter(is_known), data=TEXTS)
    def test_a_redaction_of_a_block_is_that_of_each_record(self, regex: str, data: bytes):
        pattern = Pattern(regex)
        tight = tighten(records(data))
        redacted, rows = pattern.redact(tight, b"#")
        sent = sent_messages(tight)
        expected = [pattern.redact_text(message, b"#") for message in sent]
        changed = {row for row, message in enumerate(sent) if expected[row] != message}

        assert {row: redacted[row] for row in changed} == {row: expected[row] for row in changed}
        assert all(redacted[row] == tight[row] for row in set(range(len(tight))) - rows)
        assert changed <= rows


@pytest.mark.parametrize(
    "regex",
    [
        *("", "a", "^ERROR|WARN", r"^\d{4}-\d{2}-\d{2}[ T]", "^(?:a|b)c$", r"^\[", "a+", "a.*"),
        *("(ERROR|FATAL)", "(?i)error", r"GET /healthz", "[a-z_-]x", "^$", r"x\|y"),
    ],
)
def test_a_simple_pattern_is_known_as_one(regex: str):
    assert read_simple(regex) is not None


@pytest.mark.parametrize(
    "regex",
    [
        *(".", "a*b", "a?", "[^a]", r"\D", r"\bx", "(a|b)+", "(?i)kiosk", "(?s)a", "[[:alpha:]]"),
        *("a{1,2}", "(?i)é", "[é]", r"\pL", r"\Qa\E", "a$b", "b^a", "(a", "\ufffd", r"\x41"),
        "a" * 65,
    ],
)
def test_a_pattern_that_is_more_is_left_to_re2(regex: str):
    assert read_simple(regex) is None


def test_alternatives_are_multiplied_out_and_bounded():
    assert read_simple("(a|b)(c|d)") == tuple(
        Simple((frozenset((ord(first),)), frozenset((ord(second),))))
        for first, second in ("ac", "ad", "bc", "bd")
    )
    assert read_simple("(a|b|c|d)" * 4) is None
