"""Patterns mean on blocks what they mean to RE2 on each message, with the library and without."""

import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar import native
from sidecar.transform.patterns import Pattern, as_sent, put_mark
from sidecar.transform.tight import Tight, messages_of, tight_of, with_marks
from tests.unit.sidecar.transform.blocks import re2_knows, records

EXAMPLES = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)
SOAK = settings(
    max_examples=200_000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)

ATOMS = st.sampled_from(
    [
        *("a", "b", "A", "k", "s", "1", "_", " ", "-", "é", "€", "😀", "aé", "a1b", "]", "}", "{"),
        *(".", r"\.", r"\-", r"\\", r"\n", r"\t", r"\x41", r"\x{e9}", r"\x{1F600}", r"\a", r"\v"),
        *(r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"\b", r"\B", r"\A", r"\z", "^", "$"),
        *("[^a]", "[ab]", "[a-c1]", r"[\d-]", r"[^\n]", "[]a]", "[^]]", "[a-]", "[--a]", "[é-€]"),
        *("[[:alpha:]]", "[[:^word:]]", "[[:punct:]_]", r"[\W\d]", r"[^\S]", r"[\x{80}-\x{7ff}]"),
        *("[^é]", "[ -~]", r"[\x00-\x{10FFFF}]", r"[^\x00-\x{10FFFE}]", "[^ -~]", "[a-c-e]"),
        *("(?s:.)", "(?i:A)", "(?i:k)", "(?i:[r-t])", "(?i:[^k])", r"(?i:\W)", "(?i)", "(?-i)"),
        *("(?m:^a)", "(?m:$)", "(?-m:^)", "(?m)", "(?-s:.)", "(?ms)", "()", "(?:)", "(?P<x>a)"),
        *(r"\pL", r"\Qa", r"\ufffd", "\ufffd", "[[:nope:]]", r"\101", "(?U)a+", "(?i:é)", r"\C"),
    ]
)
TIMES = st.sampled_from(
    ["*", "+", "?", "*?", "+?", "??", "{2}", "{0}", "{0,2}", "{1,3}?", "{2,}", "{0,}", "{,2}"]
)
REGEXES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda some: f"(?:{'|'.join(some)})"),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        inner.map(lambda one: f"({one})"),
        st.tuples(inner, TIMES).map(lambda two: f"(?:{two[0]}){two[1]}"),
        st.tuples(ATOMS, TIMES).map("".join),
    ),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [
        *(b"a", b"b", b"A", b"k", b"K", b"s", b"1", b"_", b" ", b"\t", b"-", b".", b"]", b"\\"),
        *(b"c", b"e", b"\0", b"\v", b"\x7f", b"aab", b"a1b"),
        *(text.encode() for text in "éàÉ€\u00a0\u0080\u07ff\u0800\ud7ff\ue000\uffff\u212a\u017f"),
        *(text.encode() for text in "\ufffd\U00010000\U0001f600\U0010ffff\u0301"),
    ]
)
STRANGE = st.sampled_from([b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
UTF8_MESSAGES = st.lists(
    st.one_of(PIECES, PIECES, st.just(b"\n"), st.just(b"\r")), max_size=12
).map(b"".join)
LINES = st.lists(st.one_of(*[PIECES] * 5, STRANGE, st.just(b"\r")), max_size=10).map(b"".join)
TEXTS = st.lists(LINES, min_size=1, max_size=6).map(lambda lines: b"\n".join(lines) + b"\n")


KNOWN = REGEXES.filter(re2_knows)


def spans_by_re2(pattern: Pattern, message: bytes) -> list[tuple[int, int]]:
    """Ask RE2 alone for every match that is not empty."""
    expected, place = [], 0
    compiled = re2.compile(pattern._pattern.encode())
    while place <= len(message):
        match = compiled.search(message, place)
        if match is None:
            break
        if match.start() < match.end():
            expected.append(match.span())
        place = max(match.end(), match.start() + 1)
    return expected


def spans_in_each(tight: Tight, pattern: Pattern) -> list[list[tuple[int, int]]]:
    spans = pattern.spans(tight)
    pairs = list(zip(spans[::2], spans[1::2], strict=True))
    each = zip(tight.begins, tight.ends, strict=True)
    return [
        [(first - begin, stop - begin) for first, stop in pairs if begin <= first < end]
        for begin, end in each
    ]


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


def finds_what_re2_finds(regex: str, data: bytes) -> None:
    pattern = Pattern(regex)
    made = records(data)
    expected = [pattern.is_in(as_sent(message)) for message in messages_of(made)]

    assert pattern.mask(made) == bytes(expected)


def takes_out_what_re2_takes_out(regex: str, messages: list[bytes]) -> None:
    pattern = Pattern(regex)
    tight = tight_of(messages)
    expected = [spans_by_re2(pattern, message) for message in messages]

    assert spans_in_each(tight, pattern) == expected
    marked, changed = with_marks(tight, pattern.spans(tight), b"<#>")
    pairs = list(zip(messages, expected, strict=True))
    assert marked.messages() == [put_mark(message, spans, b"<#>") for message, spans in pairs]
    assert changed == bytes(map(bool, expected))


@pytest.mark.usefixtures("way")
class TestBothWays:
    @EXAMPLES
    @given(regex=KNOWN, data=TEXTS)
    def test_a_pattern_finds_in_a_block_what_re2_finds_in_each_record(
        self, regex: str, data: bytes
    ):
        finds_what_re2_finds(regex, data)

    @EXAMPLES
    @given(regex=KNOWN, messages=st.lists(UTF8_MESSAGES, max_size=5))
    def test_a_pattern_takes_out_of_a_block_what_re2_takes_out_of_each_record(
        self, regex: str, messages: list[bytes]
    ):
        takes_out_what_re2_takes_out(regex, messages)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@SOAK
@given(regex=KNOWN, data=TEXTS)
def test_patterns_find_for_long(regex: str, data: bytes):
    finds_what_re2_finds(regex, data)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@SOAK
@given(regex=KNOWN, messages=st.lists(UTF8_MESSAGES, max_size=5))
def test_patterns_take_out_for_long(regex: str, messages: list[bytes]):
    takes_out_what_re2_takes_out(regex, messages)
