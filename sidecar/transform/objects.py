"""What a line says as an object: strict JSON, and the time and severity that are in it.

Strict is what every reader of the record will read alike: one object, no key twice, numbers
that a 64-bit float can hold, at most MAX_DEPTH deep. All else is text, with the reason.
"""

import json
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

import orjson

from sidecar.transform.records import NO_TIME
from sidecar.transform.severity import severity_code
from sidecar.transform.times import parse_time

NOT_AN_OBJECT: Final = 1
"""1 + the place in `records.PARSE_ERRORS`; this and the following."""
KEY_TWICE: Final = 2
TOO_DEEP: Final = 3
OUT_OF_RANGE: Final = 4
SECRET_IN_STRUCTURE: Final = 5

MAX_DEPTH: Final = 64
"""Of objects and arrays in each other."""

BOM: Final = b"\xef\xbb\xbf"
TIME_KEYS: Final = ("time", "timestamp", "ts", "@timestamp")
"""In the order in which they are tried: the first that says a time."""
SEVERITY_KEYS: Final = ("level", "severity")

_SPACE_BEFORE_COLON: Final = re.compile(rb'"[ \t\r\n]+:')
_SPACE_BEHIND_QUOTE: Final = (b'" ', b'"\t', b'"\r', b'"\n')
_NUMBER_AT: Final = {
    key: re.compile(rb'"' + key.encode() + rb'"[ \t\r\n]*:[ \t\r\n]*([-+.0-9eE]+)')
    for key in TIME_KEYS
}
STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, or what is left of a line that ends in one: linear, as nothing is tried twice."""
_BRACKETS: Final = bytes.maketrans(b"[{]}", b"(())")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_MAX_LOOKED_INTO: Final = 64 * 1024
"""Bytes of a refused line up to which the reason is looked for."""


class ParseError(Exception):
    """A line that is no strict JSON object; `code` says why."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the object that a line is.

    Raises:
        ParseError: it is none that is sent as one.
    """
    try:
        value = orjson.loads(line)
    except ValueError:
        raise ParseError(_why_not(line)) from None
    if not isinstance(value, dict):
        raise ParseError(NOT_AN_OBJECT)
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _is_too_deep(value):
        raise ParseError(TOO_DEEP)
    if not _has_plainly_no_key_twice(line, value) and _has_key_twice(line):
        raise ParseError(KEY_TWICE)
    return value


def time_of(value: Mapping[str, Any], line: bytes) -> int:
    """Return the time that an object says, in nanoseconds since the epoch, or NO_TIME.

    Args:
        value: what `line` is.
        line: the JSON text; a number of more than 15 digits is read exactly from it.
    """
    for key in TIME_KEYS:
        said = value.get(key)
        if isinstance(said, float):
            said = _number_as_text(line, key)
        elif isinstance(said, int) and not isinstance(said, bool):
            said = str(said)
        if isinstance(said, str) and (time := parse_time(said.encode())) is not None:
            return time
    return NO_TIME


def severity_of(value: Mapping[str, Any]) -> int:
    """Return the bits in `marks` of the severity that an object says; 0 for none."""
    for key in SEVERITY_KEYS:
        said = value.get(key)
        if isinstance(said, int) and not isinstance(said, bool):
            said = str(said)
        if isinstance(said, str) and (code := severity_code(said.encode())):
            return code
    return 0


def to_json(value: object) -> bytes:
    """Return a parsed value as compact JSON."""
    return orjson.dumps(value)


def _has_plainly_no_key_twice(line: bytes, value: dict[str, Any]) -> bool:
    """Return whether there are as many keys in the object as the text can have at most.

    orjson keeps the last of two equal keys; `":` ends each key, if no space stands before the
    colon, and can otherwise only be found inside of strings.
    """
    if line.count(b'":') != _count_keys(value):
        return False
    may_have_space = any(space in line for space in _SPACE_BEHIND_QUOTE)
    return not may_have_space or not _SPACE_BEFORE_COLON.search(line)


def _count_keys(value: dict[str, Any] | list[Any]) -> int:
    inner = value.values() if isinstance(value, dict) else value
    count = len(value) if isinstance(value, dict) else 0
    for item in inner:
        if isinstance(item, (dict, list)):
            count += _count_keys(item)
    return count


def _has_key_twice(line: bytes) -> bool:
    try:
        json.loads(line, object_pairs_hook=_refuse_key_twice)
    except ParseError:
        return True
    return False


def _refuse_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ParseError(KEY_TWICE)
    return value


def _is_too_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner = chain.from_iterable(
            each.values() if isinstance(each, dict) else each for each in level
        )
        level = [item for item in inner if isinstance(item, (dict, list))]
        if not level:
            return False
    return True


def _why_not(line: bytes) -> int:
    """Return why orjson does not take a line; of a very long one it is not found out."""
    if len(line) > _MAX_LOOKED_INTO:
        return NOT_AN_OBJECT
    brackets = STRING.sub(b"", line).translate(_BRACKETS, delete=_NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"()", b"")
    if b"()" in brackets or brackets.count(b"(") > MAX_DEPTH:
        return TOO_DEEP
    try:
        json.loads(line.decode("utf-8"), parse_float=_finite, parse_int=_finite)
    except ParseError as error:
        return error.code
    except (ValueError, RecursionError):
        return NOT_AN_OBJECT
    # Only Python takes it: NaN, Infinity, half a surrogate pair.
    return NOT_AN_OBJECT


def _finite(number: str) -> float:
    if float(number) in {float("inf"), float("-inf")}:
        raise ParseError(OUT_OF_RANGE)
    return 0.0


def _number_as_text(line: bytes, key: str) -> str | None:
    """Return the number at a key of the object that `line` is, as it is written there."""
    found: list[bytes] = _NUMBER_AT[key].findall(line)
    if len(found) == 1 and b"\\" not in line and line.count(b'"%s"' % key.encode()) == 1:
        return found[0].decode()
    value = json.loads(line, parse_float=str, parse_int=str)
    return value.get(key) if isinstance(value, dict) else None
