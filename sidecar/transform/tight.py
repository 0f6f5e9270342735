"""Messages laid side by side: one text in which a newline stands behind each of them.

A pattern runs over all of them at once. What stays of them afterwards is found by its place.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from sidecar.native import library
from sidecar.transform import automaton_in_c, in_c
from sidecar.transform.lines import columns_of, count_lines
from sidecar.transform.records import Records

NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class Tight:
    """The messages of some records in one text."""

    text: bytes
    """Each message and a newline; empty where there are no messages."""
    begins: "array[int]"
    """Where each message begins."""
    ends: "array[int]"
    """Where it ends: the newline is there."""

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, row: int) -> bytes:
        """Return the message at `row`."""
        return self.text[self.begins[row] : self.ends[row]]

    def row(self, place: int) -> int:
        """Return whose message, or newline behind it, stands at a place in the text."""
        return bisect_right(self.begins, place) - 1

    def messages(self) -> list[bytes]:
        """Return all messages."""
        spans = zip(self.begins, self.ends, strict=True)
        return [self.text[begin:end] for begin, end in spans]

    @property
    def is_by_lines(self) -> bool:
        """No message has a newline in it, and all are UTF-8."""
        return count_lines(self.text) == len(self.begins) and is_utf8(self.text)


def messages_of(records: Records) -> list[bytes]:
    """Return every record's message."""
    text, columns = records.text, columns_of(records)
    spans = zip(columns.begins, columns.ends, strict=True)
    return [text[begin:end] for begin, end in spans]


def tighten(records: Records) -> Tight:
    """Return the messages side by side: the records' own text if they stand so in it."""
    text = records.text
    if records.columns is None and text.endswith(NEWLINE) and b"\r" not in text:
        columns = columns_of(records)
        return Tight(text, columns.begins, columns.ends)
    columns = columns_of(records)
    native = library()
    if native is None:
        return tight_of(messages_of(records))
    return _tight(*in_c.gather(native, text, columns))


def tight_of(messages: Iterable[bytes]) -> Tight:
    """Return messages side by side; lines.c does the same."""
    pieces = [message + NEWLINE for message in messages]
    begins = array("q", accumulate(map(len, pieces), initial=0))
    begins.pop()
    return _tight(b"".join(pieces), begins)


def with_marks(tight: Tight, spans: "array[int]", mark: bytes) -> tuple[Tight, bytes]:
    """Return the messages with `mark` for each span, and a 1 for each that had one.

    `spans` are begin and end, one after the other, as `Pattern.spans` returns them.
    """
    native = library()
    if native is not None:
        written = automaton_in_c.redact(native, tight.text, (tight.begins, tight.ends), spans, mark)
        return Tight(*written[:3]), written[3]
    firsts, stops = spans[::2], spans[1::2]
    between = zip((0, *stops), (*firsts, len(tight.text)), strict=True)
    text = mark.join([tight.text[stop:first] for stop, first in between])
    longer = (len(mark) - (stop - first) for first, stop in zip(firsts, stops, strict=True))
    moved = list(accumulate(longer, initial=0))
    rows = bytearray(len(tight))
    for first in firsts:
        rows[tight.row(first)] = 1
    begins = array("q", [begin + moved[bisect_left(firsts, begin)] for begin in tight.begins])
    return _tight(text, begins), bytes(rows)


def _tight(text: bytes, begins: "array[int]") -> Tight:
    ends = array("q", [begin - 1 for begin in begins[1:]])
    if begins:
        ends.append(len(text) - 1)
    return Tight(text, begins, ends)


def with_messages(records: Records, tight: Tight) -> Records:
    """Return the records with other messages."""
    columns = replace(columns_of(records), begins=tight.begins, ends=tight.ends)
    return replace(records, text=tight.text, columns=columns)


def is_utf8(text: bytes) -> bool:
    """Return whether a text is UTF-8."""
    if text.isascii():
        return True
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
