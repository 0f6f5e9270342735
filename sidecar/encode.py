"""Encoding: records and a template become the bytes of a request's body.

A wire form (`sidecar.wire`) says once per backend what a record looks like there: literals and
slots. A `Template` is the form filled in for one file. `encode` writes as many records as fit.
Two paths give the same bytes: one C function (`encode.c`, if it was built), and the wheels'.
"""

from dataclasses import dataclass

from sidecar.transform.records import Records
from sidecar.wire import Template


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some records in their wire form."""

    body: bytes
    count: int
    """Records in it, from the first on; then `records.taken(count)` says what they stand for."""
    last_time: int
    """Nanoseconds since the epoch of the last record, as it was sent (`after` of the next)."""


def encode(records: Records, template: Template, limit: int, *, after: int = 0) -> Encoded:
    """Return as many records as fit in `limit` bytes, at least one (or what cannot be cut).

    Args:
        records: at least one.
        template: of the records' file.
        limit: bytes of the body.
        after: only for forms with `increasing` times: the last time sent for this stream.
    """
    raise NotImplementedError


class Body:
    """One request's body: a buffer that is filled block by block and used again.

    Not shared between threads; whoever made it closes it.
    """

    def __init__(self, capacity: int) -> None:
        self.size = 0
        """Bytes written."""
        self._capacity = capacity

    def append(self, records: Records, template: Template, limit: int, *, after: int = 0) -> int:
        """Write as many records as keep `size` within `limit`; return how many.

        None fits: 0, but where the body is empty at least one is written.
        """
        raise NotImplementedError

    def view(self) -> memoryview:
        """Return what was written; release it before the next `append` or `clear`."""
        raise NotImplementedError

    def clear(self) -> None:
        """Begin anew; memory beyond the usual size goes back to the system."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the memory back."""
        raise NotImplementedError
