"""What the keyring needs next: the keyring, the time and what was seen come in, a step goes out.

A step changes the keyring once and is written to the Secret before the next one is looked for, so
that a process that dies between any two of them leaves a state that another one goes on from.
The way of a CA: ANNOUNCE (in the bundle beside the old one) → PROMOTE (once the API servers must
have seen it: it signs, the old one is retired) → RETIRE (the old one's last leaf has ended). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar

from certs.issue import CA_LIFE, CLOCK_SKEW, LEAF_LIFE, Randomness, issue_ca, issue_leaf
from certs.keyring import Authority, Keyring, Leaf, Retired, authority_of, leaf_of, retire

RENEWED_AT = 2 / 3
"""Of a certificate's life."""
JITTER = 0.1
"""Replicas differ by so much of that moment, either way: one of them is the first."""


class Step(Enum):
    """One change of the keyring."""

    RESTORE = "restore"
    """What this replica remembers: the Secret was wiped, and nobody has to notice."""
    START = "start"
    """There is nothing to go on from: a new CA and a leaf from it, at once."""
    RENEW = "renew"
    """A new leaf from the CA that signs."""
    ANNOUNCE = "announce"
    """A new CA beside the one that signs."""
    PROMOTE = "promote"
    """The CA that was announced signs from now on, beginning with a new leaf."""
    RETIRE = "retire"
    """CAs whose last leaf has ended leave."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Lengths of time; tests that live through ten years in seconds make them short."""

    ca_life: timedelta = CA_LIFE
    leaf_life: timedelta = LEAF_LIFE
    announced: timedelta = timedelta(minutes=2)
    """A new CA has to have been seen in the bundle for so long before it signs: API servers read
    their webhook configurations from a watch that may lag."""


def next_step(
    keyring: Keyring,
    *,
    remembered: Keyring,
    now: datetime,
    announced_for: timedelta | None,
    terms: Terms,
    jitter: float,
) -> Step | None:
    """Return the step that is due for `keyring`, as the Secret holds it, or None.

    `remembered` is what it held when all was well. `announced_for` is how long `keyring.coming`
    has been seen in every bundle without a break, None if it is not there. `jitter` lies between
    -1 and 1 and stays the same for a process.
    """
    authority, coming = _valid(keyring.authority, now), _valid(keyring.coming, now)
    if authority is None and can_sign(remembered, now) and _valid(remembered.leaf, now):
        return Step.RESTORE
    if _valid(keyring.leaf, now) is None:
        return _step_without_leaf(authority, coming)
    if authority is not None and _renewal_at(keyring, jitter) <= now:
        return Step.RENEW
    if any(one.ends <= now for one in keyring.retired):
        return Step.RETIRE
    announced = announced_for is not None and announced_for >= terms.announced
    return _step_of_ca(keyring, now, jitter, announced=announced)


def take_step(
    step: Step,
    keyring: Keyring,
    *,
    now: datetime,
    names: Sequence[str],
    random: Randomness,
    terms: Terms,
) -> Keyring:
    """Return the keyring after `step`, which `next_step` asked for; any but RESTORE."""

    def new_ca() -> Authority:
        return authority_of(issue_ca(now=now, random=random, life=terms.ca_life))

    def new_leaf(authority: Authority) -> Leaf:
        pair = issue_leaf(authority.pair, names, now=now, random=random, life=terms.leaf_life)
        return leaf_of(pair, authority)

    match step, keyring:
        case Step.RENEW, Keyring(authority=Authority() as authority):
            return replace(keyring, leaf=new_leaf(authority))
        case Step.ANNOUNCE, _:
            return replace(keyring, coming=new_ca())
        case Step.PROMOTE, Keyring(coming=Authority() as coming):
            retired = _with_signer(keyring, now)
            return Keyring(authority=coming, leaf=new_leaf(coming), retired=retired)
        case Step.RETIRE, _:
            return replace(keyring, retired=_not_ended(keyring, now))
        case _:
            authority = new_ca()
            return Keyring(authority=authority, leaf=new_leaf(authority))


def can_sign(keyring: Keyring, now: datetime) -> bool:
    """Return whether it has a CA that is valid now, with its key."""
    return _valid(keyring.authority, now) is not None


def _step_without_leaf(authority: Authority | None, coming: Authority | None) -> Step:
    """Return what gives a leaf at once, with a CA that the API servers may know if there is one."""
    if authority is not None:
        return Step.RENEW
    return Step.PROMOTE if coming is not None else Step.START


def _step_of_ca(keyring: Keyring, now: datetime, jitter: float, *, announced: bool) -> Step | None:
    authority, coming = _valid(keyring.authority, now), _valid(keyring.coming, now)
    if keyring.coming is None and authority is not None:
        due = _moment(authority.begins, authority.ends, jitter) <= now
        return Step.ANNOUNCE if due else None
    # What was begun is finished; and a leaf whose CA cannot sign again needs another CA in time.
    if coming is None:
        return Step.ANNOUNCE
    return Step.PROMOTE if announced else None


def _with_signer(keyring: Keyring, now: datetime) -> tuple[Retired, ...]:
    """Return the CAs that have to stay when another one begins to sign."""
    retired, leaf = _not_ended(keyring, now), _valid(keyring.leaf, now)
    if leaf is None or leaf.issuer in {one.certificate for one in retired}:
        return retired
    return (retire(leaf), *retired)


def _not_ended(keyring: Keyring, now: datetime) -> tuple[Retired, ...]:
    return tuple(one for one in keyring.retired if now < one.ends)


def _renewal_at(keyring: Keyring, jitter: float) -> datetime:
    """Return when the leaf is to be renewed; never, if its CA would end it no later."""
    leaf, authority = keyring.leaf, keyring.authority
    if leaf is None or authority is None or leaf.ends >= authority.ends:
        return datetime.max.replace(tzinfo=UTC)
    return _moment(leaf.begins, leaf.ends, jitter)


def _moment(begins: datetime, ends: datetime, jitter: float) -> datetime:
    """Return the moment at two thirds of a certificate's life, moved by up to a tenth of that."""
    issued = min(begins + CLOCK_SKEW, ends)
    return issued + (ends - issued) * (RENEWED_AT * (1 + JITTER * jitter))


_Timed = TypeVar("_Timed", Authority, Leaf)


def _valid(one: _Timed | None, now: datetime) -> _Timed | None:
    return one if one is not None and one.begins <= now < one.ends else None
