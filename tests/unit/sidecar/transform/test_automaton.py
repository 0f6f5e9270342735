"""Which patterns become tables, what the tables need, and what making them may cost."""

import re
import tracemalloc

import pytest
import re2

from runtime.patterns import MAX_PATTERN_BYTES
from sidecar import native
from sidecar.transform import automaton
from sidecar.transform.automaton import (
    Search,
    Table,
    first_text,
    is_literal,
    make_table,
    needed_text,
)
from sidecar.transform.graph import TooLargeError
from sidecar.transform.patterns import Pattern
from sidecar.transform.regex import MAX_DEPTH, read_regex
from sidecar.transform.regex_tree import (
    Characters,
    Choice,
    Look,
    Parts,
    Repeat,
    looks_in,
    normal,
    others,
)
from sidecar.transform.tight import tight_of
from tests.unit.sidecar.transform.blocks import re2_knows, records


def table(regex: str, search: Search = Search.ANYWHERE) -> Table:
    tree = read_regex(regex)
    assert tree is not None
    return make_table(tree, search)


def states(of: Table) -> int:
    return len(of.cells) // (of.end + 1)


def test_a_pattern_becomes_a_tree():
    assert read_regex("a[b-d]|^$") == Choice(
        (
            Parts((Characters(((97, 97),)), Characters(((98, 100),)))),
            Parts((Look.TEXT_BEGIN, Look.TEXT_END)),
        )
    )
    assert read_regex("a{2,3}?") == Parts((Repeat(Characters(((97, 97),)), 2, 3, is_lazy=True),))


@pytest.mark.parametrize(
    "regex",
    [
        *("", "^ERROR|WARN", r"^\d{4}-\d\d-\d\d[ T]", "(?i)error", "a*?b+", "(?P<level>INFO|é)"),
        *(r"\bx\B", "(?m)^a$", "(?s:a.b)", "[^a-z]", "[[:alpha:]_]", r"\x{1F600}", "(?i)kiosk"),
        *("(?i-s:a)", r"\A\w+\z", "a{,2}", "{", "x{1,1000}", r"[\]\-^]", "(?i)[^s]"),
    ],
)
def test_common_syntax_is_read(regex: str):
    assert re2.compile(regex) is not None
    assert read_regex(regex) is not None


@pytest.mark.parametrize(
    "regex",
    [
        *(r"\pL", r"\p{Greek}", r"\Qa.b\E", r"\101", "(?U)a+", "(?i)é", "(?i)[à-é]", r"\C", "^*"),
        *("a(?i)*", r"(?:\b)+"),
    ],
)
def test_rare_syntax_is_left_to_re2(regex: str):
    assert re2.compile(regex) is not None
    assert read_regex(regex) is None or "(?:" in regex


def test_sets_of_characters_are_joined_and_turned_around():
    assert normal([(5, 7), (1, 2), (3, 3), (6, 9)]) == ((1, 3), (5, 9))
    assert others(((0, 9), (11, 0x10FFFF))) == ((10, 10),)
    assert others(()) == ((0, 0x10FFFF),)


def test_looks_are_found_wherever_they_stand():
    tree = read_regex(r"a(?:b|(?:\bc$)*)+")
    assert tree is not None

    assert set(looks_in(tree)) == {Look.WORD_EDGE, Look.TEXT_END}


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        (r"\d+ms", b"ms"),
        ("^order=[a-f]+, total", b", total"),
        ("(?:GET) /healthz?", b"GET /health"),
        ("a|b", b""),
        ("(?i)error", b""),
        ("é{2}", b""),
        ("x[é]y", "xéy".encode()),
    ],
)
def test_the_longest_text_that_every_match_needs_is_known(regex: str, text: bytes):
    tree = read_regex(regex)
    assert tree is not None

    assert needed_text(tree) == text


@pytest.mark.parametrize(
    ("regex", "text"),
    [
        (r"\border=\d+", b"order="),
        ("^a(?:bc)d?e", b"abc"),
        ("a|ab", b""),
        ("a?b", b""),
        ("(?i)error", b""),
        ("", b""),
    ],
)
def test_the_text_that_every_match_begins_with_is_known(regex: str, text: bytes):
    tree = read_regex(regex)
    assert tree is not None

    assert first_text(tree) == text


