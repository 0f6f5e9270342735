"""The encoder without C: columns of bytes, joined once. It says what encode.c has to write.

Nothing here is done record by record where it can be done for all of them: each part of the
template becomes a column, constant parts one object repeated.
"""

import contextlib
import ctypes
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from io import BytesIO
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any, Final

import orjson

from sidecar.transform.records import (
    ERROR_SHIFT,
    IOSTREAM_SHIFT,
    NO_TIME,
    PARSE_ERRORS,
    PARSED_APART,
    REDACTED,
    SECOND,
    Records,
    times_of,
)
from sidecar.wire import (
    Clock,
    IoStream,
    MapHeader,
    Message,
    Number,
    Offset,
    PackedId,
    Parsed,
    ParseError,
    Part,
    RawMessage,
    ReadAt,
    Severity,
    Template,
    Text,
    Time,
    Truncated,
    join_constants,
)

if TYPE_CHECKING:
    from array import array

Column = bytes | Sequence[bytes]
"""A part's bytes, record by record, or one object where all are alike."""

_DELETE = b"\x7f"
"""Stands between messages while they are escaped together: orjson leaves it as it is."""
_PIECE_BYTES = 64 * 1024
"""Of plain lines encoded at a time: what is made of more would not stay in the cache."""
_KEPT_BYTES: Final = 4 * 1024 * 1024
"""Of freed memory that is kept for the next piece."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Of glibc's <malloc.h>."""


def encodings(records: Records, template: Template, after: int) -> "Iterator[Encoding]":
    """Yield the records in pieces that are each encoded within the cache.

    Args:
        records: at least one.
        template: of the records' file.
        after: see `Body.append`.
    """
    _keep_freed_memory()
    if records.columns is not None or len(records.text) <= 2 * _PIECE_BYTES:
        yield Encoding(records, template, after)
        return
    text, begin = records.text, 0
    while begin < len(text):
        end = text.find(b"\n", begin + _PIECE_BYTES) + 1 or len(text)
        piece = replace(records, text=text[begin:end], start=records.start + begin)
        encoding = Encoding(piece, template, after)
        yield encoding
        begin, after = end, encoding.times[-1]


@cache
def _keep_freed_memory() -> None:
    """Let the allocator keep what a piece needed: page faults would be a quarter of the time."""
    with contextlib.suppress(OSError, AttributeError):  # musl's has nothing to set
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        allocator.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def increasing_times(times: Iterable[int], after: int) -> list[int]:
    """Return times of which none stands still or goes back by less than a second.

    One that goes back further is left alone, or a single line from the future would drag all
    others there.
    """
    moved = []
    for time in times:
        after = after + 1 if 0 <= after - time < SECOND else time
        moved.append(after)
    return moved


