"""What one attempt at a backend can come to, and what a backend has to offer. Step 6."""

from dataclasses import dataclass
from typing import Protocol

from sidecar.batch import Batch
from sidecar.encode import Body
from sidecar.transform.records import Records


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend has the whole batch."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: the same batch again, after a back-off."""

    reason: str
    """For metrics and logs: `status_503`, `connection`, `timeout`, `dns`, …"""
    after_seconds: float | None = None
    """What `Retry-After` asked for, if it did; not yet capped."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The operator must mend something (credentials, address): like Retry, and said loudly."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The batch must be sent in smaller pieces (413)."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something in the batch is unacceptable, the backend does not say what (400, 422)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Partly:
    """The backend answered record by record; what is in neither list it has."""

    retry: tuple[int, ...]
    """Indexes into the batch's records, ascending: send again."""
    rejected: tuple[tuple[int, str], ...]
    """(index, reason), ascending: never acceptable."""
    after_seconds: float | None = None


Answer = Delivered | Retry | Hold | TooLarge | Refused | Partly


class Sender(Protocol):
    """One connection's worth of a backend; belongs to one thread."""

    sent_bytes: int
    """Bytes of bodies that went out, ever."""

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Send `batch` once, within `seconds` from its first byte to the answer's last."""
        ...

    def close(self) -> None:
        """Give up the connection."""
        ...


class Backend(Protocol):
    """A place where lines go: encodes records for its wire, and opens senders."""

    def append(self, body: Body, records: Records, limit: int) -> int:
        """Encode as many leading records as keep `body` within `limit`; return how many.

        None fits: 0, but where the body is empty at least one is written.
        """
        ...

    def encode(self, records: Records) -> bytes:
        """Return all records encoded, for a batch that is sent again in pieces."""
        ...

    def sender(self) -> Sender:
        """Return a new sender, not yet connected."""
        ...
