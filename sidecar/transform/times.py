"""Times that lines say: RFC 3339 text and numbers since the epoch, as nanoseconds since it."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

from sidecar.transform.records import SECOND

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799
"""The years 1 to 9999 in UTC, which RFC 3339 can say."""

_RFC3339: Final = re.compile(
    rb"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:[.,](\d+))?([Zz]|[+-]\d\d(?::?\d\d)?)", re.ASCII
)
_NUMBER: Final = re.compile(rb"(\d{9,19})(?:\.(\d+))?")


def parse_time(text: bytes) -> int | None:
    """Return the time that `text` says, in nanoseconds since the epoch, or None.

    RFC 3339 with any number of fraction digits (a space for the T, a comma for the point and an
    offset without its colon or minutes will do), or a number since the epoch as in `parse_epoch`.
    A time without an offset says nothing: nobody knows the zone of the program that wrote it.
    """
    return parse_rfc3339(text) if text[4:5] == b"-" else parse_epoch(text)


def parse_rfc3339(text: bytes) -> int | None:
    """Return the time, in nanoseconds since the epoch; None for what is not one.

    A leap second is the first second of the next minute. Source: RFC 3339, 5.6.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    second, offset = _local_second(match[1]), _offset_seconds(match[3])
    if second is None or offset is None:
        return None
    return _in_range((second - offset) * SECOND + _fraction(match[2]))


def parse_epoch(text: bytes) -> int | None:
    """Return the time that a number since the epoch says, in nanoseconds, or None.

    The unit is told by the size, so that it is right from 1973 to 5138: seconds below 10^11,
    milliseconds below 10^14, microseconds below 10^17, else nanoseconds. Below 10^8 it is no
    time (but perhaps how long a program has been running).
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    whole = int(match[1])
    if whole < 10**8:
        return None
    digits = next(digits for limit, digits in _UNITS if whole < limit)
    fraction = _fraction(match[2]) // 10 ** (9 - digits)
    return _in_range(whole * 10**digits + fraction)


_UNITS: Final = ((10**11, 9), (10**14, 6), (10**17, 3), (10**19, 0))
"""(numbers below this, decimal digits from their unit to a nanosecond)."""


def _fraction(digits: bytes | None) -> int:
    """Return the nanoseconds that the digits after a decimal point stand for; cut, not rounded."""
    return int(digits[:9].ljust(9, b"0")) if digits else 0


@lru_cache(maxsize=512)
def _local_second(text: bytes) -> int | None:
    """Return seconds since the epoch of `YYYY-MM-DDThh:mm:ss`, as if it were UTC."""
    try:
        day = date(int(text[:4]), int(text[5:7]), int(text[8:10]))
    except ValueError:
        return None
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    if hour > 23 or minute > 59 or second > 60:
        return None
    return ((day.toordinal() - _EPOCH_DAY) * 24 + hour) * 3600 + minute * 60 + second


@lru_cache(maxsize=128)
def _offset_seconds(text: bytes) -> int | None:
    if text in {b"Z", b"z"}:
        return 0
    hours, minutes = int(text[1:3]), int(text[-2:]) if len(text) > 3 else 0
    if hours > 23 or minutes > 59:
        return None
    return (-1 if text[:1] == b"-" else 1) * (hours * 3600 + minutes * 60)


def _in_range(time: int) -> int | None:
    return time if _FIRST_SECOND <= time // SECOND <= _LAST_SECOND else None
