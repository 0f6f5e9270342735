"""Waiting after failures: the rules of the design, on numbers."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.backoff import FIRST_STEP_SECONDS, MAX_ASKED_SECONDS, MAX_STEP_SECONDS, BackOff


def _outage(random: float, failures: int) -> list[float]:
    backoff = BackOff(random=lambda: random)
    now, waits = 0.0, []
    for _ in range(failures):
        waits.append(backoff.failed(now))
        now += waits[-1]
    return waits


def test_the_steps_double_up_to_thirty_seconds():
    waits = _outage(1.0, 12)

    assert waits[:5] == [0.5, 0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == MAX_STEP_SECONDS


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_wait_is_never_longer_than_the_outage_and_never_under_half_a_second(
    random: float, failures: int
):
    waits = _outage(random, failures)

    lasted = 0.0
    for wait in waits:
        assert FIRST_STEP_SECONDS <= wait <= max(FIRST_STEP_SECONDS, lasted)
        lasted += wait


@given(st.floats(0, 1))
def test_at_the_plateau_there_are_at_most_four_attempts_a_minute(random: float):
    assert min(_outage(random, 30)[10:]) >= 15.0


@given(st.floats(0, 1), st.floats(0, 1e12))
def test_what_the_backend_asks_for_is_honoured_up_to_five_minutes(random: float, asked: float):
    wait = BackOff(random=lambda: random).failed(0.0, asked)

    capped = max(FIRST_STEP_SECONDS, min(asked, MAX_ASKED_SECONDS))
    assert capped <= wait <= capped + 1.0


def test_a_success_begins_anew():
    backoff = BackOff(random=lambda: 1.0)
    for _ in range(9):
        backoff.failed(100.0)

    assert backoff.succeeded(100.1)
    assert backoff.failing_since is None
    assert backoff.failed(200.0) == FIRST_STEP_SECONDS


def test_what_was_under_way_and_succeeds_does_not_end_a_wait_that_was_asked_for():
    backoff = BackOff(random=lambda: 0.0)
    backoff.failed(10.0, 7.0)

    assert not backoff.succeeded(10.1)
    assert backoff.next_at == 17.0
    assert backoff.succeeded(17.1)
    assert backoff.failing_since is None


def test_while_draining_the_wait_under_way_is_over():
    backoff = BackOff(random=lambda: 1.0)
    backoff.failed(0.0, 250.0)
    backoff.draining(10.0)

    assert backoff.next_at == 10.0
