import json
from typing import Any

import pytest

from tests.unit.sidecar.transform.blocks import READ_TIME, shipped


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("a=1", {"a": "1"}),
        ("a=1 b=two  c= d", {"a": "1", "b": "two", "c": "", "d": True}),
        ('msg="hello world" x=y', {"msg": "hello world", "x": "y"}),
        (r'm="a \"b\" \\ \n\t\u00e9"', {"m": 'a "b" \\ \n\té'}),
        (r'm="\ud83d\ude00 \ud800"', {"m": "😀 \ufffd"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1 a=2", {"a": "2"}),
        ('m="unterminated x=1', {"m": "unterminated x=1"}),
        ('m=""', {"m": ""}),
        ("http.url=/a?b=c&d", {"http.url": "/a?b=c&d"}),
        ("é=ü", {"é": "ü"}),
        ("=x a=1", {"x": True, "a": "1"}),
        (r"path=C:\dir", {"path": r"C:\dir"}),
    ],
)
def test_pairs_are_an_object_of_strings(line: str, parsed: dict[str, Any]):
    record = shipped(line.encode() + b"\n", format="logfmt")[0]

    assert record["parsed"] == parsed
    assert record["message"] == line


@pytest.mark.parametrize("line", ["", "hello world", "= =", '"a=b"', "=="])
def test_a_line_without_pairs_is_text(line: str):
    record = shipped(line.encode() + b"\n", format="logfmt")[0]

    assert record["message"] == line
    assert "parse_error" not in record
    assert "parsed" not in record or line == '"a=b"'


@pytest.mark.parametrize(
    ("line", "time", "severity"),
    [
        ("time=2024-01-02T03:04:05Z level=warn", "2024-01-02T03:04:05.000000000Z", "warn"),
        ('ts="2024-01-02T03:04:05Z" lvl=warn', "2024-01-02T03:04:05.000000000Z", None),
        ("ts=1704164645.5 severity=E", "2024-01-02T03:04:05.500000000Z", "error"),
        ("level=30 time=now", READ_TIME, "info"),
        ("level", READ_TIME, None),
    ],
)
def test_time_and_severity_are_the_line_s_own(line: str, time: str, severity: str | None):
    record = shipped(line.encode() + b"\n", format="logfmt")[0]

    assert (record["time"], record.get("severity")) == (time, severity)


def test_bytes_that_are_not_utf8_are_replaced():
    record = shipped(b"a=\xff b=1\n", format="logfmt")[0]

    assert record["parsed"] == {"a": "\ufffd", "b": "1"}


@pytest.mark.parametrize(
    "line",
    [
        "a" * 1_000_000,
        "=" * 1_000_000,
        'a="' * 300_000,
        'a="' + '\\"' * 500_000,
        "a=1 " * 250_000,
        "a " * 500_000,
    ],
)
def test_a_hostile_line_is_sent(line: str):
    record = shipped(line.encode() + b"\n", format="logfmt")[0]

    assert record["message"] == line
    assert json.dumps(record.get("parsed", {}))
