r"""Patterns of users: RE2's, on whole blocks where that is the same as record by record.

RE2 matches in time linear in the text, whatever the pattern. A call from Python costs more than
what RE2 does in it, so that one search runs over many records wherever it can: messages with
newlines between them, `^` and `$` at each, and no part of the pattern may match a newline.
`\A`, `\z` and `(?-m` mean the text's ends and not a line's: those patterns go record by record.
Simple patterns (`^ERROR|WARN`) need no engine at all, if lines.c is there.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import re2

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.records import Records
from sidecar.transform.simple_patterns import as_bitmap, read_simple
from sidecar.transform.tight import Tight, split_text, tight_of, tighten

_TEXT_ANCHORS: Final = ("\\A", "\\z", "\\C", "(?-", "-m")
"""In a pattern that holds one of these (perhaps only as text), a line is not like a text."""

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
    def _simple(self) -> in_c.SimplePattern | None:
        simple = read_simple(self._pattern)
        if simple is None:
            return None
        return in_c.SimplePattern(
            [
                (each.at_begin, each.at_end, each.literal, b"".join(map(as_bitmap, each.sets)))
                for each in simple
            ]
        )

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
        if native is not None and self._simple is not None:
            return in_c.find_simple(native, records.text, columns_of(records), self._simple)
        tight = tighten(records)
        if not (self._goes_by_lines and tight.is_by_lines):
            return bytes(map(self.is_in, sent_messages(tight)))
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

    def redact(self, tight: Tight, mark: bytes) -> tuple[Tight, set[int]]:
        """Return messages with `mark` for each match, and the rows that were changed.

        A message that is not UTF-8 is searched, and changed, as it is sent.
        """
        if self._goes_by_lines and tight.is_by_lines:
            spans = list(_spans(self._many, tight.text, len(tight.text) - 1))
            rows = {tight.row(begin) for begin, _ in spans}
            text = put_mark(tight.text, spans, mark)
            return (split_text(text) if spans else tight), rows
        messages = tight.messages()
        rows = set()
        for row, message in enumerate(sent_messages(tight)):
            redacted = self.redact_text(message, mark)
            if redacted != message:
                messages[row] = redacted
                rows.add(row)
        return (tight_of(messages) if rows else tight), rows

    def redact_text(self, text: bytes, mark: bytes) -> bytes:
        """Return one text with `mark` for each match."""
        return put_mark(text, list(_spans(self._single, text, len(text))), mark)


def sent_messages(tight: Tight) -> list[bytes]:
    """Return each message as it is sent: UTF-8, U+FFFD in the place of what is not."""
    messages = tight.messages()
    if all(map(bytes.isascii, messages)):
        return messages
    return [message.decode("utf-8", "replace").encode("utf-8") for message in messages]


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


def _compile(pattern: str, *, never_newline: bool = False) -> _Match:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.never_nl = never_newline
    # The wrapper's search() makes a generator and an object a call, at three times the cost.
    match: _Match = re2.compile(pattern.encode("utf-8"), options)._regexp.Match  # noqa: SLF001
    return match
