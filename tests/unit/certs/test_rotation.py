"""Which step is due when, and what it leaves."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certs.issue import issue_ca, issue_leaf, service_names
from certs.keyring import Authority, Keyring, Leaf, authority_of, leaf_of, retire
from certs.rotation import Step, Terms, next_step, take_step
from tests.fakes.replicas import START, SeededRandomness

NAMES = service_names("sidetail-webhook", "sidetail-system")
RANDOM = SeededRandomness()
TERMS = Terms()
DAY = timedelta(days=1)
EMPTY = Keyring()


def a_ca(now: datetime = START, life: timedelta = TERMS.ca_life) -> Authority:
    return authority_of(issue_ca(now=now, random=RANDOM, life=life))


def a_leaf(ca: Authority, now: datetime = START) -> Leaf:
    return leaf_of(issue_leaf(ca.pair, NAMES, now=now, random=RANDOM), ca)


CA, NEXT = a_ca(), a_ca()
LEAF = a_leaf(CA)
WHOLE = Keyring(authority=CA, leaf=LEAF)
ROTATING = replace(WHOLE, coming=NEXT)
RETIRING = Keyring(authority=NEXT, leaf=a_leaf(NEXT, START + 5 * DAY), retired=(retire(LEAF),))
KEYLESS = Keyring(leaf=LEAF, retired=(retire(LEAF),))
CA_END = CA.ends - 3 * DAY
LATE = Keyring(authority=CA, leaf=a_leaf(CA, CA_END))
"""Its leaf ends with its CA."""


def due(
    keyring: Keyring,
    now: datetime = START,
    *,
    remembered: Keyring = EMPTY,
    announced_for: timedelta | None = None,
    jitter: float = 0.0,
) -> Step | None:
    return next_step(
        keyring,
        remembered=remembered,
        now=now,
        announced_for=announced_for,
        terms=TERMS,
        jitter=jitter,
    )


def after(step: Step, keyring: Keyring, now: datetime = START) -> Keyring:
    return take_step(step, keyring, now=now, names=NAMES, random=RANDOM, terms=TERMS)


TABLE = {
    "an empty Secret": (EMPTY, START, Step.START),
    "all is well": (WHOLE, START, None),
    "just before two thirds of the leaf's life": (WHOLE, START + 4.66 * DAY, None),
    "at two thirds of the leaf's life": (WHOLE, START + 4.67 * DAY, Step.RENEW),
    "the leaf has ended": (WHOLE, START + 8 * DAY, Step.RENEW),
    "the leaf is lost": (replace(WHOLE, leaf=None), START, Step.RENEW),
    "the leaf has not begun, by this clock": (WHOLE, START - 0.05 * DAY, Step.START),
    "the CA has ended": (WHOLE, CA.ends, Step.START),
    "the CA is lost and so is the leaf": (
        replace(WHOLE, authority=None, leaf=None),
        START,
        Step.START,
    ),
    "the CA's key is lost": (KEYLESS, START, Step.ANNOUNCE),
    "the CA's key is lost and the leaf has ended": (KEYLESS, START + 7 * DAY, Step.START),
    "a CA was announced and the other is lost": (Keyring(coming=NEXT), START, Step.PROMOTE),
    "a CA was announced just now": (ROTATING, START, None),
    "the announced CA has ended": (
        replace(WHOLE, coming=a_ca(START - 9 * DAY, DAY)),
        START,
        Step.ANNOUNCE,
    ),
    "the old CA's last leaf lives": (RETIRING, START + 7 * DAY - timedelta(seconds=1), None),
    "the old CA's last leaf has ended": (RETIRING, START + 7 * DAY, Step.RETIRE),
    "the leaf ends with its CA, which nobody could follow": (
        LATE,
        CA_END + 2.9 * DAY,
        Step.ANNOUNCE,
    ),
}


@pytest.mark.parametrize(("keyring", "now", "step"), TABLE.values(), ids=TABLE)
def test_the_step_that_is_due(keyring: Keyring, now: datetime, step: Step | None) -> None:
    assert due(keyring, now) is step


def test_a_ca_is_followed_by_another_at_two_thirds_of_its_life() -> None:
    def at(share: float) -> Step | None:
        now = START + TERMS.ca_life * share
        return due(Keyring(authority=CA, leaf=a_leaf(CA, now)), now)

    assert at(0.6666) is None
    assert at(0.6667) is Step.ANNOUNCE


@pytest.mark.parametrize(("jitter", "days"), [(-1.0, 4.2), (0.0, 4.667), (1.0, 5.134)])
def test_replicas_renew_up_to_a_tenth_earlier_or_later(jitter: float, days: float) -> None:
    moment = timedelta(days=days)

    assert due(WHOLE, START + moment - timedelta(minutes=5), jitter=jitter) is None
    assert due(WHOLE, START + moment + timedelta(minutes=5), jitter=jitter) is Step.RENEW


def test_a_new_ca_signs_only_when_it_was_announced_for_two_minutes() -> None:
    def with_announced(seconds: float | None) -> Step | None:
        announced = None if seconds is None else timedelta(seconds=seconds)
        return due(ROTATING, announced_for=announced)

    assert with_announced(None) is None
    assert with_announced(119.9) is None
    assert with_announced(120) is Step.PROMOTE


def test_the_leaf_is_renewed_also_while_a_ca_waits_to_be_seen() -> None:
    assert due(ROTATING, START + 5 * DAY) is Step.RENEW


@pytest.mark.parametrize(
    "keyring",
    [EMPTY, KEYLESS, replace(WHOLE, authority=None, leaf=None)],
    ids=["empty", "key", "ca"],
)
def test_what_the_secret_lost_and_this_replica_remembers_is_restored(keyring: Keyring) -> None:
    assert due(keyring, remembered=WHOLE) is Step.RESTORE


def test_a_memory_that_has_ended_restores_nothing() -> None:
    assert due(EMPTY, START + 8 * DAY, remembered=WHOLE) is Step.START


def test_a_secret_that_can_sign_is_the_truth_whatever_is_remembered() -> None:
    other = a_ca()

    assert due(Keyring(authority=other, leaf=a_leaf(other)), remembered=WHOLE) is None
    assert due(Keyring(authority=other), remembered=WHOLE) is Step.RENEW


def test_start_makes_a_ca_and_a_leaf_that_belong_together() -> None:
    made = after(Step.START, EMPTY)

    assert made.leaf is not None
    assert made.authority is not None
    assert made.leaf.issuer == made.authority.pair.certificate
    assert due(made) is None


def test_renew_changes_the_leaf_alone() -> None:
    made = after(Step.RENEW, ROTATING, START + 5 * DAY)

    assert made.leaf != ROTATING.leaf
    assert replace(made, leaf=ROTATING.leaf) == ROTATING


def test_announce_adds_a_ca_to_the_bundle_and_changes_nothing_that_is_served() -> None:
    made = after(Step.ANNOUNCE, WHOLE)

    assert made.bundle.startswith(WHOLE.bundle)
    assert len(made.bundle) > len(WHOLE.bundle)
    assert replace(made, coming=None) == WHOLE


def test_promote_signs_with_the_new_ca_and_keeps_the_old_one_for_its_last_leaf() -> None:
    made = after(Step.PROMOTE, ROTATING)

    assert made.authority == NEXT
    assert made.coming is None
    assert made.leaf is not None
    assert made.leaf.issuer == NEXT.pair.certificate
    assert made.retired == (retire(LEAF),)
    assert made.retired[0].ends == LEAF.ends


def test_promote_keeps_nothing_of_a_ca_whose_leaf_has_ended() -> None:
    assert after(Step.PROMOTE, ROTATING, START + 8 * DAY).retired == ()


def test_promote_after_a_lost_key_keeps_the_old_ca_once() -> None:
    assert after(Step.PROMOTE, replace(KEYLESS, coming=NEXT)).retired == KEYLESS.retired


def test_retire_lets_only_those_go_whose_last_leaf_has_ended() -> None:
    other = a_ca()
    lasting = retire(a_leaf(other, START + 6 * DAY))
    keyring = replace(RETIRING, retired=(*RETIRING.retired, lasting))

    assert after(Step.RETIRE, keyring, START + 7 * DAY).retired == (lasting,)


def test_a_ca_can_be_followed_again_while_the_one_before_is_still_retiring() -> None:
    third = replace(RETIRING, coming=a_ca())
    made = after(Step.PROMOTE, third, START + 6 * DAY)

    assert len(made.retired) == 2
    assert made.bundle.count(b"BEGIN CERTIFICATE") == 3
