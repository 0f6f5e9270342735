r"""Reads patterns in RE2's syntax: the text of one becomes a tree of what it matches.

In: what RE2 has compiled. Out: a `Node`, or None where there is something that is left to RE2
(`\pL`, `\Q…\E`, octal escapes, `(?U)`, letters outside of ASCII that ignore case). What is read
here means exactly what it means to RE2. Source: the RE2 syntax page.
"""

import re
import string
from collections.abc import Mapping
from typing import Final

from sidecar.transform.regex_tree import (
    MAX_CODE_POINT,
    Characters,
    Choice,
    Look,
    Node,
    Parts,
    Ranges,
    Repeat,
    normal,
    others,
)

MAX_DEPTH: Final = 40
"""Of groups in each other: what reads and builds the tree calls itself."""


_EVERY: Final[Ranges] = ((0, MAX_CODE_POINT),)
_NOTHING: Final = Parts(())
_COUNTED: Final = re.compile(r"\{(0|[1-9]\d*)(,(0|[1-9]\d*)?)?\}")
_QUANTIFIERS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_FLAGS: Final = re.compile(r"([ims]*)(?:-([ims]+))?([:)])")
_NAME: Final = re.compile(r"P?<\w+>")
_HEX: Final = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})")
_POSIX: Final = re.compile(r"\[:(\^?)(\w+):\]")
_SINGLE: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_LOOKS: Final = {
    "A": Look.TEXT_BEGIN,
    "z": Look.TEXT_END,
    "b": Look.WORD_EDGE,
    "B": Look.NO_WORD_EDGE,
}
_OTHER_CASES: Final = {"k": 0x212A, "s": 0x17F}
"""What else `(?i)` finds: the Kelvin sign, the long s."""


def _of(characters: str) -> Ranges:
    return normal((ord(character), ord(character)) for character in characters)


_WORD: Final = _of(string.ascii_letters + string.digits + "_")
_CLASSES: Final = {"d": _of(string.digits), "s": _of("\t\n\f\r "), "w": _WORD}
_NAMED: Final = {
    "alnum": _of(string.ascii_letters + string.digits),
    "alpha": _of(string.ascii_letters),
    "ascii": ((0, 127),),
    "blank": _of("\t "),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _of(string.digits),
    "graph": ((33, 126),),
    "lower": _of(string.ascii_lowercase),
    "print": ((32, 126),),
    "punct": _of(string.punctuation),
    "space": _of("\t\n\v\f\r "),
    "upper": _of(string.ascii_uppercase),
    "word": _WORD,
    "xdigit": _of(string.hexdigits),
}


class _OtherSyntaxError(Exception):
    """There is more in a pattern than is read here."""


