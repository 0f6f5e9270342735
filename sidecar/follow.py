"""Step 3 of the line: one content becomes blocks of whole lines.

In: a descriptor, and the place up to which it is read. Out: what stands there: a run of whole
lines, a long line that was cut, a line that has no end yet, nothing, or another content. Every
read returns the bytes before the place too, so that no block comes from a content that is not
the one we think it is. Nothing is kept in memory but where a line without an end was searched.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.identity import ANCHOR_BYTES, NO_ANCHOR, anchor_length, digest, is_same
from sidecar.open import next_data

CHUNK_BYTES = 256 * 1024
"""Read at a time while the end of a long line is searched."""
TURN_BYTES = 8 * 1024 * 1024
"""Searched at most in one turn: other files have theirs in between."""
_SHORT_BYTES = 16 * 1024
_NEWLINE = 10
_RETURN = 13


@dataclass(slots=True)
class Place:
    """Where reading goes on; `0 <= position <= begin <= scanned <= probed`."""

    position: int = 0
    """Offset of the first byte that is not consumed."""
    anchor: bytes = NO_ANCHOR
    """The bytes before `position`, or their digest."""
    begin: int = 0
    """Where the next line begins: from `position` up to here stand NULs only (a filled hole)."""
    scanned: int = 0
    """From `begin` up to here there is no newline."""
    probed: int = 0
    """From `scanned` up to here stand NULs only, as of now: room that may yet be filled."""

    def go_to(self, position: int, anchor: bytes) -> None:
        """Consume everything before `position`."""
        self.position = self.begin = self.scanned = self.probed = position
        self.anchor = anchor

    def forget_probe(self) -> None:
        """The file changed: what was NUL may be text now."""
        self.probed = self.scanned


@dataclass(slots=True)  # not frozen: that would triple the time of making one
class Lines:
    """A run of whole lines, or one line that was cut, or (with its tail) an unterminated one."""

    start: int
    data: bytes
    end: int
    """Offset after it."""
    truncated: int
    """Bytes of the one line that are left out."""
    before: bytes
    """The anchor of `start`."""
    end_anchor: bytes | None
    """The anchor of `end`, where it does not follow from `before` and `data`."""
    at_end: bool
    """True if nothing stands behind it but perhaps an unterminated line."""
    terminated: bool = True
    """False if the last line has no end yet."""

    def anchor_at(self, offset: int) -> bytes:
        """Return the anchor of an offset from `start` to `end`."""
        if self.end_anchor is not None and offset == self.end:
            return self.end_anchor
        used = offset - self.start
        if used >= ANCHOR_BYTES:
            return self.data[used - ANCHOR_BYTES : used]
        return (self.before + self.data[:used])[-ANCHOR_BYTES:]


@dataclass(frozen=True, slots=True)
class Unterminated:
    """A line without an end, so far."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The end of a line was searched for a whole turn and not found; it goes on next time."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to read, but perhaps room that ends the file (NULs)."""

    room: int


@dataclass(frozen=True, slots=True)
class Changed:
    """The file has another content than the one whose place this is."""


Found = Lines | Unterminated | Unfinished | Nothing | Changed


def read_lines(
    descriptor: int, place: Place, *, size: int, want: int, max_line: int, tail: bool
) -> Found:
    """Return what stands at `place`.

    Args:
        descriptor: of the file.
        place: is moved over what gives no record: a newline that ends a line which was sent
            without it. Its search for the end of a line goes on from call to call.
        size: of the file, just looked up.
        want: bytes to read; a longer line is returned all the same.
        max_line: bytes of a line that are kept.
        tail: True to return the unterminated line at the file's end too.

    Raises:
        OSError: the file cannot be read.
    """
    if size < place.position:
        return Changed()
    reading = _Reading(descriptor, place, size, max_line, tail=tail)
    if place.probed - place.position <= _SHORT_BYTES:
        # Read from the line's beginning again: that is cheaper than two reads.
        place.begin = place.scanned = place.probed = place.position
        found = reading.run(want)
        if found is not None:
            return found
    return reading.long(want)


def cut_at_character(line: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of a line, no UTF-8 character of it in half.

    >>> cut_at_character("aä".encode() + b"b", 2)
    b'a'
    """
    if len(line) <= limit:
        return line
    begin = limit
    while begin > max(0, limit - 4) and line[begin] & 0xC0 == 0x80:
        begin -= 1
    # Where no character begins here the line is no UTF-8, and any place is as good.
    is_lead = line[begin] >= 0xC0
    return line[:begin] if is_lead else line[:limit]


