"""What one attempt at a backend can come to, and what a backend has to offer. Step 6."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.batch import Batch, Piece
from sidecar.encode import Body
from sidecar.transform.records import Records


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Records of a batch that the backend took note of and threw away, for good.

    It says how many and not which ones, and that the same would become of them every time: they
    are counted, and nothing is sent again.
    """

    records: int
    """At least 1."""
    reason: str
    """For metrics and logs: `too_old`, `partial_success`."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The backend has the whole batch, but for what it left out."""

    left_out: LeftOut | None = None


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
    left_out: LeftOut | None = None
    """Of the records that are in neither list."""


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
        """Return all records encoded."""
        ...

    def encode_again(self, records: Records, indices: Sequence[int], before: Piece) -> bytes:
        """Return records encoded that are sent again by themselves.

        Args:
            records: what was picked.
            indices: the places of `records` in the whole that was encoded as `before`.
            before: what was sent; a record must not become another one for the backend.
        """
        ...

    def sender(self) -> Sender:
        """Return a new sender, not yet connected."""
        ...
