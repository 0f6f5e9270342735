r"""Patterns of users: RE2's, on whole blocks where that is the same as record by record.

RE2 matches in time linear in the text, whatever the pattern; what a call costs in Python is
more than what it costs in RE2, so that one search runs over many records wherever it can: the
records joined by newlines, `^` and `$` at each of them, and no part of the pattern may match a
newline. `\A`, `\z` and `(?-m` mean the text's ends and not the line's: those patterns go record
by record.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import re2

_TEXT_ANCHORS: Final = ("\\A", "\\z", "\\C", "(?-", "-m")
"""In a pattern that holds one of these (perhaps only as text), a line is not like a text."""


_Match = Callable[[Any, bytes, int, int], list[tuple[int, int]]]
"""(anchor, text, begin, end) → the span of the first match; (-1, -1) for none."""
_ANYWHERE: Final = re2._re2.RE2.Anchor.UNANCHORED  # noqa: SLF001 - see _compile


class Pattern:
    """One compiled pattern. Messages are UTF-8; they match anywhere, `^` is a message's begin."""

    def __init__(self, pattern: str) -> None:
        """Compile `pattern`.

        Raises:
            re2.error: RE2 does not know it. The settings have checked that it does.
        """
        self._single = _compile(pattern)
        self.goes_by_lines = not any(anchor in pattern for anchor in _TEXT_ANCHORS)
        """Whether `hits` (and `spans` with `many`) may be asked."""
        by_lines = self.goes_by_lines
        self._many = _compile(f"(?m){pattern}", never_newline=True) if by_lines else self._single

    def is_in(self, message: bytes) -> bool:
        """Return whether the message matches."""
        begin: int = self._single(_ANYWHERE, message, 0, len(message))[0][0]
        return begin >= 0

    def hits(self, lines: bytes) -> Iterator[int]:
        """Yield a place in each line that matches, ascending.

        Args:
            lines: messages without newlines in them, with a newline between each two.
        """
        match, end, next_line = self._many, len(lines), 0
        while (begin := match(_ANYWHERE, lines, next_line, end)[0][0]) >= 0:
            yield begin
            next_line = lines.find(b"\n", begin) + 1
            if not next_line:
                return

    def spans(self, text: bytes, *, many: bool = False) -> Iterator[tuple[int, int]]:
        """Yield begin and end of each match that is not empty, from left to right.

        Args:
            text: one message; with `many` lines as in `hits`, each searched by itself.
            many: whether there are many.
        """
        match = self._many if many else self._single
        size, place = len(text), 0
        while place <= size:
            begin, end = match(_ANYWHERE, text, place, size)[0]
            if begin < 0:
                return
            if begin < end:
                yield begin, end
            place = max(end, begin + 1)


def _compile(pattern: str, *, never_newline: bool = False) -> _Match:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.never_nl = never_newline
    # The wrapper's search() makes a generator and an object a call, at three times the cost.
    match: _Match = re2.compile(pattern.encode("utf-8"), options)._regexp.Match  # noqa: SLF001
    return match