@pytest.mark.parametrize(
    ("regex", "answer"), [("ERROR", True), ("(?:a)b", True), ("^a", False), ("a?", False)]
)
def test_a_pattern_that_is_a_text_is_known_as_one(regex: str, answer: bool):
    tree = read_regex(regex)
    assert tree is not None

    assert is_literal(tree) is answer


def test_only_patterns_that_speak_of_characters_beyond_ascii_ask_for_utf8():
    assert not table(r"^[\w.]+\b(a|b)$").reads_all
    assert table("a.b").reads_all
    assert table("[^a]").reads_all


@pytest.mark.parametrize("regex", [r"x{1,1000}y", r"\w{3,900}@\w+", ".*a.*", "(?:a{500}|b)*c"])
def test_what_may_come_before_and_behind_makes_a_search_no_larger(regex: str):
    assert states(table(regex)) < 20


HOSTILE = {
    "counts in counts": "(?:(?:a{30}){30}b)",
    "many counts": "".join(f"[a-{chr(98 + n % 20)}]{{0,50}}" for n in range(60)),
    "nothing, many times": "((((){1000}))*x){2}",
    "overlapping counts": r"[a-z]{1,500}[a-y]{1,500}",
    "all subsets": "(?:a|b)*a(?:a|b){30}c",
    "long": "a?" * (MAX_PATTERN_BYTES // 2),
    "many words": "|".join(f"word{n:x}" for n in range(480)),
    "many sets": "".join(f"[{chr(n)}-{chr(n + 900)}]" for n in range(300, 700)),
    "deep": "(?:a" * (MAX_DEPTH - 1) + ")*" * (MAX_DEPTH - 1),
    "too deep": "(" * 1000 + ")" * 1000,
    "beyond ASCII": "(?:[^é]*[^à]){40}",
    "looks": r"(?:\b|\B|^|$|(?m:^|$))" * 100,
}


@pytest.mark.parametrize("search", Search)
@pytest.mark.parametrize("regex", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pattern_makes_a_bounded_table_or_none(
    regex: str, search: Search, monkeypatch: pytest.MonkeyPatch
):
    steps: list[int] = []

    class Maker(automaton._Maker):
        def table(self) -> Table:
            try:
                return super().table()
            finally:
                steps.append(self._steps)

    monkeypatch.setattr(automaton, "_Maker", Maker)
    assert len(regex) <= MAX_PATTERN_BYTES
    tracemalloc.start()
    try:
        tree = read_regex(regex)
        if tree is not None:
            made = make_table(tree, search)
            assert len(made.cells) <= automaton.MAX_CELLS
            assert states(made) <= automaton.MAX_STATES
    except TooLargeError:
        pass
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert most < 32 * 1024 * 1024
    assert not steps or steps[0] < 2 * automaton.MAX_STEPS


@pytest.mark.parametrize("regex", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pattern_still_finds_what_re2_finds(regex: str):
    if not re2_knows(regex):
        pytest.skip("RE2 refuses it")
    pattern = Pattern(regex)
    texts = [b"", b"a", b"ab", b"a" * 2000 + b"b", b"x", b"word1df", "éàé".encode(), b"abc"]

    assert list(pattern.mask(records(b"\n".join(texts) + b"\n"))) == list(map(pattern.is_in, texts))
    spans = pattern.spans(tight_of(texts))
    assert bool(spans) == any(pattern.redact_text(text, b"#") != text for text in texts)


@pytest.mark.skipif(native.library() is None, reason="no encoder library: make encoder")
def test_more_matches_than_there_are_messages_are_all_found():
    tight = tight_of([b"a" * 1000, b"", b"aba"])

    assert len(Pattern("a").spans(tight)) == 2 * 1002
    assert list(Pattern("b").spans(tight)) == [1003, 1004]


def test_word_edges_are_those_of_ascii():
    texts = ["é1", "1é", "_1", "a 1"]
    found = Pattern(r"\b1\b").mask(records("\n".join(texts).encode() + b"\n"))

    assert [bool(each) for each in found] == [
        re.search(r"\b1\b", text, re.ASCII) is not None for text in texts
    ]
