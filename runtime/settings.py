"""Parsers for single values, and the one error that lists every problem of a document at once."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

MAX_SHOWN = 200
"""Characters of a wrong value that an error shows."""

_SIZE_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE = re.compile(r"([0-9]{1,15})(\.[0-9]{1,9})?([A-Za-z]{0,3})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)


class ValueProblem(ValueError):  # noqa: N818 - it is one row of a SettingsError, which is the error
    """A value that cannot be used; the text says what was expected."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document."""

    where: str
    """The key, as a path: `sources[0].format`, `limits.batch_bytes`."""
    got: str
    """The value, shortened; never a secret."""
    expected: str
    """A closed list or a range."""

    def __str__(self) -> str:
        return f"{self.where}: got {self.got}, expected {self.expected}"


class SettingsError(Exception):
    """Settings that cannot be used, with every problem found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def shown(value: object) -> str:
    """Return `value` as an error shows it: its repr, printable, at most 200 characters."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` probably misspells, or None."""
    from difflib import get_close_matches  # only who misspells needs it

    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def parse_size(value: object) -> int:
    """Return a size in bytes from an integer or a string such as `256KiB`, `4Gi` or `10M`.

    Raises:
        ValueProblem: it is not such a value, or not at least 1.
    """
    expected = "a size of at least 1 byte, such as 65536, 256KiB or 1Gi"
    size = 0
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)) and match[3] in _SIZE_UNITS:
        unit = _SIZE_UNITS[match[3]]
        size = int(match[1]) * unit + int(float(match[2] or 0) * unit)
    if not 1 <= size < 2**62:
        raise ValueProblem(expected)
    return size


def parse_seconds(value: object) -> float:
    """Return a length of time in seconds, more than 0 and at most ten years.

    Raises:
        ValueProblem: it is not a positive number.
    """
    return _seconds(value, "a number of seconds greater than 0", allow_zero=False)


def parse_seconds_or_zero(value: object) -> float:
    """Return a length of time in seconds, 0 or more.

    Raises:
        ValueProblem: it is not such a number.
    """
    return _seconds(value, "a number of seconds, 0 or more", allow_zero=True)


def _seconds(value: object, expected: str, *, allow_zero: bool) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueProblem(expected)
    in_range = math.isfinite(value) and 0 <= value <= 10 * 366 * 86_400
    if not in_range or (value == 0 and not allow_zero):
        raise ValueProblem(expected)
    return float(value)


def parse_count(low: int, high: int) -> Callable[[object], int]:
    """Return a parser for whole numbers from `low` to `high`."""

    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueProblem(f"a whole number from {low} to {high}")
        return value

    return parse


def parse_boolean(value: object) -> bool:
    """Return true for `true`, false for `false`, as YAML or as text.

    Raises:
        ValueProblem: it is anything else.
    """
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise ValueProblem("true or false")


def parse_choice(*allowed: str) -> Callable[[object], str]:
    """Return a parser for one of `allowed`."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueProblem("one of " + ", ".join(allowed))
        return value

    return parse


def parse_text(max_length: int = 4096) -> Callable[[object], str]:
    """Return a parser for a string of 1 to `max_length` characters without NUL."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= max_length or "\0" in value:
            raise ValueProblem(f"a string of 1 to {max_length} characters")
        return value

    return parse


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()
"""The default of a key that has none."""


@dataclass(frozen=True, slots=True)
class Key:
    """One row of a table of settings: the parser, the errors and the reference page use it."""

    name: str
    parse: Callable[[object], Any]
    """Returns the value, or raises ValueProblem with what was expected."""
    default: object
    """As written in a document; REQUIRED where there is none."""
    sentence: str
    """What it means, with its unit."""
