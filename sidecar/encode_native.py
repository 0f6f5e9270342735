"""The encoder in C, as Python calls it: encode.c says what goes in and out."""

import ctypes
from typing import TYPE_CHECKING, Final

from sidecar.native import NUMBER, POINTER, Library, members
from sidecar.transform.records import SECOND, Records
from sidecar.wire import Template

if TYPE_CHECKING:
    from array import array

NEED_ROOM: Final = 2
"""What `encode` returns when `Job.needed` bytes of capacity are wanted."""
_COLUMNS: Final = (
    *("begins", "ends", "offsets", "seconds", "nanos", "marks"),
    *("truncated", "parsed_begins", "parsed_ends"),
)


class Job(ctypes.Structure):
    """One call's work: `struct job` of encode.c, where its members are explained."""

    _fields_ = (
        *members(NUMBER, "program_length", "framed", "increasing", "text_length", "count"),
        *members(NUMBER, "must", "start", "read_second", "read_nano"),
        *members(POINTER, "out"),
        *members(NUMBER, "size", "limit", "capacity"),
        *members(POINTER, "begins", "ends", "offsets", "seconds", "nanos", "marks"),
        *members(POINTER, "truncated", "parsed_begins", "parsed_ends", "record_ends"),
        *members(NUMBER, "last_second", "last_nano", "done", "needed"),
    )


def encode_by_c(library: Library, records: Records, template: Template, job: Job) -> int:
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
        for name in _COLUMNS:
            column: array[int] | None = getattr(columns, name)
            setattr(job, name, None if column is None else column.buffer_info()[0])
    outcome: int = library.c.sidetail_encode(
        records.text, records.parsed, template.literals, program, ctypes.byref(job)
    )
    return outcome
