from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.transform.times import parse_time

NOON = 1_714_564_800 * 10**9


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2024-05-01T12:00:00Z", NOON),
        (b"2024-05-01t12:00:00z", NOON),
        (b"2024-05-01 12:00:00Z", NOON),
        (b"2024-05-01T12:00:00.5Z", NOON + 500_000_000),
        (b"2024-05-01T12:00:00,123Z", NOON + 123_000_000),
        (b"2024-05-01T12:00:00.123456789987654321Z", NOON + 123_456_789),
        (b"2024-05-01T14:00:00+02:00", NOON),
        (b"2024-05-01T14:00:00+0200", NOON),
        (b"2024-05-01T14:00:00+02", NOON),
        (b"2024-05-01T06:15:00-05:45", NOON),
        (b"2024-05-01T12:00:00-00:00", NOON),
        (b"2024-05-01T11:59:60Z", NOON),
        (b"1970-01-01T00:00:00Z", 0),
        (b"1969-12-31T23:59:59.999999999Z", -1),
        (b"9999-12-31T23:59:59.999999999Z", 253_402_300_800 * 10**9 - 1),
        (b"0001-01-01T00:00:00Z", -62_135_596_800 * 10**9),
        (b"1714564800", NOON),
        (b"1714564800.5", NOON + 500_000_000),
        (b"1714564800.1234567891", NOON + 123_456_789),
        (b"1714564800123", NOON + 123_000_000),
        (b"1714564800123.5", NOON + 123_500_000),
        (b"1714564800123456", NOON + 123_456_000),
        (b"1714564800123456.9", NOON + 123_456_900),
        (b"1714564800123456789", NOON + 123_456_789),
        (b"1714564800123456789.9", NOON + 123_456_789),
        (b"100000000", 10**17),
    ],
)
def test_a_time_is_read(text: bytes, time: int):
    assert parse_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"yesterday",
        b"2024-05-01",
        b"2024-05-01T12:00Z",
        b"2024-05-01T12:00:00",
        b"2024-05-01T12:00:00.Z",
        b"2024-05-01T12:00:00Z ",
        b" 2024-05-01T12:00:00Z",
        b"2024-05-01T12:00:00Z\n",
        b"2024-02-30T12:00:00Z",
        b"2023-02-29T12:00:00Z",
        b"2024-13-01T12:00:00Z",
        b"2024-00-01T12:00:00Z",
        b"2024-05-00T12:00:00Z",
        b"2024-05-01T24:00:00Z",
        b"2024-05-01T12:60:00Z",
        b"2024-05-01T12:00:61Z",
        b"2024-05-01T12:00:00+24:00",
        b"2024-05-01T12:00:00+02:60",
        b"2024-05-01T12:00:00+2",
        b"0000-01-01T00:00:00Z",
        b"0001-01-01T00:00:00+00:01",
        b"9999-12-31T23:59:60Z",
        "２０２４-05-01T12:00:00Z".encode(),
        b"12.5",
        b"99999999",
        b"-1714564800",
        b"1714564800.",
        b"1714564800e0",
        b"1.7e9",
        b"12345678901234567890",
        b"1714564800Z",
    ],
)
def test_what_says_no_time_is_none(text: bytes):
    assert parse_time(text) is None


@given(
    when=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - made aware below
    offset=st.integers(-23 * 60, 23 * 60),
)
def test_times_agree_with_the_standard_library(when: datetime, offset: int):
    aware = when.replace(tzinfo=UTC)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{when.isoformat()}{sign}{hours:02d}:{minutes:02d}".encode()
    expected = aware - datetime(1970, 1, 1, tzinfo=UTC) - timedelta(minutes=offset)

    assert parse_time(text) == expected // timedelta(microseconds=1) * 1000
