"""The decision on one pod: what `mutate` returns, and `response`, `events` and `metrics` read."""

from dataclasses import dataclass
from typing import Any

from contract.plan import LeftOut, Outcome

Operation = dict[str, Any]
"""One RFC 6902 operation; `op` is always `add`."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a pod is denied; only with `on_error: deny`."""

    code: int
    """400, or 403 where the operator does not allow a key."""
    message: str
    """Printable; at most 1,024 characters."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The pod's controlling owner: the object of the Event about what is left out."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What to answer for one pod, and what to tell people about it."""

    outcome: Outcome
    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    """One a fault, printable; the response cuts and counts them."""
    denied: Denial | None = None
    """None admits the pod."""
    left_out: tuple[LeftOut, ...] = ()
    """All of them, also where the status annotation holds fewer."""
    owner: Owner | None = None
    """None where nobody but the pod itself could bear the Event."""
    skip: str | None = None
    """For `none`: the code of the reason why nothing was looked at; for the metric and the log."""
