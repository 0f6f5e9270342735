"""Encoding: records and a template become the bytes of a request's body.

A backend says once what a record looks like there (`sidecar.wire`); for every file that gives a
`Template`. `Body.append` writes as many records as fit. Two ways give the same bytes: one C
function (`encode.c`, if it was built: `sidecar.native`), and the wheels' (`encode_wheels`).
"""

import ctypes
import mmap
from array import array
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from sidecar.encode_native import NEED_ROOM, Job, encode_by_c
from sidecar.native import Library, library
from sidecar.transform.records import PARSED_APART, SECOND, Records
from sidecar.wire import Template

_SLACK: Final = 1024 * 1024
"""Room behind the usual capacity; pages of it cost memory only when they are written to."""
_NO_LIMIT: Final = 2**62


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some records in their wire form."""

    body: bytes
    ends: "array[int]"
    """Where each record ends in `body`."""
    last_time: int
    """Nanoseconds since the epoch of the last record, as it was sent (`after` of the next)."""

    def each(self) -> list[bytes]:
        """Return the records one by one."""
        begins = [0, *self.ends]
        return [self.body[begin:end] for begin, end in zip(begins, self.ends, strict=False)]


def encode(records: Records, template: Template, *, after: int = 0) -> Encoded:
    """Return all records encoded, and where each one ends.

    Args:
        records: at least one.
        template: of the records' file.
        after: see `Body.append`.
    """
    with Body(len(records.text) * 4) as body:
        body.append(records, template, _NO_LIMIT, after=after, with_ends=True)
        return Encoded(bytes(body.view()), body.ends, body.last_time)


class Body:
    """One request's body: a buffer that is filled block by block, and used again.

    It belongs to one thread; whoever made it closes it. Views of it must be released before it
    is cleared or closed.
    """

    def __init__(self, capacity: int) -> None:
        """Reserve address space; `capacity`: the bytes that a body usually has."""
        self.size = 0
        """Bytes written."""
        self.last_time = 0
        """Nanoseconds since the epoch of the record written last, as it was sent."""
        self.ends: array[int] = array("q")
        """Where the records of the last `append` end, if they were asked for."""
        self._usual = capacity
        self._library: Library | None = library()
        self._job = Job()
        self._memory = _reserve(capacity + _SLACK)
        self._address = _address(self._memory)

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(
        self,
        records: Records,
        template: Template,
        limit: int,
        *,
        after: int = 0,
        with_ends: bool = False,
    ) -> int:
        """Write as many records as keep `size` within `limit`; return how many.

        None fits: 0, but where the body is empty at least one is written (and what cannot be
        parted from it). The count is one that a batch may end with: `Records.cut`.

        Args:
            records: at least one.
            template: of the records' file.
            limit: bytes of the body.
            after: for a template of `increasing` times: the last time that was sent for this
                file, nanoseconds since the epoch; `last_time` is the next one's.
            with_ends: fill in `ends`.
        """
        records = _with_parsed_as(records, template)
        must = 0 if self.size else records.together()
        interleaved = records.columns is not None and records.columns.stops is not None
        ends = array("q", bytes(8 * records.count)) if with_ends or interleaved else None
        self.last_time = after
        size = self.size
        if self._library is None:
            done = self._append_wheels(records, template, limit, must, ends)
        else:
            done = self._append_native(self._library, records, template, limit, must, ends)
        if interleaved and ends is not None and done < records.count:
            done = records.cut(done)
            self.size = ends[done - 1] if done else size
        self.ends = array("q") if ends is None else ends[:done]
        return done

    def write(self, content: bytes) -> None:
        """Append `content` as it is: what stands around or between the records of a body."""
        self._make_room(self.size + len(content))
        self._memory[self.size : self.size + len(content)] = content
        self.size += len(content)

    def view(self) -> memoryview:
        """Return what was written; to be released before `clear` and `close`."""
        return memoryview(self._memory)[: self.size]

    def clear(self) -> None:
        """Begin anew; memory beyond the usual size goes back to the system."""
        if self.size > self._usual + _SLACK // 4:
            begin = -(-self._usual // mmap.PAGESIZE) * mmap.PAGESIZE
            self._memory.madvise(mmap.MADV_DONTNEED, begin, len(self._memory) - begin)
        self.size = 0
        self.ends = array("q")

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def _append_wheels(
        self,
        records: Records,
        template: Template,
        limit: int,
        must: int,
        ends: "array[int] | None",
    ) -> int:
        from sidecar.encode_wheels import encodings  # not needed beside the C

        done = 0
        for piece in encodings(records, template, self.last_time):
            if ends is None and not template.framed:
                whole = piece.whole()
                if self.size + len(whole) <= limit or must >= done + piece.count:
                    self.write(whole)
                    self.last_time = piece.times[-1]
                    done += piece.count
                    continue
            encoded = piece.each()
            places = list(accumulate(map(len, encoded), initial=self.size))[1:]
            if ends is not None:
                ends[done : done + piece.count] = array("q", places)
            fitting = piece.count
            while fitting > max(0, must - done) and places[fitting - 1] > limit:
                fitting -= 1
            self.write(b"".join(encoded[:fitting]))
            self.last_time = piece.times[fitting - 1] if fitting else self.last_time
            done += fitting
            if fitting < piece.count:
                break
        return done

    def _append_native(
        self,
        native: Library,
        records: Records,
        template: Template,
        limit: int,
        must: int,
        ends: "array[int] | None",
    ) -> int:
        job = self._job
        after = self.last_time
        job.must, job.limit = must, limit
        job.record_ends = None if ends is None else ends.buffer_info()[0]
        while True:
            job.size, job.capacity = self.size, len(self._memory)
            job.last_second, job.last_nano = divmod(after, SECOND)
            job.out = self._address
            if encode_by_c(native, records, template, job) != NEED_ROOM:
                break
            self._make_room(job.needed + _SLACK)
        self.size = job.size
        self.last_time = job.last_second * SECOND + job.last_nano
        return int(job.done)

    def _make_room(self, capacity: int) -> None:
        if capacity <= len(self._memory):
            return
        larger = _reserve(2 * capacity)
        larger[: self.size] = self._memory[: self.size]
        # The old memory lives on while somebody has a view of it.
        self._memory = larger
        self._address = _address(larger)


def _reserve(capacity: int) -> mmap.mmap:
    return mmap.mmap(-1, capacity, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _with_parsed_as(records: Records, template: Template) -> Records:
    """Return the records with `parsed` in the form that the template's backend takes."""
    columns, convert = records.columns, template.parsed_as
    if convert is None or columns is None:
        return records
    if columns.parsed_begins is None or columns.parsed_ends is None:
        return records
    marks = columns.marks or array("q", bytes(8 * records.count))
    texts = [
        (records.parsed if mark & PARSED_APART else records.text)[begin:end]
        for begin, end, mark in zip(columns.parsed_begins, columns.parsed_ends, marks, strict=True)
    ]
    converted = [convert(text) if text else b"" for text in texts]
    ends = array("q", accumulate(map(len, converted)))
    apart = array("q", [mark | PARSED_APART for mark in marks])
    begins = array("q", [0, *ends[:-1]])
    return replace(
        records,
        parsed=b"".join(converted),
        columns=replace(columns, marks=apart, parsed_begins=begins, parsed_ends=ends),
    )