class Encoding:
    """Some records and their template: what the template's parts write, each looked up once."""

    def __init__(self, records: Records, template: Template, after: int) -> None:
        self._records = records
        self._template = template
        self._after = after

    @cached_property
    def count(self) -> int:
        """How many records there are."""
        return self._records.count if self._records.columns is not None else len(self._lines)

    def whole(self) -> bytes:
        """Return all records, one after the other; not for framed templates."""
        columns = self._columns()
        # The list of all pieces, filled column by column, is joined faster than row by row.
        pieces = [each if isinstance(each, bytes) else b"" for each in columns] * self.count
        for place, each in enumerate(columns):
            if not isinstance(each, bytes):
                pieces[place :: len(columns)] = each
        return b"".join(pieces)

    def each(self) -> list[bytes]:
        """Return the records, one by one."""
        columns = [
            repeat(each, self.count) if isinstance(each, bytes) else each
            for each in self._columns()
        ]
        encoded = list(map(b"".join, zip(*columns, strict=True))) if columns else [b""] * self.count
        if self._template.framed:
            return [b"%d %s" % (len(record), record) for record in encoded]
        return encoded

    def _columns(self) -> list[Column]:
        return join_constants(self.column(part) for part in self._template.parts)

    def column(self, part: Part) -> Column:
        """Return a part's bytes for every record: one object where they are all alike."""
        return part if isinstance(part, bytes) else _WRITERS[type(part)](self, part)

    @cached_property
    def times(self) -> Sequence[int]:
        """Every record's time, as it is sent."""
        read_at = self._records.read_at
        times: Sequence[int] = [read_at] * self.count
        if self._have_own_times:
            times = [read_at if time == NO_TIME else time for time in times_of(self._records)]
        return increasing_times(times, self._after) if self._template.increasing else times

    @property
    def _have_own_times(self) -> bool:
        return self._records.columns is not None and self._records.columns.seconds is not None

    @cached_property
    def _lines(self) -> list[bytes]:
        """The lines of a plain text with their ends."""
        return BytesIO(self._records.text).readlines()  # a third of the time of split

    @cached_property
    def _is_plain(self) -> bool:
        return self._records.columns is None and b"\r" not in self._records.text

    @cached_property
    def _messages(self) -> list[bytes]:
        text, columns = self._records.text, self._records.columns
        if columns is not None:
            spans = zip(columns.begins, columns.ends, strict=True)
            return [text[begin:end] for begin, end in spans]
        if not self._is_plain:
            return [_without_end(line) for line in self._lines]
        messages = text.split(b"\n")
        return messages if messages[-1] else messages[:-1]

    @cached_property
    def _offsets(self) -> Sequence[int]:
        if self._records.columns is not None:
            return self._records.columns.offsets
        return list(accumulate(map(len, self._lines), initial=self._records.start))[:-1]

    @cached_property
    def _decimal_offsets(self) -> list[bytes]:
        return _numbers(self._offsets, Number.DECIMAL)

    @cached_property
    def _joined(self) -> str | None:
        """All messages with DELs between them; None where that would not come apart again."""
        text = self._records.text
        if _DELETE in text:
            return None
        if self._is_plain:
            joined = text.removesuffix(b"\n").replace(b"\n", _DELETE)
        else:
            joined = _DELETE.join(self._messages)
        try:
            return joined.decode("utf-8")
        except UnicodeDecodeError:
            return None

    @cached_property
    def _invalid(self) -> Sequence[bool] | None:
        """Which messages are not UTF-8; None where all are."""
        if self._joined is not None:
            return None
        invalid = [not _is_utf8(message) for message in self._messages]
        return invalid if any(invalid) else None

    @cached_property
    def _raw_sent(self) -> Sequence[bool] | None:
        invalid, marks = self._invalid, self._marks
        if invalid is None or marks is None:
            return invalid
        pairs = zip(invalid, marks, strict=True)
        return [is_invalid and not mark & REDACTED for is_invalid, mark in pairs]

    @property
    def _marks(self) -> "array[int] | None":
        return None if self._records.columns is None else self._records.columns.marks

    def offset(self, part: Offset) -> Column:
        """Write the offset."""
        # The decimal form mostly stands there twice: in the id and by itself.
        decimal = part.form is Number.DECIMAL
        return self._decimal_offsets if decimal else _numbers(self._offsets, part.form)

    def packed_id(self, part: PackedId) -> Column:
        """Write the id."""
        ids = [b"%s%d" % (part.before, offset) for offset in self._offsets]
        return [b"\xd9%c%s" % (len(each), each) for each in ids]

    def time(self, part: Time) -> Column:
        """Write the record's time."""
        if not self._have_own_times and not self._template.increasing:
            return format_time(self._records.read_at, part.form)
        return [format_time(time, part.form) for time in self.times]

    def read_at(self, part: ReadAt) -> Column:
        """Write when the block was read."""
        return format_time(self._records.read_at, part.form)

    def message(self, part: Message) -> Column:
        """Write the message."""
        if part.form is Text.JSON:
            return self._escaped
        messages = self._messages
        if self._invalid is not None:
            messages = [message.decode("utf-8", "replace").encode() for message in messages]
        return messages if part.form is Text.UTF8 else list(map(_msgpack_text, messages))

    @cached_property
    def _escaped(self) -> list[bytes]:
        if self._joined is None:
            texts = (message.decode("utf-8", "replace") for message in self._messages)
            return [orjson.dumps(text)[1:-1] for text in texts]
        return orjson.dumps(self._joined)[1:-1].split(_DELETE)

    def raw_message(self, part: RawMessage) -> Column:
        """Write the bytes of messages that are not UTF-8."""
        if self._raw_sent is None:
            return b""
        pairs = zip(self._raw_sent, self._messages, strict=True)
        return [_raw_text(part, message) if sent else b"" for sent, message in pairs]

    def truncated(self, part: Truncated) -> Column:
        """Write how much was left out of lines that were cut."""
        columns = self._records.columns
        if columns is None or columns.truncated is None:
            return b""
        numbers = _numbers(columns.truncated, part.form)
        pairs = zip(columns.truncated, numbers, strict=True)
        return [part.before + text + part.after if cut > 0 else b"" for cut, text in pairs]

    def parsed(self, part: Parsed) -> Column:
        """Write what was parsed."""
        if self._parsed is None:
            return b""
        return [part.before + text + part.after if text else b"" for text in self._parsed]

    @cached_property
    def _parsed(self) -> Sequence[bytes] | None:
        records, columns = self._records, self._records.columns
        if columns is None or columns.parsed_begins is None or columns.parsed_ends is None:
            return None
        marks = columns.marks or repeat(0)
        spans = zip(columns.parsed_begins, columns.parsed_ends, marks, strict=False)
        return [
            (records.parsed if mark & PARSED_APART else records.text)[begin:end]
            for begin, end, mark in spans
        ]

    def severity(self, part: Severity) -> Column:
        """Write the severity."""
        return self._choose(part.operands(), 0)

    def io_stream(self, part: IoStream) -> Column:
        """Write the stream."""
        return self._choose(part.operands(), IOSTREAM_SHIFT)

    def parse_error(self, part: ParseError) -> Column:
        """Write why a line was not parsed."""
        return self._choose(part.operands(), ERROR_SHIFT)

    def _choose(self, choices: Sequence[bytes], shift: int) -> Column:
        if self._marks is None:
            return choices[0]
        mask = len(choices) - 1
        return [choices[mark >> shift & mask] for mark in self._marks]

    def map_header(self, part: MapHeader) -> Column:
        """Write how many entries there are."""
        counts = [part.fixed] * self.count
        for other in self._template.parts:
            column = _PRESENT[type(other)](self) if type(other) in _PRESENT else None
            if column is not None:
                counts = [count + present for count, present in zip(counts, column, strict=True)]
        return [b"\xde" + count.to_bytes(2, "big") for count in counts]

    def has_severity(self) -> Sequence[bool] | None:
        """Return which records have a severity; None for none."""
        return self._has([False, *[True] * 6, False], 0)

    def has_io_stream(self) -> Sequence[bool] | None:
        """Return which records have a stream; None for none."""
        return self._has([False, True, True, False], IOSTREAM_SHIFT)

    def has_parse_error(self) -> Sequence[bool] | None:
        """Return which records have an error; None for none."""
        return self._has([0 < code <= len(PARSE_ERRORS) for code in range(8)], ERROR_SHIFT)

    def has_raw_message(self) -> Sequence[bool] | None:
        """Return of which records the bytes are sent; None for none."""
        return self._raw_sent

    def has_truncated(self) -> Sequence[bool] | None:
        """Return which records were cut; None for none."""
        columns = self._records.columns
        cut = None if columns is None else columns.truncated
        return None if cut is None else [left_out > 0 for left_out in cut]

    def has_parsed(self) -> Sequence[bool] | None:
        """Return which records have something parsed; None for none."""
        return None if self._parsed is None else [text != b"" for text in self._parsed]

    def _has(self, given: Sequence[bool], shift: int) -> Sequence[bool] | None:
        if self._marks is None:
            return None
        mask = len(given) - 1
        return [given[mark >> shift & mask] for mark in self._marks]


