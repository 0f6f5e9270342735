"""The gate before a backend: who may try while it fails."""

import threading
from collections.abc import Callable

import pytest

from runtime.stop import Stop
from sidecar.ending import Ending
from sidecar.gate import Gate
from tests.sidecar_process import eventually, stays


def _gate(*, until_eof: bool = False, drain_seconds: float = 60) -> tuple[Gate, Stop]:
    stop = Stop()
    return Gate(Ending(stop, drain_seconds=drain_seconds, until_eof=until_eof)), stop


def _try_in_threads(gate: Gate, count: int) -> list[bool]:
    """Return a list to which each of so many threads adds what it was told."""
    answers: list[bool] = []
    for _ in range(count):
        threading.Thread(target=lambda: answers.append(gate.enter()), daemon=True).start()
    return answers


def test_while_all_is_well_everybody_passes():
    gate, _ = _gate()

    assert [gate.enter() for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    "told", [Gate.succeeded, Gate.answered], ids=["acknowledged", "refused for good"]
)
def test_while_it_fails_one_tries_and_the_others_wait_for_what_comes_of_it(
    told: Callable[[Gate], object],
):
    gate, _ = _gate()
    gate.failed()
    gate.wake()  # the wait is over
    answers = _try_in_threads(gate, 3)
    eventually(lambda: answers, "one tries")
    stays(lambda: answers == [True], 0.2, "the others wait")

    told(gate)

    eventually(lambda: answers == [True] * 3, "the others go on")


def test_after_another_failure_again_only_one_tries():
    gate, _ = _gate()
    gate.failed()
    gate.wake()
    answers = _try_in_threads(gate, 3)
    eventually(lambda: answers, "one tries")
    gate.failed()
    gate.wake()
    eventually(lambda: len(answers) == 2, "the next one tries")

    stays(lambda: answers == [True] * 2, 0.2, "the third one waits")
    gate.succeeded()


def test_a_stop_whose_time_is_over_lets_nobody_in():
    gate, stop = _gate()
    gate.failed()
    answers = _try_in_threads(gate, 2)
    stop.request()
    stop.request()
    gate.wake()

    eventually(lambda: answers == [False, False], "they are told")


def test_until_eof_gives_up_after_three_failures_and_a_long_silence_not_sooner():
    gate, _ = _gate(until_eof=True, drain_seconds=0.05)
    for _ in range(2):
        gate.failed()
        gate.wake()
        threading.Event().wait(0.1)

        assert gate.enter()

    gate.failed()

    assert not gate.enter()