def count_lines(
    descriptor: int, start: int, end: int, go_on: Callable[[], bool]
) -> tuple[int, int]:
    """Count the lines from `start` to `end`, as long as `go_on` says so; return where it ended.

    An unterminated last line counts; a newline that only ends a line which was sent does not.

    Raises:
        OSError: the file cannot be read.
    """
    at, lines, last = start, 0, b"\n"
    before = os.pread(descriptor, 3, start - 1) if start else b"\n"
    if before[:1] != b"\n":
        at += _ended_newline(before, 1)
    while at < end and go_on():
        chunk = os.pread(descriptor, min(CHUNK_BYTES, end - at), at)
        if not chunk:
            break
        lines += chunk.count(b"\n")
        last = chunk.rstrip(b"\0")[-1:] or last
        at += len(chunk)
        if chunk.endswith(b"\0"):
            at = next_data(descriptor, at, end)
    return lines + (last != b"\n"), at


class _Reading:
    """One call of `read_lines`."""

    __slots__ = ("descriptor", "max_line", "place", "size", "tail")

    def __init__(
        self, descriptor: int, place: Place, size: int, max_line: int, *, tail: bool
    ) -> None:
        self.descriptor = descriptor
        self.place = place
        self.size = size
        self.max_line = max_line
        self.tail = tail

    def run(self, want: int) -> Found | None:
        """Return the lines from `place.begin` on in one read.

        None if the line that begins there is too long for it, or a hole.
        """
        place = self.place
        begin = place.begin
        before = anchor_length(begin)
        length = before + min(want, self.size - begin)
        raw = os.pread(self.descriptor, length, begin - before)
        if len(raw) < before or not self._is_anchored(raw[:before]):
            return Changed()
        skip = before
        if begin == place.position:
            skip += _ended_newline(raw, before)
            if skip > before:
                begin += skip - before
                place.go_to(begin, raw[max(0, skip - ANCHOR_BYTES) : skip])
        if skip == len(raw):
            return Nothing(0) if begin >= self.size else Unfinished()
        if raw[skip] == 0:
            return None
        return self._cut(raw, skip)

    def _cut(self, raw: bytes, skip: int) -> Lines | Unterminated | None:
        """Return the whole lines of `raw` from `skip` on; None if the first has no end in it."""
        begin = self.place.begin
        until = raw.rfind(b"\n", skip) + 1
        at_end = begin + len(raw) - skip >= self.size
        if at_end and self.tail:
            # NULs at the end of the file are room that the writer may still fill.
            until = max(until, len(raw.rstrip(b"\0")))
        if until <= skip:
            if not at_end:
                return None
            self.place.scanned = begin + len(raw.rstrip(b"\0")) - skip
            self.place.probed = begin + len(raw) - skip
            return Unterminated()
        if until - skip > self.max_line:
            short = _whole_short_lines(raw, skip, until, self.max_line)
            if short == skip:
                return None
            at_end, until = at_end and short == until, short
        before = raw[max(0, skip - ANCHOR_BYTES) : skip]
        return Lines(
            start=begin,
            data=raw[skip:until],
            end=begin + until - skip,
            truncated=0,
            before=before,
            end_anchor=None,
            at_end=at_end,
            terminated=raw[until - 1] == _NEWLINE,
        )

    def long(self, want: int) -> Found:
        """Search the end of the line at the place; return the line when it is found."""
        place = self.place
        newline = self._search()
        if newline is not None:
            length = newline + 1 - place.begin
            found = self.run(max(want, length)) if length <= self.max_line else None
            return self._line(newline, newline + 1) if found is None else found
        if place.probed < self.size:
            return Unfinished()
        if place.scanned == place.begin:
            return Nothing(self.size - place.position)
        return self._line(place.scanned, place.scanned) if self.tail else Unterminated()

    def _search(self) -> int | None:
        """Return the offset of the next newline, searching on for one turn; None if not found."""
        place = self.place
        left = TURN_BYTES
        while left > 0 and place.probed < self.size:
            want = min(CHUNK_BYTES, self.size - place.probed)
            chunk = os.pread(self.descriptor, want, place.probed)
            if not chunk:
                break
            left -= len(chunk)
            at = place.probed
            place.probed += len(chunk)
            text = chunk.lstrip(b"\0")
            if not text:
                place.probed = next_data(self.descriptor, place.probed, self.size)
                continue
            if place.scanned == place.begin:
                place.begin = at + len(chunk) - len(text)
            newline = chunk.find(b"\n")
            if newline >= 0:
                return at + newline
            place.scanned = at + len(chunk.rstrip(b"\0"))
        return None

    def _line(self, line_end: int, end: int) -> Lines | Changed:
        """Return the line from `place.begin` to `line_end`; with its newline it ends at `end`."""
        begin = self.place.begin
        before = anchor_length(begin)
        length = before + min(end - begin, self.max_line + 2)
        raw = os.pread(self.descriptor, length, begin - before)
        if len(raw) < length or not self._is_anchored(raw[:before]):
            return Changed()
        line = raw[before:]
        length = line_end - begin
        if end > line_end and os.pread(self.descriptor, 1, line_end - 1) == b"\r":
            length -= 1
        data, end_anchor = line, None
        if length > self.max_line:
            data = cut_at_character(line, self.max_line)
            last = anchor_length(end)
            end_anchor = os.pread(self.descriptor, last, end - last)
        left_out = 0 if end_anchor is None else length - len(data)
        return Lines(
            start=begin,
            data=data,
            end=end,
            truncated=left_out,
            before=raw[:before],
            end_anchor=end_anchor,
            at_end=end == self.size,
            terminated=end > line_end,
        )

    def _is_anchored(self, before_begin: bytes) -> bool:
        """Return whether what stands before `place.position` is what was read there."""
        place = self.place
        if place.begin == place.position:
            return is_same(place.anchor, before_begin)
        length = anchor_length(place.position)
        return is_same(place.anchor, os.pread(self.descriptor, length, place.position - length))


def _ended_newline(raw: bytes, before: int) -> int:
    """Return the length of a newline that only ends a line which was sent without it."""
    if before == 0 or before == len(raw) or raw[before - 1] == _NEWLINE:
        return 0
    if raw[before] == _NEWLINE:
        return 1
    return 2 if raw[before] == _RETURN and raw[before + 1 : before + 2] == b"\n" else 0


def _whole_short_lines(raw: bytes, start: int, until: int, max_line: int) -> int:
    """Return the end of the lines from `start` on before the first that is over `max_line`.

    It steps over as many lines at a time as fit into `max_line`.
    """
    at = start
    while at < until:
        # A CR before the newline is no byte of the message.
        after = raw.rfind(b"\n", at, min(until, at + max_line + 1)) + 1
        if after <= at:
            if raw[at + max_line : at + max_line + 2] != b"\r\n":
                return until if until - at <= max_line else at
            after = at + max_line + 2
        at = after
    return until


def anchor_of(descriptor: int, offset: int) -> bytes:
    """Return the digest of what stands before `offset`.

    Raises:
        OSError: the file cannot be read.
    """
    length = anchor_length(offset)
    return digest(os.pread(descriptor, length, offset - length))
