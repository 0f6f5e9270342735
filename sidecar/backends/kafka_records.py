"""Record batches, in which Kafka takes records: lines that are encoded become records of one.

Two ways give the same bytes: a C function (`record_batch.c`, if it was built), and Python's.
Source: Kafka's documentation, "Message Format".
"""

import ctypes
import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import crc32c

from sidecar.backends.http_sender import gzip
from sidecar.batch import Piece
from sidecar.native import NUMBER, POINTER, TEXT, Library, library, members

_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length from here on, leader epoch, magic, CRC, attributes, last offset's distance,
first and last time, producer id and epoch, first sequence number, count of records."""
_LENGTH_FROM: Final = 12
_CRC_AT: Final = 17
_CRC_FROM: Final = 21
_CRC: Final = struct.Struct(">I")
_MAGIC: Final = 2
_GZIP: Final = 1
"""In the attributes."""
_RECORD_ROOM: Final = 32
"""Bytes that a record takes at most beside its key and its line (24), and its batch (8)."""
_USUAL_PAGE: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a record batch says of its sender."""

    producer_id: int
    epoch: int
    sequence: int
    """Of its first record, among all that this producer sent to the partition; 31 bits."""
    time: int
    """Of all its records: milliseconds since the epoch."""


class RecordsJob(ctypes.Structure):
    """One call's work: `struct records` of record_batch.c, where its members are explained."""

    _fields_ = (
        *members(POINTER, "text"),
        *members(NUMBER, "length"),
        *members(TEXT, "key"),
        *members(NUMBER, "key_length"),
        *members(POINTER, "out"),
        *members(NUMBER, "size", "limit", "count", "taken"),
    )


class Page:
    """A request while it is written: pieces as they are, and one record batch after the other.

    The memory is used again and again; it belongs to one thread.
    """

    def __init__(self) -> None:
        self.size = 0
        """Bytes written."""
        self.count = 0
        """Records of the record batch that is open."""
        self._library = library()
        self._job = RecordsJob()
        self._begin = 0
        """Where the record batch that is open begins."""
        self._memory = mmap.mmap(-1, _USUAL_PAGE)
        self._address = _address(self._memory)

    @property
    def batch_bytes(self) -> int:
        """Bytes of the record batch that is open."""
        return self.size - self._begin

    def clear(self, room: int) -> None:
        """Begin a new page with room for so many bytes."""
        self.size = 0
        wanted = max(room, _USUAL_PAGE)
        if not wanted <= len(self._memory) <= 2 * wanted:
            self._memory = mmap.mmap(-1, wanted)  # the old one goes with the last view of it
            self._address = _address(self._memory)

    def write(self, content: "bytes | bytearray") -> None:
        """Append bytes as they are."""
        self._memory[self.size : self.size + len(content)] = content
        self.size += len(content)

    def put(self, place: int, content: bytes) -> None:
        """Write over what stands at `place`."""
        self._memory[place : place + len(content)] = content

    def cut_back(self, size: int) -> None:
        """Take back what was written behind `size` bytes."""
        self.size = size

    def begin(self) -> None:
        """Begin a record batch."""
        self._begin, self.count = self.size, 0
        self.size += _HEAD.size

    def add(self, lines: Piece, begin: int, key: bytes, limit: int) -> int:
        """Make records of lines until the record batch has `limit` bytes; it has at least one.

        Args:
            lines: encoded records, each with its newline.
            begin: place of the first one in `lines`.
            key: of every record.
            limit: bytes of the record batch, its head included.

        Returns:
            Where in `lines` the next record batch begins.
        """
        if self._library is None:
            return self._add_by_python(lines, begin, key, limit)
        if isinstance(lines, bytes) or lines.readonly:
            # Only memory that may be written to gives its address away.
            return self._add_by_c(self._library, bytearray(lines), begin, key, limit)
        return self._add_by_c(self._library, lines, begin, key, limit)

    def end(self, stamp: Stamp, gzip_level: int | None) -> None:
        """Complete the record batch: what stands before its records, compression, checksum."""
        first = self._begin + _HEAD.size
        if gzip_level is not None:
            packed = gzip([self._memory[first : self.size]], gzip_level)
            self.size = first
            self.write(packed)
        _HEAD.pack_into(
            self._memory,
            self._begin,
            *(0, self.batch_bytes - _LENGTH_FROM, -1, _MAGIC, 0),
            *(0 if gzip_level is None else _GZIP, self.count - 1, stamp.time, stamp.time),
            *(stamp.producer_id, stamp.epoch, stamp.sequence, self.count),
        )
        with memoryview(self._memory) as whole, whole[self._begin + _CRC_FROM : self.size] as rest:
            _CRC.pack_into(self._memory, self._begin + _CRC_AT, crc32c.crc32c(rest))

    def view(self) -> memoryview:
        """Return what was written; to be released before the page is cleared."""
        return memoryview(self._memory)[: self.size]

    def _add_by_c(
        self,
        native: Library,
        lines: "memoryview | bytearray",
        begin: int,
        key: bytes,
        limit: int,
    ) -> int:
        job, first = self._job, ctypes.c_char.from_buffer(lines)
        job.text = ctypes.addressof(first) + begin
        job.length = len(lines) - begin
        job.key, job.key_length = key, len(key)
        job.out = self._address + self._begin
        job.size, job.limit, job.count = self.batch_bytes, limit, self.count
        native.c.sidetail_make_records(ctypes.byref(job))
        self.size = self._begin + job.size
        self.count = job.count
        return begin + int(job.taken)

    def _add_by_python(self, lines: Piece, begin: int, key: bytes, limit: int) -> int:
        made: list[bytes] = []
        taken, size, count = begin, self.batch_bytes, self.count
        with_key = varint(len(key)) + key
        around = 3 + len(with_key)  # attributes, time's difference and number of headers are zeros
        for value in bytes(lines[begin:]).removesuffix(b"\n").split(b"\n"):
            number, length = varint(count), varint(len(value))
            inside = around + len(number) + len(length) + len(value)
            before = varint(inside)
            size += len(before) + inside
            if count and size > limit:
                break
            made += (before, b"\0\0", number, with_key, length, value, b"\0")
            count += 1
            taken += len(value) + 1
        self.count = count
        self.write(b"".join(made))
        return min(taken, len(lines))


def room_for(lines: Piece, count: int, key: bytes) -> int:
    """Return the bytes that records take at most, each of them in a record batch of its own.

    Lines that cannot be compressed grow a little by it.
    """
    return len(lines) + len(lines) // 512 + count * (_HEAD.size + _RECORD_ROOM + len(key))


@lru_cache(maxsize=8192)
def varint(number: int) -> bytes:
    """Return a number, at least 0, as Kafka's records have it: zigzag, seven bits a byte."""
    rest, encoded = 2 * number, bytearray()
    while rest > 127:
        encoded.append(rest & 127 | 128)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
