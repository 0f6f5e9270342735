"""The parts of the sidecar that are written in C, if they were built: found, checked and called.

encode.c encodes, lines.c splits blocks, objects.c reads JSON, logfmt and Docker's lines. Each
has a twin in Python that says the same, more slowly; without the library (or with
`SIDETAIL_ENCODER=python`) the twins do all the work.
"""

import ctypes
import logging
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from sidecar.transform.records import NO_TIME, SECOND, Columns, Records
from sidecar.wire import Template

INTERFACE: Final = 4
"""Of the C files: a library of another one is not used."""
ENCODER_ENV: Final = "SIDETAIL_ENCODER"
"""Environment variable: `python` turns the library off."""
LIBRARY: Final = Path(__file__).parent / "build" / "encode.so"

_log = logging.getLogger(__name__)

_POINTER = ctypes.c_void_p
_NUMBER = ctypes.c_int64
_TEXT = ctypes.c_char_p


def _members(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


class Job(ctypes.Structure):
    """One call's work: `struct job` of encode.c, where its members are explained."""

    _fields_ = (
        *_members(_NUMBER, "program_length", "framed", "increasing", "text_length", "count"),
        *_members(_NUMBER, "must", "start", "read_second", "read_nano"),
        *_members(_POINTER, "out"),
        *_members(_NUMBER, "size", "limit", "capacity"),
        *_members(_POINTER, "begins", "ends", "offsets", "seconds", "nanos", "marks"),
        *_members(_POINTER, "truncated", "parsed_begins", "parsed_ends", "record_ends"),
        *_members(_NUMBER, "last_second", "last_nano", "done", "needed"),
    )


class _LinesJob(ctypes.Structure):
    """`struct lines` of lines.c."""

    _fields_ = (
        *_members(_NUMBER, "length", "start", "count"),
        *_members(_POINTER, "begins", "ends", "offsets", "seconds", "nanos", "marks"),
    )


class _ObjectsJob(ctypes.Structure):
    """`struct objects` of objects.c."""

    _fields_ = (
        *_members(_NUMBER, "format", "length", "count"),
        *_members(_POINTER, "begins", "ends", "seconds", "nanos", "marks"),
        *_members(_POINTER, "parsed_begins", "parsed_ends"),
        *_members(_TEXT, "spellings"),
        *_members(_POINTER, "out"),
        *_members(_NUMBER, "out_size", "unsure", "found", "timed"),
    )


NEED_ROOM: Final = 2
"""What `Library.encode` returns when `Job.needed` bytes of capacity are wanted."""

OBJECT_FORMATS: Final = {"json": 0, "logfmt": 1, "auto": 2, "docker": 3}
_IN_JOB: Final = (
    *("begins", "ends", "offsets", "seconds", "nanos", "marks"),
    *("truncated", "parsed_begins", "parsed_ends"),
)


@dataclass(frozen=True, slots=True)
class ReadObjects:
    """What objects.c found out about some records."""

    columns: Columns
    text: bytes
    """What the columns' spans of `parsed` point into, if not into the records' own text."""
    unsure: int
    """How many records are marked UNSURE: nothing is known of them."""
    found: int
    """How many say anything."""


class SimplePattern:
    """A simple pattern as lines.c reads it: `struct simple` for each alternative."""

    def __init__(self, alternatives: Sequence[tuple[bool, bool, bytes | None, bytes]]) -> None:
        """Keep alternatives: (at_begin, at_end, literal or None, a bitmap for each byte)."""
        self.table = array("q")
        self._kept = []
        for at_begin, at_end, literal, bitmaps in alternatives:
            texts = [None if text is None else _TEXT(text) for text in (literal, bitmaps)]
            self._kept.append(texts)
            self.table.extend((at_begin, at_end, len(bitmaps) // 32, *map(_address, texts)))


def _address(text: ctypes.c_char_p | None) -> int:
    return 0 if text is None else ctypes.cast(text, _POINTER).value or 0


class Library:
    """The loaded library; its functions keep nothing and let other threads run."""

    def __init__(self, path: Path) -> None:
        """Load the library.

        Raises:
            OSError: there is none, or it is one of another interface or machine.
        """
        library = ctypes.CDLL(str(path))
        try:
            interface = library.sidetail_interface
            self._encode = library.sidetail_encode
            self._count_lines = library.sidetail_count_lines
            self._split_lines = library.sidetail_split_lines
            self._split_cri = library.sidetail_split_cri
            self._bits = library.sidetail_bits
            self._gather = library.sidetail_gather
            self._find_simple = library.sidetail_find_simple
            self._read_objects = library.sidetail_read_objects
        except AttributeError as error:
            raise OSError(f"{path}: not the encoder") from error
        interface.restype = _NUMBER
        if (got := interface()) != INTERFACE:
            raise OSError(f"{path}: got interface {got}, expected {INTERFACE}")
        self._encode.argtypes = (_TEXT, _TEXT, _TEXT, _POINTER, ctypes.POINTER(Job))
        self._encode.restype = _NUMBER
        self._count_lines.argtypes = (_TEXT, _NUMBER)
        self._count_lines.restype = _NUMBER
        for split in (self._split_lines, self._split_cri):
            split.argtypes = (_TEXT, ctypes.POINTER(_LinesJob))
            split.restype = None
        self._bits.argtypes = (_POINTER, _NUMBER)
        self._bits.restype = _NUMBER
        self._gather.argtypes = (_TEXT, _POINTER, _POINTER, _NUMBER, _POINTER, _POINTER)
        self._gather.restype = _NUMBER
        self._find_simple.argtypes = (
            *(_TEXT, _POINTER, _POINTER, _NUMBER),
            *(_POINTER, _NUMBER, _POINTER),
        )
        self._find_simple.restype = None
        self._read_objects.argtypes = (_TEXT, ctypes.POINTER(_ObjectsJob))
        self._read_objects.restype = None

    def encode(self, records: Records, template: Template, job: Job) -> int:
        """Encode as `job` says; see `Job` and encode.c for what comes out."""
        program, length = template.program.buffer_info()
        job.program_length = length
        job.framed = template.framed
        job.increasing = template.increasing
        job.text_length = len(records.text)
        job.count = records.count
        job.start = records.start
        job.read_second, job.read_nano = divmod(records.read_at, SECOND)
        columns = records.columns
        if columns is None:
            job.begins = None
        else:
            for name in _IN_JOB:
                column: array[int] | None = getattr(columns, name)
                setattr(job, name, None if column is None else column.buffer_info()[0])
        outcome: int = self._encode(
            records.text, records.parsed, template.literals, program, ctypes.byref(job)
        )
        return outcome

    def count_lines(self, text: bytes) -> int:
        """Return how many newlines there are in `text`."""
        count: int = self._count_lines(text, len(text))
        return count

    def split_lines(self, text: bytes, start: int, count: int) -> Columns:
        """Return the columns of `count` lines; none of them may begin with a NUL."""
        columns = Columns(*(_column(count) for _ in range(3)))
        job = _lines_job(text, start, count, columns)
        self._split_lines(text, ctypes.byref(job))
        return columns

    def split_cri(self, text: bytes, start: int, count: int) -> Columns:
        """Return the columns of `count` CRI lines; none of them may begin with a NUL."""
        begins, ends, offsets, seconds, nanos, marks = (_column(count) for _ in range(6))
        columns = Columns(begins, ends, offsets, seconds=seconds, nanos=nanos, marks=marks)
        job = _lines_job(text, start, count, columns)
        self._split_cri(text, ctypes.byref(job))
        return columns

    def gather(self, text: bytes, columns: Columns) -> tuple[bytes, "array[int]"]:
        """Return all messages with a newline behind each, and where they begin."""
        begins, ends = columns.begins, columns.ends
        count = len(begins)
        # No message stands in the text twice, so that this is room enough.
        out = bytearray(len(text) + count)
        places = _column(count)
        size = self._gather(
            text,
            begins.buffer_info()[0],
            ends.buffer_info()[0],
            count,
            ctypes.addressof(ctypes.c_char.from_buffer(out)) if out else None,
            places.buffer_info()[0],
        )
        return bytes(memoryview(out)[:size]), places

    def find_simple(self, text: bytes, columns: Columns, pattern: SimplePattern) -> bytes:
        """Return a byte for each message: 1 where the pattern is in it.

        `text` is what the columns point into.
        """
        count = len(columns.begins)
        mask = bytearray(count)
        self._find_simple(
            text,
            columns.begins.buffer_info()[0],
            columns.ends.buffer_info()[0],
            count,
            pattern.table.buffer_info()[0],
            len(pattern.table) // 5,
            ctypes.addressof(ctypes.c_char.from_buffer(mask)) if mask else None,
        )
        return bytes(mask)

    def bits(self, column: "array[int]") -> int:
        """Return all the bits that are set anywhere in a column."""
        bits: int = self._bits(column.buffer_info()[0], len(column))
        return bits

    def read_objects(
        self, format_name: str, text: bytes, columns: Columns, spellings: bytes
    ) -> ReadObjects:
        """Read what messages say, in one of OBJECT_FORMATS.

        Args:
            format_name: of the messages.
            text: what the columns point into.
            columns: of the records; they are not changed.
            spellings: of severities, as `spellings_table` returns them.
        """
        count = len(columns.offsets)
        read = replace(
            columns,
            seconds=_copy(columns.seconds) or array("q", [NO_TIME]) * count,
            nanos=_copy(columns.nanos) or _column(count),
            marks=_copy(columns.marks) or _column(count),
            parsed_begins=_column(count),
            parsed_ends=_column(count),
        )
        room = {"logfmt": 5 * len(text) + 8 * count, "docker": len(text)}.get(format_name, 0)
        out = bytearray(room)
        job = _ObjectsJob(
            format=OBJECT_FORMATS[format_name],
            length=len(text),
            count=count,
            spellings=spellings,
            out=ctypes.addressof(ctypes.c_char.from_buffer(out)) if room else None,
        )
        for name in ("begins", "ends", "seconds", "nanos", "marks", "parsed_begins", "parsed_ends"):
            setattr(job, name, getattr(read, name).buffer_info()[0])
        self._read_objects(text, ctypes.byref(job))
        if not job.timed and columns.seconds is None:
            read = replace(read, seconds=None, nanos=None)
        return ReadObjects(read, bytes(memoryview(out)[: job.out_size]), job.unsure, job.found)


def _column(count: int) -> "array[int]":
    return array("q", bytes(8 * count))


def _copy(column: "array[int] | None") -> "array[int] | None":
    return None if column is None else column[:]


def _lines_job(text: bytes, start: int, count: int, columns: Columns) -> _LinesJob:
    job = _LinesJob(length=len(text), start=start, count=count)
    for name in ("begins", "ends", "offsets", "seconds", "nanos", "marks"):
        column: array[int] | None = getattr(columns, name)
        if column is not None:
            setattr(job, name, column.buffer_info()[0])
    return job


@cache
def library() -> Library | None:
    """Return the library, or None where the wheels' way is to be gone; looked for once."""
    # Read here and not in __main__: tests and benchmarks of single functions switch it too.
    if os.environ.get(ENCODER_ENV) == "python":
        return None
    try:
        return Library(LIBRARY)
    except OSError as error:
        _log.debug("no encoder library, using Python", extra={"fields": {"reason": str(error)}})
        return None
