r"""Patterns that need no engine: sequences of characters and small sets, `^\d{4}-|ERROR|[WE]\d`.

In: a pattern in RE2's syntax. Out: what lines.c compares messages with, or None where the pattern
is more than that, and RE2's. What is read here means exactly what it means to RE2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Final

MAX_ALTERNATIVES: Final = 64
MAX_LENGTH: Final = 64
"""Bytes that one alternative matches."""

ByteSet = frozenset[int]

_DIGITS: Final = frozenset(b"0123456789")
_WORD: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")
_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": frozenset(b"\t\n\f\r ")}
_META: Final = frozenset(r"\.+*?()|[]{}^$")
_ESCAPABLE: Final = frozenset(r"""\.+*?()|[]{}^$/-"'#&%@!~<>=:;,""")
_TIMES: Final = re.compile(r"\{(\d{1,2})\}")
_FOLDS_TO_MORE: Final = frozenset("kKsS")
"""Letters that `(?i)` also finds outside of ASCII: the Kelvin sign, the long s."""


class _NotSimpleError(Exception):
    """The pattern is more than a simple one."""


@dataclass(frozen=True, slots=True)
class Simple:
    """One alternative of a simple pattern."""

    sets: tuple[ByteSet, ...] = ()
    """For each byte in turn, which ones match."""
    at_begin: bool = False
    """Only at a message's begin."""
    at_end: bool = False

    @property
    def literal(self) -> bytes | None:
        """The only text that matches; None where there are several."""
        if any(len(each) > 1 for each in self.sets):
            return None
        return bytes(byte for each in self.sets for byte in each)


def read_simple(pattern: str) -> tuple[Simple, ...] | None:
    """Return the alternatives of a simple pattern; None if it is none."""
    # A message may have U+FFFD where its bytes are something else.
    if "\ufffd" in pattern:
        return None
    try:
        return tuple(_Reader(pattern).read())
    except _NotSimpleError:
        return None


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._ignores_case = pattern.startswith("(?i)")
        self._pattern = pattern.removeprefix("(?i)")
        self._at = 0

    def read(self) -> list[Simple]:
        alternatives = self._alternatives()
        if self._at < len(self._pattern):
            raise _NotSimpleError
        return alternatives

    def _alternatives(self) -> list[Simple]:
        found = self._sequence()
        while self._take("|"):
            found += self._sequence()
            if len(found) > MAX_ALTERNATIVES:
                raise _NotSimpleError
        return found

    def _sequence(self) -> list[Simple]:
        found = [Simple()]
        while self._at < len(self._pattern) and self._peek() not in {"|", ")"}:
            found = self._joined(found, self._part())
        return found

    def _part(self) -> list[Simple]:
        if self._take("^"):
            return [Simple(at_begin=True)]
        if self._take("$"):
            return [Simple(at_end=True)]
        if self._take("("):
            return self._group()
        if self._pattern[self._at :] == ".*":  # whatever else comes
            self._at += 2
            return [Simple()]
        return [Simple(self._repeated(self._atom()))]

    def _group(self) -> list[Simple]:
        if self._take("?") and not self._take(":"):
            raise _NotSimpleError
        inside = self._alternatives()
        if not self._take(")") or (self._at < len(self._pattern) and self._peek() in "*+?{"):
            raise _NotSimpleError
        return inside

    def _joined(self, before: Iterable[Simple], behind: Iterable[Simple]) -> list[Simple]:
        """Return each sequence followed by each other one."""
        joined: list[Simple] = []
        for first, second in product(before, behind):
            if first.at_end or (second.at_begin and (first.sets or first.at_begin)):
                raise _NotSimpleError
            sets = first.sets + second.sets
            if len(sets) > MAX_LENGTH or len(joined) == MAX_ALTERNATIVES:
                raise _NotSimpleError
            at_begin = first.at_begin or second.at_begin
            joined.append(Simple(sets, at_begin=at_begin, at_end=second.at_end))
        return joined

    def _repeated(self, atom: tuple[ByteSet, ...]) -> tuple[ByteSet, ...]:
        times = _TIMES.match(self._pattern, self._at)
        if times is not None:
            self._at = times.end()
            atom *= int(times[1])
        rest = self._pattern[self._at :]
        if times is None and rest in {"+", "+.*"}:  # at the end one is enough
            self._at += 1
        elif rest[:1] in {"*", "+", "?", "{"}:
            raise _NotSimpleError
        return atom

    def _atom(self) -> tuple[ByteSet, ...]:
        if self._take("["):
            return (self._set(),)
        if self._take("\\"):
            return self._escape()
        character = self._next()
        if character in _META or character == "\n":
            raise _NotSimpleError
        return self._character(character)

    def _escape(self) -> tuple[ByteSet, ...]:
        character = self._next()
        if character in _CLASSES and not (self._ignores_case and character == "w"):
            return (_CLASSES[character],)
        if character not in _ESCAPABLE:
            raise _NotSimpleError
        return self._character(character)

    def _character(self, character: str) -> tuple[ByteSet, ...]:
        if not self._ignores_case:
            return tuple(frozenset((byte,)) for byte in character.encode("utf-8", "replace"))
        if not character.isascii() or character in _FOLDS_TO_MORE:
            raise _NotSimpleError
        return (frozenset((character.lower() + character.upper()).encode()),)

    def _set(self) -> ByteSet:
        """Read a set's inside and its bracket: ASCII, nothing negated, no names."""
        members: set[int] = set()
        if self._ignores_case or self._peek() in {"^", "]"}:
            raise _NotSimpleError
        while not self._take("]"):
            low = self._member()
            if isinstance(low, frozenset):
                members |= low
                continue
            high = low
            if self._take("-"):
                if self._peek() == "]":
                    members.add(ord("-"))
                else:
                    high = self._single_member()
            if high < low:
                raise _NotSimpleError
            members |= set(range(low, high + 1))
        return frozenset(members)

    def _single_member(self) -> int:
        member = self._member()
        if isinstance(member, frozenset):
            raise _NotSimpleError
        return member

    def _member(self) -> int | ByteSet:
        character = self._next()
        if character == "\\":
            character = self._next()
            if character in _CLASSES:
                return _CLASSES[character]
            if character not in _ESCAPABLE:
                raise _NotSimpleError
        elif character == "[" or not character.isascii() or character < " ":
            raise _NotSimpleError
        return ord(character)

    def _peek(self) -> str:
        if self._at == len(self._pattern):
            raise _NotSimpleError
        return self._pattern[self._at]

    def _next(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _take(self, character: str) -> bool:
        if self._pattern.startswith(character, self._at):
            self._at += len(character)
            return True
        return False


def as_bitmap(byte_set: ByteSet) -> bytes:
    """Return a set as 256 bits, the lowest of the first byte for byte 0."""
    return sum(1 << byte for byte in byte_set).to_bytes(32, "little")
