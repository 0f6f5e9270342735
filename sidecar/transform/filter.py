"""Leaves records out: `keep` and `drop` by pattern, `skip_empty` by having no message."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from sidecar.transform.lines import columns_of, with_columns
from sidecar.transform.records import Columns, Records, pack_left_out
from sidecar.transform.tight import Tight, tighten

if TYPE_CHECKING:
    from sidecar.transform.patterns import Pattern

_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_EMPTY_FIRST_LINE: Final = (b"\n", b"\r\n")


def keep_matching(pattern: "Pattern") -> Callable[[Records], Records]:
    """Return the step that keeps only records that match."""

    def keep(records: Records) -> Records:
        rows = matching_rows(records, pattern)
        return leave_out(records, rows, unit=pack_left_out(filtered=1))

    return keep


def drop_matching(pattern: "Pattern") -> Callable[[Records], Records]:
    """Return the step that leaves out the records that match."""

    def drop(records: Records) -> Records:
        rows = matching_rows(records, pattern)
        if not rows:
            return records
        matching = set(rows)
        rest = [row for row in range(records.count) if row not in matching]
        return leave_out(records, rest, unit=pack_left_out(filtered=1))

    return drop


def drop_empty(records: Records) -> Records:
    """Leave out records without a message."""
    text = records.text
    has_empty = text.startswith(_EMPTY_FIRST_LINE) or _EMPTY_LINE.search(text) is not None
    if records.columns is None and not has_empty:
        return records
    records = with_columns(records)
    columns = columns_of(records)
    spans = zip(columns.begins, columns.ends, strict=True)
    rows = [row for row, (begin, end) in enumerate(spans) if begin < end]
    return leave_out(records, rows, unit=pack_left_out(empty=1))


def matching_rows(records: Records, pattern: "Pattern") -> Sequence[int]:
    """Return which records match, ascending. A pattern sees a message as it is sent."""
    if not records.count:
        return []
    tight = tighten(records)
    if tight.single and tight.is_utf8 and pattern.goes_by_lines:
        return [bisect_right(tight.begins, hit) - 1 for hit in pattern.hits(tight.text)]
    return [row for row, message in enumerate(sent_messages(tight)) if pattern.is_in(message)]


def sent_messages(tight: Tight) -> list[bytes]:
    """Return each message as it is sent: UTF-8, U+FFFD in the place of what is not."""
    begins, text = tight.begins, tight.text
    ends = [*(begin - 1 for begin in begins[1:]), len(text)]
    messages = [text[begin:end] for begin, end in zip(begins, ends, strict=True)]
    if tight.is_utf8:
        return messages
    return [message.decode("utf-8", "replace").encode("utf-8") for message in messages]


def leave_out(records: Records, rows: Sequence[int], *, unit: int) -> Records:
    """Return the records at `rows` (ascending); the lines of the others are counted in `unit`s."""
    if len(rows) == records.count:
        return records
    records = with_columns(records)
    columns = columns_of(records)
    lines = columns.lines or [1] * records.count
    before = columns.left_out or [0] * records.count
    # How much is left out before each row, if that row is the next to be kept.
    passed = list(accumulate(lines, initial=0))
    counted = list(accumulate(before, initial=0))
    left_out = array("q")
    last = 0
    for row in [*rows, records.count]:
        gone = unit * (passed[row] - passed[last])
        left_out.append(gone + counted[min(row + 1, records.count)] - counted[last])
        last = row + 1
    tail = left_out.pop() + records.left_out
    kept = replace(columns.pick(list(rows)), left_out=left_out, stops=_reach(columns, rows))
    return replace(records, columns=kept, count=len(rows), left_out=tail)


def _reach(columns: Columns, rows: Sequence[int]) -> "array[int] | None":
    """Return the stops of the rows that stay: those that leave still hold up a cut."""
    if columns.stops is None:
        return None
    reached = list(accumulate(columns.stops, max))
    return array("q", [reached[following - 1] for following in [*rows[1:], len(reached)]])