_WRITERS: Final[dict[type, Callable[[Encoding, Any], Column]]] = {
    Offset: Encoding.offset,
    Time: Encoding.time,
    ReadAt: Encoding.read_at,
    Message: Encoding.message,
    RawMessage: Encoding.raw_message,
    Truncated: Encoding.truncated,
    Severity: Encoding.severity,
    IoStream: Encoding.io_stream,
    ParseError: Encoding.parse_error,
    Parsed: Encoding.parsed,
    MapHeader: Encoding.map_header,
    PackedId: Encoding.packed_id,
}
_PRESENT: Final[dict[type, Callable[[Encoding], Sequence[bool] | None]]] = {
    RawMessage: Encoding.has_raw_message,
    Truncated: Encoding.has_truncated,
    Severity: Encoding.has_severity,
    IoStream: Encoding.has_io_stream,
    ParseError: Encoding.has_parse_error,
    Parsed: Encoding.has_parsed,
}


def format_time(time: int, form: Clock) -> bytes:
    """Return a time, in nanoseconds since the epoch, as a slot writes it."""
    if form is Clock.NANOSECONDS:
        return b"%d" % max(0, min(time, 2**63 - 1))
    second, rest = divmod(time, SECOND)
    if form is Clock.EVENT_TIME:
        if second < 0:
            second = rest = 0
        return min(second, 2**32 - 1).to_bytes(4, "big") + rest.to_bytes(4, "big")
    if form is Clock.MICROSECONDS:
        return b"%s.%06dZ" % (_second_text(second), rest // 1000)
    return b"%s.%09dZ" % (_second_text(second), rest)


@lru_cache(maxsize=64)
def _second_text(second: int) -> bytes:
    days, rest = divmod(second, 86_400)
    # Not fromtimestamp: it goes through the C library's idea of what a time may be.
    day = datetime.fromordinal(days + 719_163).replace(tzinfo=UTC)
    hour, minute = divmod(rest // 60, 60)
    return b"%s-%02d-%02dT%02d:%02d:%02d" % (
        b"%04d" % day.year,
        day.month,
        day.day,
        hour,
        minute,
        rest % 60,
    )


def _numbers(numbers: Iterable[int], form: Number) -> list[bytes]:
    if form is Number.DECIMAL:
        decimal = orjson.dumps(list(numbers))[1:-1]
        return decimal.split(b",") if decimal else []
    return [b"\xcf" + number.to_bytes(8, "big") for number in numbers]


def _without_end(line: bytes) -> bytes:
    return line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _raw_text(part: RawMessage, message: bytes) -> bytes:
    text = b2a_base64(message, newline=False)
    return part.before + (_msgpack_text(text) if part.form is Text.MSGPACK else text) + part.after


def _msgpack_text(text: bytes) -> bytes:
    return b"\xdb" + len(text).to_bytes(4, "big") + text
