"""Leaves records out: `keep` and `drop` by pattern, `skip_empty` by having no message."""

import re
from array import array
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, compress
from operator import lt
from typing import TYPE_CHECKING, Final

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.records import Columns, Records, pack_left_out

if TYPE_CHECKING:
    from sidecar.transform.patterns import Pattern

_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_EMPTY_FIRST_LINE: Final = (b"\n", b"\r\n")
_OTHER: Final = bytes([1, 0])
"""Turns a mask into its opposite."""


def keep_matching(pattern: "Pattern") -> Callable[[Records], Records]:
    """Return the step that keeps only records that match."""

    def keep(records: Records) -> Records:
        return leave_out(records, pattern.mask(records), unit=pack_left_out(filtered=1))

    return keep


def drop_matching(pattern: "Pattern") -> Callable[[Records], Records]:
    """Return the step that leaves out the records that match."""

    def drop(records: Records) -> Records:
        rest = pattern.mask(records).translate(_OTHER.ljust(256, b"\0"))
        return leave_out(records, rest, unit=pack_left_out(filtered=1))

    return drop


def drop_empty(records: Records) -> Records:
    """Leave out records without a message."""
    text = records.text
    has_empty = text.startswith(_EMPTY_FIRST_LINE) or _EMPTY_LINE.search(text) is not None
    if records.columns is None and not has_empty:
        return records
    columns = columns_of(records)
    mask = bytes(map(lt, columns.begins, columns.ends))
    return leave_out(replace(records, columns=columns), mask, unit=pack_left_out(empty=1))


def leave_out(records: Records, mask: bytes, *, unit: int) -> Records:
    """Return the records that `mask` has a 1 for; the lines of the others are counted.

    Args:
        records: of which some may go.
        mask: a byte for each record, 0 or 1.
        unit: what a line counts in `Columns.left_out`.
    """
    if 0 not in mask:
        return records
    columns, count, native = columns_of(records), sum(mask), library()
    if native is None:
        left_out = left_out_before(columns, mask, unit)
        kept = columns.each(lambda column: array("q", compress(column, mask)))
    else:
        left_out = in_c.left_out(native, columns, mask, unit, count)
        kept = columns.each(lambda column: in_c.keep(native, column, mask, count))
    tail = left_out.pop() + records.left_out
    kept = replace(kept, left_out=left_out, stops=_reach(columns, mask))
    return replace(records, columns=kept, count=count, left_out=tail)


def left_out_before(columns: Columns, mask: bytes, unit: int) -> "array[int]":
    """Return what is left out before each of the rows that stay, and before the end.

    lines.c does the same.
    """
    count = len(mask)
    passed = list(accumulate(columns.lines or [1] * count, initial=0))
    before = list(accumulate(columns.left_out or [0] * count, initial=0))
    left_out = array("q")
    last = 0
    for row in [*compress(range(count), mask), count]:
        own = before[min(row + 1, count)] - before[last]
        left_out.append(unit * (passed[row] - passed[last]) + own)
        last = row + 1
    return left_out


def _reach(columns: Columns, mask: bytes) -> "array[int] | None":
    """Return the stops of the rows that stay: those that leave still hold up a cut."""
    if columns.stops is None:
        return None
    rows = list(compress(range(len(mask)), mask))
    reached = list(accumulate(columns.stops, max))
    return array("q", [reached[following - 1] for following in [*rows[1:], len(reached)]])
