"""Joins the lines of one record: traces, indented lines, or up to the next first line.

In: records that are lines. Out: records of one or more lines each, joined by newlines, streams
apart. The last record of a stream is open at a block's end: the next line may belong to it.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Final

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.records import IOSTREAM_SHIFT, NO_END, Records
from sidecar.transform.tight import NEWLINE, Tight, messages_of, tighten
from sidecar.transform.traces import RULES, Rules, follow, is_high

if TYPE_CHECKING:
    from sidecar.transform.patterns import Pattern

_OPPOSITE: Final = bytes([1, 0]).ljust(256, b"\0")
AWAY_BYTES: Final = 16 * 1024
"""A record also ends where so much of the other stream has followed its last line: else a
stream that has fallen silent would hold up the one that flows."""

FindJoined = Callable[[Records, bool], bytearray]
"""(lines of one stream, flush) → 1 for each line that belongs to the record before it."""


def join_by_rules(name: str) -> FindJoined:
    """Return how the lines of records are found by built-in rules: a name in `RULES`."""
    rules = RULES[name]()

    def find(records: Records, flush: bool) -> bytearray:  # noqa: FBT001 - FindJoined
        return _joined_by_rules(tighten(records), rules, flush=flush)

    return find


def join_by_first_line(pattern: "Pattern") -> FindJoined:
    """Return how the lines of records are found by a pattern that matches their first lines."""

    def find(records: Records, flush: bool) -> bytearray:  # noqa: ARG001, FBT001 - FindJoined
        joined = bytearray(pattern.mask(records).translate(_OPPOSITE))
        joined[0] = 0
        return joined

    return find


def join_lines(find: FindJoined, *, max_bytes: int) -> Callable[[Records, bool], Records]:
    """Return the step that joins lines to records: (records, flush) → records.

    A record that is open at the end has NO_END in `stops`, unless flushed. One that would be
    longer than `max_bytes` goes on as another record, and is counted in `splits`.
    """

    def join(records: Records, flush: bool) -> Records:  # noqa: FBT001 - one value, passed on
        if not records.count:
            return records
        streams = _streams(records)
        grouped = [_group(records, rows, find, max_bytes, flush=flush) for rows in streams]
        return _join_one(records, *grouped) if len(grouped) == 1 else _join_all(records, grouped)

    return join


@dataclass(frozen=True, slots=True)
class _Grouped:
    """The lines of one stream, as rows, and where its records begin among them."""

    rows: Sequence[int]
    starts: list[int]
    """Places in `rows`, ascending, the first 0."""
    splits: Sequence[int]
    """Those at which a record begins only because the one before was full."""
    is_open: bool
    """The last record is."""

    def spans(self) -> Iterator[Sequence[int]]:
        """Yield the rows of each record."""
        for begin, end in pairwise([*self.starts, len(self.rows)]):
            yield self.rows[begin:end]


def _joined_by_rules(tight: Tight, rules: Rules, *, flush: bool) -> bytearray:
    text, begins = tight.text, tight.begins
    joined = bytearray(len(tight))
    done = 0
    for row in _special_rows(tight, rules):
        if row < done or (row and not rules.special.match(text, begins[row] - 1)):
            continue
        reach = follow(rules, text, begins[row], flush=flush)
        if reach is None:
            continue
        # Directly behind another trace there is no line whose record it could belong to.
        belongs = not reach.is_trace or (row > done and is_high(tight[row - 1]))
        done = tight.row(reach.stop) if reach.stop < len(text) else len(tight)
        done = max(done, row + 1)  # a message of Docker's may have lines itself
        joined[row:done] = bytes([belongs]) + b"\1" * (done - row - 1)
    joined[0] = 0
    return joined


def _special_rows(tight: Tight, rules: Rules) -> Iterable[int]:
    """Return rows, among them the first one and all that `rules` may find special."""
    native = library()
    if native is not None:
        return chain((0,), in_c.first_bytes(native, tight.text, tight.begins, rules.first_bytes))
    newlines = rules.special.finditer(tight.text)
    return chain((0,), (tight.row(newline.end()) for newline in newlines))


def _streams(records: Records) -> list[Sequence[int]]:
    """Return the rows of each stream."""
    marks = None if records.columns is None else records.columns.marks
    if marks is None or len(set(marks)) == 1:
        return [range(records.count)]
    streams: dict[int, list[int]] = {}
    for row, mark in enumerate(marks):
        streams.setdefault(mark >> IOSTREAM_SHIFT & 0b11, []).append(row)
    return list(streams.values())


def _group(
    records: Records, rows: Sequence[int], find: FindJoined, max_bytes: int, *, flush: bool
) -> _Grouped:
    """Return the records of one stream."""
    runs, is_open = [rows], not flush
    if len(rows) < records.count:
        offsets = columns_of(records).offsets
        behind = [*offsets[1:], records.end]
        runs = list(_runs(rows, offsets, behind))
        is_open = is_open and records.end - behind[rows[-1]] <= AWAY_BYTES
    starts: list[int] = []
    splits: list[int] = []
    first = 0
    for run in runs:
        last_is_open = is_open and run is runs[-1]
        for full in _find_starts(records, run, find, max_bytes, flush=not last_is_open):
            splits += [first + full[0]] if full[0] else []
            starts += [first + place for place in full] if first else full
        first += len(run)
    return _Grouped(rows, starts, splits, is_open)


def _runs(
    rows: Sequence[int], offsets: Sequence[int], behind: Sequence[int]
) -> Iterator[Sequence[int]]:
    """Yield the runs of one stream's lines that the other has not come far between."""
    first = 0
    for place in range(1, len(rows)):
        if offsets[rows[place]] - behind[rows[place - 1]] > AWAY_BYTES:
            yield rows[first:place]
            first = place
    yield rows[first:]


