"""The C half of the encoder, if it was built: found, checked and called through ctypes.

Without it (or with `SIDETAIL_ENCODER=python`) everything goes the wheels' way: the same bytes,
more slowly.
"""

import ctypes
import logging
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.transform.records import SECOND, Columns, Records
from sidecar.wire import Template

if TYPE_CHECKING:
    from array import array

INTERFACE: Final = 3
"""Of encode.c: a library of another one is not used."""
ENCODER_ENV: Final = "SIDETAIL_ENCODER"
"""Environment variable: `python` turns the library off."""
LIBRARY: Final = Path(__file__).parent / "build" / "encode.so"

_log = logging.getLogger(__name__)

_POINTER = ctypes.c_void_p
_NUMBER = ctypes.c_int64


class Job(ctypes.Structure):
    """One call's work: `struct job` of encode.c, where its members are explained."""

    _fields_ = (
        ("program_length", _NUMBER),
        ("framed", _NUMBER),
        ("increasing", _NUMBER),
        ("text_length", _NUMBER),
        ("count", _NUMBER),
        ("must", _NUMBER),
        ("start", _NUMBER),
        ("read_second", _NUMBER),
        ("read_nano", _NUMBER),
        ("out", _POINTER),
        ("size", _NUMBER),
        ("limit", _NUMBER),
        ("capacity", _NUMBER),
        ("begins", _POINTER),
        ("ends", _POINTER),
        ("offsets", _POINTER),
        ("seconds", _POINTER),
        ("nanos", _POINTER),
        ("marks", _POINTER),
        ("truncated", _POINTER),
        ("parsed_begins", _POINTER),
        ("parsed_ends", _POINTER),
        ("record_ends", _POINTER),
        ("last_second", _NUMBER),
        ("last_nano", _NUMBER),
        ("done", _NUMBER),
        ("needed", _NUMBER),
    )


NEED_ROOM: Final = 2
"""What `Library.encode` returns when `Job.needed` bytes of capacity are wanted."""

_IN_JOB = ("begins", "ends", "offsets", "seconds", "nanos", "marks", "truncated")
_IN_JOB_TOO = ("parsed_begins", "parsed_ends")


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
        except AttributeError as error:
            raise OSError(f"{path}: not the encoder") from error
        interface.restype = _NUMBER
        if (got := interface()) != INTERFACE:
            raise OSError(f"{path}: got interface {got}, expected {INTERFACE}")
        text = ctypes.c_char_p
        self._encode.argtypes = (text, text, text, _POINTER, ctypes.POINTER(Job))
        self._encode.restype = _NUMBER
        self._count_lines.argtypes = (text, _NUMBER)
        self._count_lines.restype = _NUMBER

    def count_lines(self, text: bytes) -> int:
        """Return how many newlines there are in `text`."""
        count: int = self._count_lines(text, len(text))
        return count

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
        _point(job, records.columns)
        outcome: int = self._encode(
            records.text, records.parsed, template.literals, program, ctypes.byref(job)
        )
        return outcome


def _point(job: Job, columns: Columns | None) -> None:
    """Let the job point to the columns, which the caller keeps alive."""
    if columns is None:
        job.begins = None
        return
    for name in (*_IN_JOB, *_IN_JOB_TOO):
        column: array[int] | None = getattr(columns, name)
        setattr(job, name, None if column is None else column.buffer_info()[0])


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
