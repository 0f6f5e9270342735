"""What is redacted and parsed in C says the same as what is in Python, and tells no secret."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar import native
from tests.unit.sidecar.transform.blocks import block, decoded, transform

EXAMPLES = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
SOAK = settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
SECRET = "joe@x.com"

PATTERNS = st.lists(
    st.sampled_from(
        [
            *(r"[\w.]+@[\w]+\.com", r"\d{4,}", '"a":', "^joe", "joe$", r"\bjoe\b", r"\Bo", "joe"),
            *(
                "redacted",
                r"\[",
                "[a-z]+",
                "a.*b",
                "[^a]+",
                '"[^"]*"',
                '"',
                ":",
                r"\s",
                ".",
                "é",
                r"\pL",
            ),
            *("time", "warn", "2024", r"true|null", "x*", r"(?i)JOE", r"\\", r'"level":"warn"'),
            *(r"joe\z", "(?m)^joe", r"[^\x00-\x7f]", "a|ab", "joe@x|x.com", r"1\.5", "[{}]"),
        ]
    ),
    min_size=1,
    max_size=3,
)
PARTS = st.sampled_from(
    [
        *(
            SECRET,
            "joe",
            "a",
            "b",
            " ",
            "1234",
            "é",
            '"',
            "\\",
            "\n",
            "\t",
            "/",
            "redacted",
            "[",
            ":",
        ),
        *("2024-05-01T00:00:00Z", "warn", "{", "}", ",", "\u2028", "\U0001f600", "x.com", "=", "@"),
    ]
)
STRINGS = st.lists(PARTS, max_size=4).map("".join)
KEYS = st.one_of(st.sampled_from(["a", "b", "time", "level", "ts", "joe"]), STRINGS)
LEAVES = st.one_of(
    STRINGS, STRINGS, st.sampled_from([1, 12345, 1.5, -0.0, True, False, None, 1714564800.25])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :  ")])


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    value = draw(st.dictionaries(KEYS, VALUES, max_size=4))
    is_ascii, separators = draw(st.booleans()), draw(SEPARATORS)
    text = json.dumps(value, ensure_ascii=is_ascii, separators=separators)
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("joe", r"\u006aoe")
    return (
        draw(st.sampled_from(["", " ", "\ufeff"])).encode()
        + text.encode()
        + draw(st.sampled_from([b"", b" ", b"\r"]))
    )


PAIRS = st.lists(
    st.builds(
        lambda key, value, glue: f"{key}{value}{glue}".encode(),
        st.sampled_from(["a", "to", "level", "time", "joe", "", "é", "a=b", '"']),
        st.sampled_from(
            [
                *("=joe@x.com", "=12345", "", "=", '="joe@x.com b"', '="a', '="joe\\u0040x.com"'),
                *('="x \\" joe"', "=warn", "=2024-05-01T00:00:00Z", "=a=joe", '=a"b"', "=joe=é"),
            ]
        ),
        st.sampled_from([" ", " ", "  ", "\t", "", "\0"]),
    ),
    max_size=5,
).map(b"".join)
LINES = st.one_of(
    *[objects()] * 5,
    *[PAIRS] * 3,
    st.sampled_from(
        [
            b"",
            b"joe@x.com",
            b'{"a":"joe@x.com"',
            b'{"a":1,"a":"joe"}',
            b'{"to":"joe@x.com","level":"warn","time":"2024-05-01T00:00:00Z"}',
            b"to=joe@x.com level=warn time=2024-05-01T00:00:00Z",
            b'a="joe \\" b" joe',
            b"[1,2]",
            b'"joe"=b',
            b'{"a":12345678901234567890123,"b":1.10,"c":"joe@x.com"}',
            b"E0102 03:04:05.678901 joe",
            b'{"a":"\xff joe@x.com"}',
            b"\xff",
        ]
    ),
)
CONTENTS = st.lists(LINES, min_size=1, max_size=6).map(lambda lines: b"\n".join(lines) + b"\n")
FORMATS = st.sampled_from(["json", "json", "logfmt", "auto"])
MULTILINE = st.sampled_from(["none", "none", "indented"])


@contextmanager
def in_python() -> Iterator[None]:
    os.environ[native.ENCODER_ENV] = "python"
    native.library.cache_clear()
    try:
        yield
    finally:
        del os.environ[native.ENCODER_ENV]
        native.library.cache_clear()


def both_say_the_same(content: bytes, patterns: list[str], **changes: Any) -> None:
    redact = tuple((str(number), pattern) for number, pattern in enumerate(patterns))
    step = transform(redact=redact, **changes)
    in_c = decoded(step(block(content)))
    with in_python():
        expected = decoded(step(block(content)))

    assert in_c == expected


@pytest.mark.skipif(native.library() is None, reason="no encoder library: make encoder")
class TestInC:
    @EXAMPLES
    @given(content=CONTENTS, patterns=PATTERNS, name=FORMATS, multiline=MULTILINE)
    def test_a_redacted_object_is_that_of_python(
        self, content: bytes, patterns: list[str], name: str, multiline: str
    ):
        both_say_the_same(content, patterns, format=name, multiline=multiline)

    @EXAMPLES
    @given(content=CONTENTS, name=FORMATS)
    def test_a_secret_is_nowhere_in_what_is_sent(self, content: bytes, name: str):
        made = transform(redact=(("email", r"[\w.]+@x\.com"),), format=name)(block(content))

        assert SECRET not in json.dumps(decoded(made), ensure_ascii=False)

    @pytest.mark.soak
    @pytest.mark.timeout(7200)
    @SOAK
    @given(content=CONTENTS, patterns=PATTERNS, name=FORMATS, multiline=MULTILINE)
    def test_redacted_objects_for_long(
        self, content: bytes, patterns: list[str], name: str, multiline: str
    ):
        both_say_the_same(content, patterns, format=name, multiline=multiline)