def _find_starts(
    records: Records, rows: Sequence[int], find: FindJoined, max_bytes: int, *, flush: bool
) -> Iterator[list[int]]:
    """Yield the places in a run at which records begin, a list for all up to one that was full.

    What follows a record that was full is looked at anew: so it will be when a block begins
    there.
    """
    columns = columns_of(records)
    first = 0
    while first < len(rows):
        rest = rows[first:]
        joined = find(records if len(rest) == records.count else records.pick(rest), flush)
        full = len(rest)
        if records.end - records.start > max_bytes:
            sizes = (columns.ends[row] - columns.begins[row] + 1 for row in rest)
            full = _first_full(joined, sizes, max_bytes + 1)
        yield [first + place for place in range(full) if not joined[place]]
        first += full


def _first_full(joined: bytearray, sizes: Iterable[int], max_bytes: int) -> int:
    """Return the first place at which a record would be too long; else how many lines there are."""
    size = 0
    for place, line in enumerate(sizes):
        size = size + line if joined[place] else line
        if size > max_bytes and joined[place]:
            return place
    return len(joined)


def _join_one(records: Records, grouped: _Grouped) -> Records:
    """Return the records of the only stream; they are runs of its lines, side by side."""
    tight = tighten(records)
    columns = columns_of(records)
    starts, count = grouped.starts, records.count
    begins = array("q", [tight.begins[start] for start in starts])
    ends = array("q", [begin - 1 for begin in begins[1:]])
    ends.append(len(tight.text) - 1)
    lines = array("q", map(sub, [*starts[1:], count], starts))
    if columns.lines is not None:  # of parts that were joined before
        spans = pairwise([*starts, count])
        lines = array("q", [sum(columns.lines[begin:end]) for begin, end in spans])
    joined = columns.pick(starts) if len(starts) < count else columns
    whole = replace(
        records,
        text=tight.text,
        count=len(starts),
        columns=replace(joined, begins=begins, ends=ends, lines=lines, stops=None),
        splits=(*records.splits, *(columns.offsets[place] for place in grouped.splits)),
    )
    return whole.slice(0, len(starts) - 1) if grouped.is_open else whole


def _join_all(records: Records, streams: Iterable[_Grouped]) -> Records:
    """Return the records of several streams, in the order of their first lines."""
    columns = columns_of(records)
    behind = [*columns.offsets[1:], records.end] if columns.stops is None else columns.stops
    groups = sorted(_with_stops(streams, behind), key=itemgetter(0))
    messages = messages_of(records)
    texts = [NEWLINE.join([messages[row] for row in rows]) for _, rows, _ in groups]
    lines = columns.lines or [1] * records.count
    ends = array("q", accumulate(map(len, texts)))
    joined = replace(
        columns.pick([first for first, _, _ in groups]),
        begins=array("q", [0, *ends[:-1]]),
        ends=ends,
        stops=array("q", [stop for _, _, stop in groups]),
        lines=array("q", [sum(lines[row] for row in rows) for _, rows, _ in groups]),
    )
    splits = [
        columns.offsets[grouped.rows[place]] for grouped in streams for place in grouped.splits
    ]
    return replace(
        records,
        text=b"".join(texts),
        count=len(groups),
        columns=joined,
        splits=(*records.splits, *splits),
    )


def _with_stops(
    streams: Iterable[_Grouped], behind: Sequence[int]
) -> Iterator[tuple[int, Sequence[int], int]]:
    """Yield (first row, rows, stop) of each record."""
    for grouped in streams:
        spans = list(grouped.spans())
        for rows in spans:
            is_open = grouped.is_open and rows is spans[-1]
            yield rows[0], rows, NO_END if is_open else max(behind[row] for row in rows)
