"""Messages laid side by side: one text in which a newline stands behind each of them.

A pattern runs over all of them at once. What stays of them afterwards is found by its place.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of, count_lines, split
from sidecar.transform.records import Records

NEWLINE: Final = b"\n"


@dataclass(frozen=True, slots=True)
class Tight:
    """The messages of some records in one text."""

    text: bytes
    """Each message and a newline; empty where there are no messages."""
    begins: "array[int]"
    """Where each message begins."""

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, row: int) -> bytes:
        """Return the message at `row`."""
        last = row == len(self.begins) - 1
        return self.text[
            self.begins[row] : len(self.text) - 1 if last else self.begins[row + 1] - 1
        ]

    def row(self, place: int) -> int:
        """Return whose message, or newline behind it, stands at a place in the text."""
        return bisect_right(self.begins, place) - 1

    def ends(self) -> "array[int]":
        """Return where each message ends."""
        ends = array("q", [begin - 1 for begin in self.begins[1:]])
        if self.begins:
            ends.append(len(self.text) - 1)
        return ends

    def messages(self) -> list[bytes]:
        """Return all messages."""
        spans = zip(self.begins, self.ends(), strict=True)
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
        return Tight(text, columns_of(records).begins)
    columns = columns_of(records)
    native = library()
    if native is None:
        return tight_of(messages_of(records))
    return Tight(*in_c.gather(native, text, columns))


def tight_of(messages: Iterable[bytes]) -> Tight:
    """Return messages side by side; lines.c does the same."""
    pieces = [message + NEWLINE for message in messages]
    begins = array("q", accumulate(map(len, pieces), initial=0))
    begins.pop()
    return Tight(b"".join(pieces), begins)


def split_text(text: bytes) -> Tight:
    """Return the messages of a text in which a newline stands behind each."""
    native = library()
    if native is None:
        return Tight(text, split(text, 0).begins)
    return Tight(text, in_c.split_lines(native, text, 0, in_c.count_lines(native, text)).begins)


def with_messages(records: Records, tight: Tight) -> Records:
    """Return the records with other messages."""
    columns = replace(columns_of(records), begins=tight.begins, ends=tight.ends())
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
