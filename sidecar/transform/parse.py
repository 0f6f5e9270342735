"""Parses messages: what a JSON or logfmt line says, its time and its severity.

In: records. Out: the same with `parsed`, times and marks. The message stays as it is; an object
is sent as the line has it where it can be, else written anew.
"""

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import or_
from typing import Final

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.logfmt import parse_pairs
from sidecar.transform.objects import BOM, ParseError, parse_object, severity_of, time_of, to_json
from sidecar.transform.records import (
    ERROR_SHIFT,
    NO_TIME,
    PARSED_APART,
    UNSURE,
    Records,
    marks_of,
    time_columns,
    times_of,
)
from sidecar.transform.severity import KLOG, SPELLINGS
from sidecar.transform.tight import messages_of

Said = tuple[int, int, int, int, bytes]
"""What one message says: its time (or NO_TIME), its marks, where in the message the object's
text stands if it can be sent as it stands there, or else the text written anew."""
NOTHING: Final[Said] = (NO_TIME, 0, 0, 0, b"")
ParseMessage = Callable[[bytes], Said]

_JSON_SPACE: Final = b" \t\r\n"
_KLOG: Final = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} ")


def parse_json(message: bytes) -> Said:
    """Return what a message of the format `json` says."""
    try:
        value = parse_object(message.removeprefix(BOM))
    except ParseError as error:
        return (NO_TIME, error.code << ERROR_SHIFT, 0, 0, b"")
    begin = len(message) - len(message.removeprefix(BOM).lstrip(_JSON_SPACE))
    end = len(message.rstrip(_JSON_SPACE))
    text = message[begin:end]
    time, severity = time_of(value, text), severity_of(value)
    if b"\n" in text or b"\r" in text:
        # A record must stay one line, so that what was joined of several is written anew.
        return (time, severity | PARSED_APART, 0, 0, to_json(value))
    return (time, severity, begin, end, b"")


def parse_logfmt(message: bytes) -> Said:
    """Return what a message of the format `logfmt` says."""
    pairs = parse_pairs(message)
    if pairs is None:
        return NOTHING
    text = to_json(pairs)
    return (time_of(pairs, text), severity_of(pairs) | PARSED_APART, 0, 0, text)


def parse_auto(message: bytes) -> Said:
    """Return what a message of the format `auto` says: `{` begins JSON, klog has a head."""
    if message.removeprefix(BOM).startswith(b"{"):
        return parse_json(message)
    if _KLOG.match(message):
        return (NO_TIME, KLOG[message[:1]], 0, 0, b"")
    return NOTHING


PARSERS: Final[dict[str, ParseMessage]] = {
    "json": parse_json,
    "logfmt": parse_logfmt,
    "auto": parse_auto,
}


def parse_messages(format_name: str) -> Callable[[Records], Records]:
    """Return the step that parses all messages; where nothing is said nothing is changed."""
    parse = PARSERS[format_name]

    def step(records: Records) -> Records:
        native = library()
        if native is None or not records.count:
            return with_said(records, [parse(message) for message in messages_of(records)])
        read = in_c.read_objects(native, format_name, records.text, columns_of(records), SPELLINGS)
        if not read.found and not read.unsure:
            return records
        records = replace(records, columns=read.columns, parsed=read.text)
        return _ask(records, parse) if read.unsure else records

    return step


def _ask(records: Records, parse: ParseMessage) -> Records:
    """Return the records with what those say that objects.c has left to Python (UNSURE)."""
    rows = [row for row, mark in enumerate(marks_of(records)) if mark & UNSURE]
    return with_said_at(records, rows, [parse(records.message(row)) for row in rows])


def with_said_at(records: Records, rows: Sequence[int], said: Sequence[Said]) -> Records:
    """Return records of which some are parsed with what others say, or say instead."""
    columns, times = columns_of(records), times_of(records)
    marks = marks_of(records)
    begins = columns.parsed_begins or array("q", bytes(8 * records.count))
    ends = columns.parsed_ends or array("q", bytes(8 * records.count))
    apart, size = [records.parsed], len(records.parsed)
    for row, (time, mark, begin, end, text) in zip(rows, said, strict=True):
        marks[row] = marks[row] & ~(UNSURE | PARSED_APART) | mark
        if time != NO_TIME:
            times[row] = time
        if mark & PARSED_APART:
            begins[row], ends[row] = size, size + len(text)
            apart.append(text)
            size += len(text)
        else:
            message = columns.begins[row]
            begins[row], ends[row] = message + begin, message + end
    seconds, nanos = time_columns(times)
    columns = replace(
        columns, seconds=seconds, nanos=nanos, marks=marks, parsed_begins=begins, parsed_ends=ends
    )
    return replace(records, columns=columns, parsed=b"".join(apart))


def with_said(records: Records, said: Sequence[Said]) -> Records:
    """Return the records with what their messages say."""
    if not said or all(each is NOTHING for each in said):
        return records
    columns = columns_of(records)
    times, marks, begins, ends, apart = zip(*said, strict=True)
    own = zip(times_of(records), times, strict=True)
    seconds, nanos = time_columns(before if time == NO_TIME else time for before, time in own)
    places = array("q", accumulate(map(len, apart), initial=0))
    spans = list(zip(places, places[1:], marks, columns.begins, begins, ends, strict=False))
    return replace(
        records,
        parsed=b"".join(apart),
        columns=replace(
            columns,
            seconds=seconds,
            nanos=nanos,
            marks=array("q", map(or_, marks_of(records), marks)),
            parsed_begins=array(
                "q",
                [
                    place if mark & PARSED_APART else message + begin
                    for place, _, mark, message, begin, _ in spans
                ],
            ),
            parsed_ends=array(
                "q",
                [
                    stop if mark & PARSED_APART else message + end
                    for _, stop, mark, message, _, end in spans
                ],
            ),
        ),
    )
