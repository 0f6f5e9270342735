"""Record batches: read back by Kafka's own format, and the same bytes both ways."""

import mmap
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.batch import Piece
from sidecar.native import ENCODER_ENV, library

pytest.importorskip("kafka", reason="the extra kafka is not installed")

from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder

from sidecar.backends.kafka_producer import partition_of
from sidecar.backends.kafka_records import Page, Stamp, room_for, varint

STAMP = Stamp(producer_id=2**40, epoch=3, sequence=2**31 - 1, time=1_700_000_000_123)
NO_LIMIT = 2**31

lines_of_any_size = st.lists(
    st.one_of(
        st.binary(max_size=70).map(lambda text: text.replace(b"\n", b"-")),
        st.sampled_from([62, 63, 64, 8190, 8191, 8192, 100_000]).map(lambda size: b"x" * size),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(params=["c", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One of the two ways."""
    if request.param == "python":
        monkeypatch.setenv(ENCODER_ENV, "python")
    library.cache_clear()
    if request.param == "c":
        _must_be_built()
    yield
    library.cache_clear()


def _must_be_built() -> None:
    if library() is None:
        pytest.skip("the encoder is not built: make encoder")


def _lines(values: list[bytes]) -> bytes:
    return b"".join(value + b"\n" for value in values)


def _written(
    lines: Piece, key: bytes, *, limit: int = NO_LIMIT, gzip_level: int | None = None
) -> list[bytes]:
    """Return the record batches that the lines make."""
    page = Page()
    made, at = [], 0
    while at < len(lines):
        page.clear(room_for(lines, bytes(lines).count(b"\n") + 1, key))
        page.begin()
        at = page.add(lines, at, key, limit)
        page.end(STAMP, gzip_level)
        with page.view() as view:
            made.append(bytes(view))
    return made


def _read(batch: bytes) -> list[tuple[bytes, bytes]]:
    records = MemoryRecords(batch)
    one = records.next_batch()
    assert one is not None
    assert not records.has_next()
    assert one.validate_crc()
    return [(bytes(record.key), bytes(record.value)) for record in one]


@pytest.mark.parametrize("gzip_level", [None, 1])
def test_every_line_is_a_record_with_the_key(way: None, gzip_level: int | None):
    values = [b"%d " % number + b"x" * (number * 37 % 9000) for number in range(300)]

    (batch,) = _written(_lines(values), b"a-key", gzip_level=gzip_level)

    assert _read(batch) == [(b"a-key", value) for value in values]


def test_a_batch_is_the_very_bytes_that_kafkas_format_asks_for(way: None):
    values = [b"one", b"two" * 100, b""]
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=False, producer_id=STAMP.producer_id,
        producer_epoch=STAMP.epoch, base_sequence=STAMP.sequence, batch_size=NO_LIMIT,
    )  # fmt: skip
    for offset, value in enumerate(values):
        builder.append(offset, timestamp=STAMP.time, key=b"k", value=value, headers=[])

    (batch,) = _written(_lines(values), b"k")

    expected = bytearray(builder.build())
    expected[12:16] = b"\xff\xff\xff\xff"  # the leader's epoch: a producer does not know it
    assert batch == bytes(expected)


@given(lines_of_any_size, st.binary(min_size=1, max_size=100), st.integers(1, 30_000))
def test_both_ways_cut_and_write_alike(values: list[bytes], key: bytes, limit: int):
    library.cache_clear()
    _must_be_built()
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("python", "c"):
            patch.setenv(ENCODER_ENV, name)
            library.cache_clear()
            made[name] = _written(_lines(values), key, limit=limit)
    library.cache_clear()

    assert made["python"] == made["c"]
    assert [value for batch in made["c"] for _, value in _read(batch)] == values
    assert all(len(batch) <= limit or len(_read(batch)) == 1 for batch in made["c"])


def test_a_batch_grows_by_lines_of_several_parts(way: None):
    page = Page()
    page.clear(1000)
    page.begin()
    assert page.add(b"a\nb\n", 0, b"k", NO_LIMIT) == 4
    assert page.add(b"c\n", 0, b"other", NO_LIMIT) == 2
    page.end(STAMP, None)
    with page.view() as view:
        assert _read(bytes(view)) == [(b"k", b"a"), (b"k", b"b"), (b"other", b"c")]


def test_lines_are_taken_from_a_view_of_memory_that_is_written_to(way: None):
    memory = mmap.mmap(-1, 8192)
    memory[100:106] = b"ab\ncd\n"
    with memoryview(memory) as whole, whole[100:106] as lines:
        assert _read(_written(lines, b"k")[0]) == [(b"k", b"ab"), (b"k", b"cd")]
    memory.close()


def test_what_does_not_compress_has_room(way: None):
    import random

    noise = random.Random(1).randbytes(3_000_000).replace(b"\n", b"-")

    (batch,) = _written(noise + b"\n", b"k", gzip_level=1)

    assert _read(batch) == [(b"k", noise)]


def test_a_large_page_is_given_back():
    page = Page()
    page.clear(64 << 20)
    page.begin()
    page.clear(100)
    page.begin()
    page.add(b"a\n", 0, b"k", NO_LIMIT)
    assert len(page._memory) == 2 << 20


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, b"\0"), (1, b"\2"), (63, b"\x7e"), (64, b"\x80\1"), (8192, b"\x80\x80\1")],
)
def test_numbers_take_seven_bits_a_byte(number: int, expected: bytes):
    assert varint(number) == expected


def test_a_key_lies_where_kafkas_own_producer_would_put_it():
    # Source: org.apache.kafka.common.utils.UtilsTest, testMurmur2.
    known = {b"21": -973932308, b"foobar": -790332482, b"abc": 479470107}

    for key, murmur in known.items():
        assert partition_of(key, 2**31) == murmur & 0x7FFFFFFF
