r"""Patterns of users: RE2's syntax and meaning, over the messages of whole blocks.

Most of them become tables that C runs over all messages at once (automaton.c). The others, and
all of them without the library, are RE2's. It matches in time linear in the text, whatever the
pattern, but a call from Python costs more than what RE2 does in it: one search runs over many
messages wherever it can, newlines between them, `^` and `$` at each, and no part of the pattern
may match a newline. `\A`, `\z` and `(?-m` mean the text's ends and not a line's: those patterns
go message by message.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import re2

from sidecar.native import library
from sidecar.transform import automaton_in_c, in_c
from sidecar.transform.automaton import Search, first_text, is_literal, make_table, needed_text
from sidecar.transform.graph import TooLargeError
from sidecar.transform.lines import columns_of
from sidecar.transform.records import Records
from sidecar.transform.regex import read_regex
from sidecar.transform.regex_tree import (
    Look,
    Node,
    looks_in,
)
from sidecar.transform.tight import Tight, tighten

_TEXT_ANCHORS: Final = ("\\A", "\\z", "\\C", "(?-", "-m")
"""In a pattern that holds one of these (perhaps only as text), a line is not like a text."""

_ENDS: Final = {Look.TEXT_BEGIN, Look.TEXT_END, Look.LINE_BEGIN, Look.LINE_END}

_Match = Callable[[Any, bytes, int, int], list[tuple[int, int]]]
"""(anchor, text, begin, end) → the span of the first match; (-1, -1) for none."""
_ANYWHERE: Final = re2._re2.RE2.Anchor.UNANCHORED  # noqa: SLF001 - see _compile


class Pattern:
    """One compiled pattern. Messages are UTF-8; it matches anywhere in one, `^` at its begin."""

    def __init__(self, pattern: str) -> None:
        """Compile `pattern`.

        Raises:
            re2.error: RE2 does not know it. The settings have checked that it does.
        """
        self._pattern = pattern
        self._single = _compile(pattern)
        self._goes_by_lines = not any(anchor in pattern for anchor in _TEXT_ANCHORS)

    @cached_property
    def _tree(self) -> Node | None:
        return read_regex(self._pattern)

    @cached_property
    def sees_ends(self) -> bool:
        r"""Whether the pattern asks where a text or a line begins or ends, or may do so.

        If not, what it finds in a part of a text it also finds in the whole, if there is no
        word character beside that part.
        """
        return self._tree is None or any(look in _ENDS for look in looks_in(self._tree))

    @cached_property
    def _finder(self) -> automaton_in_c.Automaton | None:
        """What finds out whether there is a match."""
        return None if self._tree is None else _automaton(self._tree, Search.ANYWHERE)

    @cached_property
    def _matchers(self) -> tuple[automaton_in_c.Automaton, automaton_in_c.Automaton] | None:
        """What finds where a match ends, and from there where it begins."""
        if self._tree is None or (end := _automaton(self._tree, Search.END)) is None:
            return None
        begin = _automaton(self._tree, Search.BEGIN)
        return None if begin is None else (end, begin)

    @cached_property
    def _many(self) -> _Match:
        return _compile(f"(?m){self._pattern}", never_newline=True)

    def is_in(self, message: bytes) -> bool:
        """Return whether the message matches."""
        begin: int = self._single(_ANYWHERE, message, 0, len(message))[0][0]
        return begin >= 0

    def mask(self, records: Records) -> bytes:
        """Return a byte for each record: 1 where its message, as it is sent, matches."""
        native = library()
        if native is None or self._finder is None:
            return self._mask_by_re2(tighten(records))
        text, columns = records.text, columns_of(records)
        mask = automaton_in_c.find(native, text, (columns.begins, columns.ends), self._finder)
        if automaton_in_c.NOT_UTF8 in mask:
            for row in [row for row, found in enumerate(mask) if found == automaton_in_c.NOT_UTF8]:
                message = text[columns.begins[row] : columns.ends[row]]
                mask[row] = self.is_in(as_sent(message))
        return bytes(mask)

    def may_be_in(self, tight: Tight, among: bytes) -> bytes:
        """Return a 1 for each of some messages, all UTF-8, in which there may be a match.

        `among` has a 1 for each of them. If it is not found out at once, it may be in all.
        """
        native = library()
        if native is None or self._finder is None:
            return among
        count = sum(among)
        begins, ends = (
            in_c.keep(native, each, among, count) for each in (tight.begins, tight.ends)
        )
        found = automaton_in_c.find(native, tight.text, (begins, ends), self._finder)
        if 1 not in found:
            return bytes(len(among))
        each_found = iter(found)
        return bytes(is_one and next(each_found) for is_one in among)

    def may_be_escaped(self, tight: Tight) -> bytes:
        """Return a 1 for each JSON object in which a string with escapes may match without them.

        If that is not found out at once, each that has a backslash.
        """
        native = library()
        if native is None or self._finder is None or self.sees_ends:
            return bytes(b"\\" in message for message in tight.messages())
        return automaton_in_c.find_escaped(
            native, tight.text, (tight.begins, tight.ends), self._finder
        )

    def _mask_by_re2(self, tight: Tight) -> bytes:
        if not (self._goes_by_lines and tight.is_by_lines):
            return bytes(self.is_in(as_sent(message)) for message in tight.messages())
        mask = bytearray(len(tight))
        for row in self._rows(tight):
            mask[row] = 1
        return bytes(mask)

    def _rows(self, tight: Tight) -> Iterator[int]:
        """Yield the rows of lines that match, ascending."""
        match, text, begins, row_of = self._many, tight.text, tight.begins, tight.row
        row, last, end = 0, len(begins) - 1, len(text) - 1
        while row <= last and (place := match(_ANYWHERE, text, begins[row], end)[0][0]) >= 0:
            row = row_of(place)
            yield row
            row += 1

    def spans(self, tight: Tight) -> "array[int]":
        """Return begin and end, one after the other, of all matches in messages that are UTF-8.

        They are ascending, none is empty, and none goes over a message's end.
        """
        native = library()
        if native is None or self._matchers is None:
            return array("q", (place for span in self._spans_by_re2(tight) for place in span))
        return automaton_in_c.find_all(
            native, tight.text, (tight.begins, tight.ends), *self._matchers
        )

    def _spans_by_re2(self, tight: Tight) -> Iterator[tuple[int, int]]:
        if self._goes_by_lines and tight.is_by_lines:
            yield from _spans(self._many, tight.text, len(tight.text) - 1)
            return
        for begin, message in zip(tight.begins, tight.messages(), strict=True):
            for first, stop in _spans(self._single, message, len(message)):
                yield begin + first, begin + stop

    def redact_text(self, text: bytes, mark: bytes) -> bytes:
        """Return one text with `mark` for each match."""
        return put_mark(text, list(_spans(self._single, text, len(text))), mark)


def as_sent(message: bytes) -> bytes:
    """Return a message as it is sent: UTF-8, U+FFFD in the place of what is not."""
    return message if message.isascii() else message.decode("utf-8", "replace").encode("utf-8")


def put_mark(text: bytes, spans: Sequence[tuple[int, int]], mark: bytes) -> bytes:
    """Return the text with `mark` in the place of each span."""
    if not spans:
        return text
    begins, ends = zip(*spans, strict=True)
    between = zip((0, *ends), (*begins, len(text)), strict=True)
    return mark.join([text[begin:end] for begin, end in between])


def _spans(match: _Match, text: bytes, end: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each match before `end` that is not empty, from left to right."""
    place = 0
    while place <= end:
        begin, stop = match(_ANYWHERE, text, place, end)[0]
        if begin < 0:
            return
        if begin < stop:
            yield begin, stop
        place = max(stop, begin + 1)


def _automaton(tree: Node, search: Search) -> automaton_in_c.Automaton | None:
    if search is Search.ANYWHERE and is_literal(tree) and needed_text(tree):
        return automaton_in_c.Automaton(None, needed_text(tree))
    try:
        table = make_table(tree, search)
    except TooLargeError:
        return None
    first, needed = first_text(tree), needed_text(tree)
    if len(first) > 1:
        return automaton_in_c.Automaton(table, first, begins_needed=True)
    # A letter or a space alone is in most messages.
    is_common = len(needed) == 1 and (needed.isalnum() or needed == b" ")
    return automaton_in_c.Automaton(table, b"" if is_common else needed)


def _compile(pattern: str, *, never_newline: bool = False) -> _Match:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.never_nl = never_newline
    # The wrapper's search() makes a generator and an object a call, at three times the cost.
    match: _Match = re2.compile(pattern.encode("utf-8"), options)._regexp.Match  # noqa: SLF001
    return match