def read_regex(pattern: str) -> Node | None:
    """Return the tree of a pattern that RE2 knows; None where it is left to RE2."""
    reader = _Reader(pattern)
    try:
        node = reader.choice()
    except _OtherSyntaxError:
        return None
    return node if reader.is_at_end else None


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0
        self._flags = frozenset[str]()

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._pattern)

    def choice(self) -> Node:
        """Read up to the group's end, or the pattern's."""
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return Choice(tuple(options)) if len(options) > 1 else options[0]

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while not self.is_at_end and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return Parts(tuple(parts))

    def _repeated(self, part: Node) -> Node:
        times = self._times()
        if times is None:
            return part
        if isinstance(part, Look) or part is _NOTHING:  # RE2 repeats what stands before flags
            raise _OtherSyntaxError
        return Repeat(part, *times, is_lazy=self._take("?"))

    def _times(self) -> tuple[int, int | None] | None:
        for sign, times in _QUANTIFIERS.items():
            if self._take(sign):
                return times
        counted = self._match(_COUNTED)
        if counted is None:
            return None
        least = int(counted[1])
        if counted[2] is None:
            return least, least
        return least, None if counted[3] is None else int(counted[3])

    def _atom(self) -> Node:
        if self._take("("):
            return self._group()
        if self._take("["):
            return Characters(self._set())
        if self._take("\\"):
            return self._escape()
        character = self._next()
        return self._signs().get(character) or self._single(ord(character))

    def _signs(self) -> Mapping[str, Node]:
        by_lines = "m" in self._flags
        return {
            ".": Characters(_EVERY if "s" in self._flags else others(_of("\n"))),
            "^": Look.LINE_BEGIN if by_lines else Look.TEXT_BEGIN,
            "$": Look.LINE_END if by_lines else Look.TEXT_END,
        }

    def _group(self) -> Node:
        flags = self._flags
        if self._take("?") and not self._match(_NAME):
            change = self._match(_FLAGS)
            if change is None:
                raise _OtherSyntaxError
            self._flags = (flags | set(change[1])) - set(change[2] or "")
            if change[3] == ")":
                return _NOTHING
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _OtherSyntaxError
        inside = self.choice()
        self._depth -= 1
        self._flags = flags
        if not self._take(")"):
            raise _OtherSyntaxError
        return inside

    def _escape(self) -> Node:
        for letter, look in _LOOKS.items():
            if self._take(letter):
                return look
        ranges = self._class()
        return self._single(self._code_point()) if ranges is None else Characters(ranges)

    def _class(self) -> Ranges | None:
        r"""Read what stands behind the backslash of `\d`, `\W` and their like."""
        letter = self._pattern[self._at : self._at + 1]
        ranges = _CLASSES.get(letter.lower())
        if ranges is None:
            return None
        self._at += 1
        ranges = self._with_cases(ranges)
        return others(ranges) if letter.isupper() else ranges

    def _code_point(self) -> int:
        """Read what stands behind the backslash of one character."""
        if (digits := self._match(_HEX)) is not None:
            return int(digits[1] or digits[2], 16)
        character = self._next()
        if character in _SINGLE:
            return _SINGLE[character]
        if not character.isascii() or character.isalnum() or character == "_":
            raise _OtherSyntaxError
        return ord(character)

    def _set(self) -> Ranges:
        """Read a set's inside and its bracket."""
        negated = self._take("^")
        members = list(self._member())  # a bracket that comes first is a member
        while not self._take("]"):
            members += self._member()
        ranges = normal(members)
        return others(ranges) if negated else ranges

    def _member(self) -> Ranges:
        if (named := self._match(_POSIX)) is not None:
            if named[2] not in _NAMED:
                raise _OtherSyntaxError
            ranges = self._with_cases(_NAMED[named[2]])
            return others(ranges) if named[1] else ranges
        if self._take("\\"):
            if (inside := self._class()) is not None:
                return inside
            self._at -= 1
        first = last = self._edge()
        behind = self._pattern[self._at + 1 : self._at + 2]
        if behind not in {"", "]"} and self._take("-"):
            last = self._edge()
        if last < first:
            raise _OtherSyntaxError
        return self._with_cases(((first, last),))

    def _edge(self) -> int:
        return self._code_point() if self._take("\\") else ord(self._next())

    def _single(self, code_point: int) -> Characters:
        return Characters(self._with_cases(((code_point, code_point),)))

    def _with_cases(self, ranges: Ranges) -> Ranges:
        """Return ranges with the other cases of their letters, if those are to be found too."""
        if "i" not in self._flags:
            return ranges
        if ranges[-1][1] > 127:
            raise _OtherSyntaxError
        letters = {letter for letter in string.ascii_letters if _holds(ranges, ord(letter))}
        cases = {ord(letter.swapcase()) for letter in letters}
        cases |= {_OTHER_CASES[letter.lower()] for letter in letters if letter.lower() in "ks"}
        return normal([*ranges, *((case, case) for case in cases)])

    def _match(self, expected: re.Pattern[str]) -> re.Match[str] | None:
        match = expected.match(self._pattern, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def _next(self) -> str:
        if self.is_at_end:
            raise _OtherSyntaxError
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._at):
            self._at += len(text)
            return True
        return False


def _holds(ranges: Ranges, code_point: int) -> bool:
    return any(first <= code_point <= last for first, last in ranges)
