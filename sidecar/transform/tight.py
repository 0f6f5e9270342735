"""Messages laid side by side: one text in which a newline stands between each two of them."""

from array import array
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import add
from typing import Final

from sidecar.transform.lines import columns_of
from sidecar.transform.records import Columns, Records

NEWLINE: Final = b"\n"


def messages_of(records: Records) -> list[bytes]:
    """Return every record's message."""
    text, columns = records.text, columns_of(records)
    spans = zip(columns.begins, columns.ends, strict=True)
    return [text[begin:end] for begin, end in spans]


@dataclass(frozen=True, slots=True)
class Tight:
    """The messages of some records in one text."""

    text: bytes
    begins: "array[int]"
    single: bool
    """No message has a newline in it."""
    is_utf8: bool


def tighten(records: Records) -> Tight:
    """Return the messages side by side; the records' own text where they stand so in it."""
    columns = columns_of(records)
    text = records.text.removesuffix(NEWLINE) if _are_side_by_side(columns, records.text) else None
    begins = columns.begins
    if text is None:
        messages = messages_of(records)
        text = NEWLINE.join(messages)
        begins = _begins(messages)
    single = text.count(NEWLINE) == records.count - 1
    return Tight(text, begins, single, _is_utf8(text))


def with_messages(records: Records, messages: list[bytes]) -> Records:
    """Return the records with other messages, side by side in their text."""
    columns = columns_of(records)
    begins = _begins(messages)
    ends = array("q", map(add, begins, map(len, messages)))
    columns = replace(columns, begins=begins, ends=ends)
    return replace(records, text=NEWLINE.join(messages), columns=columns)


def _begins(messages: list[bytes]) -> "array[int]":
    lengths = accumulate(map(len, messages), initial=0)
    return array("q", map(add, lengths, range(len(messages))))


def _are_side_by_side(columns: Columns, text: bytes) -> bool:
    begins, ends = columns.begins, columns.ends
    if not begins or begins[0] != 0 or ends[-1] != len(text.removesuffix(NEWLINE)):
        return False
    return begins[1:] == array("q", [end + 1 for end in ends[:-1]])


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
