"""Tail scenarios 7.8 and faults S1-S12, S21, S35: backends that fail, and what is kept."""

import math
import random
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import pytest

from tests.fakes.backend import (
    OK,
    Answer,
    Backend,
    Request,
    Rule,
    always,
    in_turn,
    refuse_above,
    refuse_lines,
    retry_after,
    retry_at,
    status,
)
from tests.fakes.files import Background
from tests.fakes.preload import Clock
from tests.integration.sidecar.stage import Stage, gaps
from tests.judge import Judge
from tests.sidecar_process import eventually, stays


@dataclass(frozen=True, slots=True)
class Member:
    """One of several backends of the same sidecar."""

    name: str
    backend: Backend
    judge: Judge

    @property
    def attempts(self) -> int:
        """Requests and connections so far, whichever are more."""
        return max(len(self.backend.requests), self.backend.connections)


def fleet(stage: Stage, names: Iterable[str]) -> dict[str, Member]:
    """Return a backend for each name, each with a judge of its own."""
    return {name: Member(name, *stage.another_backend()) for name in names}


def as_config(members: dict[str, Member], **more: object) -> list[dict[str, object]]:
    """Return the configuration's `backends`."""
    return [
        {"name": name, "type": "http", "url": f"{member.backend.url}/in"} | more
        for name, member in members.items()
    ]


TRANSIENT: dict[str, Answer] = {
    f"s{code}": status(code) for code in (408, 425, 429, 500, 501, 502, 503, 504, 507, 599)
} | {
    "reset": Answer(reset="before-answer"),
    "hang": Answer(hang=True),
    "noise": Answer(raw=b"\x16\x03\x01 what is this\r\n\r\n"),
    "cut": Answer(reset="in-answer"),
}


def test_rows_103_109_s1_s2_what_passes_is_retried_and_holds_up_nobody_else(stage: Stage):
    members = fleet(stage, [*TRANSIENT, "refused", "silent", "healthy"])
    for name, answer in TRANSIENT.items():
        members[name].backend.answers(answer)
    members["refused"].backend.down()
    members["silent"].backend.silent = True
    sick = {name: member for name, member in members.items() if name != "healthy"}
    log = stage.log()
    log.write(300)
    sidecar = stage.started(backends=as_config(members), limits={"request_seconds": 1})
    for _ in range(10):
        log.write(20)
        stage.settle(members["healthy"].judge)
    for name, member in sick.items():
        if name != "refused":
            eventually(partial(_tried, member, 3), f"{name} is tried again")
    failing = sidecar.scrape()
    for name in sick:
        assert failing.total("sidetail_backend_failing", backend=name) == 1, name
        assert failing.total("sidetail_retries_total", backend=name) >= 2, name
        assert failing.total("sidetail_lag_bytes", backend=name) > 0, name
    assert failing.total("sidetail_backend_failing", backend="healthy") == 0
    for member in sick.values():
        member.backend.answers(OK)
    members["refused"].backend.up()
    members["silent"].backend.silent = False
    log.write(20)
    for name, member in members.items():
        stage.settle(member.judge, where=name)

    for name, member in members.items():
        # A cut answer is ambiguous; everything else was refused before it was stored.
        member.judge.verdict().assert_at_least_once(duplicates=0)
        if name in TRANSIENT and name != "hang":
            waits = gaps(member.backend.requests[:3])
            assert min(waits) >= 0.45, (name, waits)
    hung = [r for r in members["hang"].backend.requests if r.peer_gone_at]
    assert hung, "a hung request was given up"
    assert all(r.peer_gone_at - r.at < 1 + 10 for r in hung if r.peer_gone_at)
    # The same trouble is said at most once a minute, per backend.
    assert len(sidecar.said("refused", "waits")) <= 2 or len(sidecar.log) < 5 * len(members)


def test_s2_a_hung_backend_s_descriptors_and_threads_do_not_grow(stage: Stage):
    stage.backend.answers(Answer(hang=True))
    stage.log().write(100)
    # Without metrics: each scrape is a thread of its own, for a moment.
    sidecar = stage.sidecar(limits={"request_seconds": 0.3}, metrics=None)
    sidecar.start()
    eventually(lambda: len(stage.backend.requests) >= 2)
    threads, before = sidecar.threads, len(sidecar.descriptors())
    eventually(lambda: len(stage.backend.requests) >= 4)

    assert sidecar.threads <= threads + 1
    assert len(sidecar.descriptors()) <= before + 1
    stage.backend.answers(OK)
    stage.verdict().assert_exact()


def test_s3_a_slow_backend_gets_larger_batches_and_costs_no_memory(stage: Stage):
    stage.backend.answers(Answer(delay_seconds=0.4))
    log = stage.log()
    sidecar = stage.sidecar(limits={"in_flight": 1}, metrics=None)
    sidecar.start()
    with Background(lambda: log.write(5), every_seconds=0.005):
        eventually(lambda: len(stage.backend.stored) >= 2)
        threads, before = sidecar.threads, sidecar.resident_mib
        eventually(lambda: len(stage.backend.stored) >= 6)
        assert sidecar.threads <= threads
        assert sidecar.resident_mib - before < 8
    stage.backend.answers(OK)

    assert max(len(request.lines) for request in stage.backend.stored[2:6]) >= 50
    stage.verdict().assert_exact()


def test_s1_a_dead_backend_costs_no_memory(stage: Stage):
    stage.backend.down()
    log = stage.log()
    sidecar = stage.started()
    log.write(2000)
    eventually(lambda: sidecar.metric("sidetail_retries_total") >= 1)
    before = sidecar.resident_mib
    # Few and long lines: what costs memory is bytes, what costs this test time is lines.
    for _ in range(20):
        log.write(500, size=4000)
        time.sleep(0.05)
    eventually(lambda: sidecar.metric("sidetail_retries_total") >= 3)
    assert sidecar.metric("sidetail_lag_bytes") > 30_000_000
    assert sidecar.resident_mib - before < 8
    stage.backend.up()

    stage.verdict().assert_exact()
    assert sidecar.peak_mib < 64


def dated(seconds: float) -> Rule:
    """Return the rule that asks to come again at a date, the first two times."""
    left = [2]

    def rule(request: Request) -> Answer:
        left[0] -= 1
        return retry_at(seconds) if left[0] >= 0 else OK

    return rule


WAITS: dict[str, tuple[Answer | Rule, float]] = {
    "seconds": (retry_after("2"), 2.0),
    "seconds with 503": (retry_after("2", code=503), 2.0),
    "a date": (dated(3.0), 1.95),  # whole seconds, rounded down
    "absurd": (retry_after("1000000000000"), math.inf),
    "absurd date": (retry_after("Fri, 31 Dec 9999 23:59:59 GMT"), math.inf),
    "negative": (retry_after("-5"), 0.45),
    "a word": (retry_after("soon"), 0.45),
    "empty": (retry_after(""), 0.45),
    "a fraction": (retry_after("1e3"), 0.45),
    "past date": (retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), 0.45),
    "zero": (retry_after("0"), 0.45),
    "huge digits": (retry_after("9" * 5000), math.inf),
}


def test_rows_104_and_s4_what_retry_after_asks_for_is_waited(stage: Stage):
    names = [name.replace(" ", "-") for name in WAITS]
    members = fleet(stage, names)
    for name, (answer, _) in zip(names, WAITS.values(), strict=True):
        # Twice: the first wait of an outage is short whatever rule it follows.
        rule = in_turn(answer, answer) if isinstance(answer, Answer) else answer
        members[name].backend.answers(rule)
    stage.log().write(50)
    stage.started(backends=as_config(members))
    asked = dict(zip(names, (wait for _, wait in WAITS.values()), strict=True))
    patient = [name for name, wait in asked.items() if wait == math.inf]
    for name in names:
        if name not in patient:
            stage.settle(members[name].judge, where=name)

    for name, wait in asked.items():
        requests = members[name].backend.requests
        if name in patient:
            assert len(requests) == 1, name
        else:
            assert min(gaps(requests)[:2]) >= wait - 0.05, (name, gaps(requests))
            members[name].judge.verdict().assert_exact()


def test_a_wait_that_was_asked_for_holds_for_the_whole_backend(stage: Stage):
    logs = [stage.log(f"{number}.log") for number in range(8)]
    refused = threading.Event()

    def rule(request: Request) -> Answer:
        if refused.is_set():
            return OK
        refused.set()
        return retry_after("2")

    stage.backend.answers(rule)
    stage.started(limits={"in_flight": 4, "batch_bytes": 2000})
    for log in logs:
        log.write(20)
    eventually(refused.is_set)
    stage.settle()
    refusal = next(r for r in stage.backend.requests if r.answer and r.answer.status == 429)
    after = [r for r in stage.backend.requests if r.began_at > (refusal.answered_at or 0) + 0.2]

    # What was under way at that moment may still come; nothing begins for two seconds.
    assert min(r.began_at for r in after) - (refusal.answered_at or 0) >= 1.9
    stage.verdict().assert_exact()


def test_s5_half_of_all_answers_are_server_errors(stage: Stage):
    source = random.Random(3)
    lock = threading.Lock()
    refusals = [status(code) for code in (500, 502, 504, 408)]

    def rule(request: Request) -> Answer:
        with lock:
            return source.choice(refusals) if source.random() < 0.5 else OK

    stage.backend.answers(rule)
    logs = [stage.log(f"{number}.log") for number in range(4)]
    for log in logs:
        log.write(150)
    stage.started(limits={"batch_bytes": 16_384})
    stage.settle()

    stage.verdict().assert_exact()
    assert stage.backend.answered(500, 502, 504, 408) >= 2


def test_s6_a_body_that_is_too_large_is_halved_and_a_line_that_is_too_large_counted(stage: Stage):
    log = stage.log()
    log.write(400)
    log.write_raw(b"L" * 30_000 + b"\n")
    log.write(400)
    stage.judge_by(foreign=True)
    stage.backend.answers(refuse_above(20_000))
    sidecar = stage.started()
    stage.settle()
    stage.settled_in_sidecar(sidecar)

    stage.verdict().assert_exact()
    assert not stage.judge.strangers
    scrape = sidecar.scrape()
    assert scrape.total("sidetail_lines_dropped_total", backend="main") == 1
    assert scrape.total("sidetail_lines_dropped_total", reason="too_large") == 1
    # One batch of 800 records of about 350 bytes: 280,000 bytes for a limit of 20,000.
    assert stage.backend.answered(413) <= 40


@pytest.mark.parametrize("in_flight", [1, 3])
def test_never_more_than_in_flight_requests_are_under_way(stage: Stage, in_flight: int):
    logs = [stage.log(f"{name}.log") for name in "abcdef"]
    stage.backend.answers(Answer(delay_seconds=0.01))
    limits = {"in_flight": in_flight, "batch_bytes": 4000, "batch_seconds": 0}
    for _ in range(5):
        for log in logs:
            log.write(60)
        assert stage.run_to_end(limits=limits)
    ends = sorted(
        (at, change)
        for request in stage.backend.requests
        for at, change in ((request.at, 1), (request.answered_at, -1))
        if at is not None
    )

    assert max(accumulate(change for _, change in ends)) == in_flight
    stage.verdict().assert_exact()


def test_s6_what_was_learnt_from_a_413_is_not_forgotten_at_once(stage: Stage):
    log = stage.log()
    log.write(8000)
    stage.backend.answers(refuse_above(50_000))
    stage.started(limits={"batch_bytes": "256KiB"})
    stage.settle()

    stage.verdict().assert_exact()
    assert stage.backend.answered(413) < stage.backend.answered(200)


def test_rows_106_and_s7_one_poisoned_line_costs_one_line(stage: Stage):
    log = stage.log()
    log.write(499)
    log.write_raw(b"POISON here\n")
    log.write(500)
    stage.judge_by(foreign=True)
    stage.backend.answers(refuse_lines(lambda line: b"POISON" in line))
    sidecar = stage.started()
    stage.settle()
    log.write(20)
    stage.settle()
    stage.settled_in_sidecar(sidecar)

    stage.verdict().assert_exact()
    scrape = sidecar.scrape()
    assert scrape.total("sidetail_lines_dropped_total", reason="rejected") == 1
    assert scrape.total("sidetail_lines_dropped_total") == 1
    # Bisection of 1,000 lines is 10 levels of two.
    assert stage.backend.answered(400) <= 24
    quarantine = (stage.state / "quarantine").read_bytes()
    assert b"POISON here" in quarantine
    assert quarantine.count(b"\n") == 1
    assert sidecar.said("refused", level="error")


@pytest.mark.parametrize("code", [400, 422])
def test_a_backend_that_refuses_every_line_is_held_and_not_bled(stage: Stage, code: int):
    stage.backend.answers(status(code))
    log = stage.log()
    log.write(1000)
    sidecar = stage.started()
    eventually(lambda: sidecar.said("held", level="error"))
    time.sleep(1)
    dropped = sidecar.metric("sidetail_lines_dropped_total", backend="main")
    assert dropped < 20
    log.write(20)
    stage.backend.answers(OK)
    log.stream.excuse(range(int(dropped)))
    assert_exact_but_for_the_hold(stage)
    assert sidecar.metric("sidetail_lines_dropped_total", backend="main") == dropped


def assert_exact_but_for_the_hold(stage: Stage) -> None:
    """Raise unless all is exact, or but for lines that were overtaken while all were held.

    Held, the refused line takes turns with others (design, Answers): those come before it.
    """
    verdict = stage.verdict()
    assert len(verdict.disorder) <= 40
    verdict.disorder.clear()
    verdict.assert_exact()


def test_thirty_poisoned_lines_in_a_row_do_not_hold_for_ever(stage: Stage):
    log, other = stage.log(), stage.log("other.log")
    log.write(5)
    for number in range(24):
        log.write_raw(b"POISON %d\n" % number)
    log.write(5)
    stage.judge_by(foreign=True)
    stage.backend.answers(refuse_lines(lambda line: b"POISON" in line))
    sidecar = stage.started()
    with Background(other.write, every_seconds=0.05):
        eventually(lambda: stage.judge.arrived("a_log") == 10, "what is behind them arrives")
    stage.settle()
    stage.settled_in_sidecar(sidecar)

    assert_exact_but_for_the_hold(stage)
    assert sidecar.metric("sidetail_lines_dropped_total", reason="rejected") == 24


def test_the_quarantine_is_bounded_and_the_rest_only_counted(stage: Stage):
    log = stage.log()
    for number in range(30):
        log.write_raw(b"POISON %d " % number + b"p" * 60_000 + b"\n")
        log.write(1)
    stage.judge_by(foreign=True)
    stage.backend.answers(refuse_lines(lambda line: b"POISON" in line))
    sidecar = stage.started()
    stage.settle()
    stage.settled_in_sidecar(sidecar)

    stage.verdict().assert_exact()
    assert sidecar.metric("sidetail_lines_dropped_total", reason="rejected") == 30
    size = (stage.state / "quarantine").stat().st_size
    assert 500_000 < size <= 1024 * 1024


HOLDS: dict[str, Answer] = {
    f"s{code}": status(code) for code in (401, 402, 403, 404, 405, 410, 411, 414, 415, 418, 451)
} | {
    "s300": status(300),
    "s304": status(304),
    "odd": status(999),
}
REDIRECTS = (301, 302, 303, 307, 308)


def test_rows_105_and_s9_t19_what_only_a_human_can_mend_is_held_and_redirects_never_followed(
    stage: Stage,
):
    names = [*HOLDS, *(f"s{code}" for code in REDIRECTS)]
    members = fleet(stage, names)
    trap, _ = stage.another_backend()
    for name, answer in HOLDS.items():
        members[name].backend.answers(answer)
    for code in REDIRECTS:
        where = ("Location", f"{trap.url}/elsewhere")
        members[f"s{code}"].backend.answers(status(code, where))
    stage.log().write(100)
    sidecar = stage.started(backends=as_config(members))
    for name, member in members.items():
        eventually(partial(_tried, member, 2), f"{name} is tried again")
    scrape = sidecar.scrape()
    assert scrape.total("sidetail_lines_dropped_total") == 0
    said = sidecar.said("held", level="error")
    assert sorted(line["backend"] for line in said) == sorted(names), "each once"
    for member in members.values():
        member.backend.answers(OK)
    for name, member in members.items():
        stage.settle(member.judge, where=name)

    for member in members.values():
        member.judge.verdict().assert_exact()
    assert trap.connections == 0
    assert not (stage.state / "quarantine").exists()


def _tried(member: Member, times: int) -> bool:
    return member.attempts >= times


@pytest.mark.parametrize(
    ("files", "header", "value"),
    [
        ({"token": "good-secret\n"}, "authorization", "Bearer good-secret"),
        ({"username": "u", "password": "good-secret"}, "authorization", "Basic "),
    ],
    ids=["token", "basic"],
)
def test_s9_credentials_are_read_again_and_never_said(
    stage: Stage, files: dict[str, str], header: str, value: str
):
    folder = stage.folder / "credentials"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content.replace("good", "stale"))
    seen: list[str] = []

    def rule(request: Request) -> Answer:
        seen.append(str(request.header(header)))
        return status(401) if len(set(seen)) < 2 else OK

    stage.backend.answers(rule)
    log = stage.log()
    log.write(50)
    sidecar = stage.started(backend={"credentials": {"dir": str(folder)}})
    eventually(lambda: stage.backend.answered(401) >= 2)
    # As the kubelet does it: the name leads to the new content at once.
    for name, content in files.items():
        (folder / f".{name}").write_text(content)
        (folder / f".{name}").rename(folder / name)
    stage.settle()

    stage.verdict().assert_exact()
    assert all(one.startswith(value[:6]) for one in seen)
    assert len(set(seen)) == 2
    if value.startswith("Bearer"):
        assert seen[-1] == value
    assert b"secret" not in sidecar.stderr + sidecar.stdout
    assert b"secret" not in stage.state.joinpath("quarantine").name.encode()


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "stored"])
@pytest.mark.parametrize("where", ["before-answer", "in-answer", "in-request"])
def test_s10_a_reset_costs_at_most_its_batch_twice(stage: Stage, where: str, stored: bool):
    if where == "in-request" and stored:
        pytest.skip("half a request is not stored")
    rounds = 3
    left = [rounds]

    def early(head: bytes) -> Answer | None:
        if where != "in-request" or left[0] == 0:
            return None
        left[0] -= 1
        return Answer(reset="in-request")

    log = stage.log()
    log.write(600)
    stage.backend.before_request = early
    if where != "in-request":
        broken = Answer(reset=where, stored=stored)  # type: ignore[arg-type] # one of the literals
        stage.backend.answers(in_turn(OK, *[broken] * rounds))
    stage.started(limits={"batch_bytes": 16_384})
    stage.settle()
    log.write(5)

    batch = max(len(request.lines) for request in stage.backend.stored)
    verdict = stage.verdict()
    verdict.assert_at_least_once(duplicates=rounds * batch if stored else 0)
    if where != "in-request":
        assert stage.backend.resent == rounds
        assert bool(verdict.duplicates) is stored


def test_s10_a_connection_that_is_closed_after_each_answer_or_idle_repeats_nothing(stage: Stage):
    stage.backend.answers(always(Answer(close=True)))
    log = stage.log()
    sidecar = stage.started(limits={"batch_seconds": 0})
    for _ in range(10):
        log.write(3)
        stage.settle()
    stage.backend.answers(OK)
    for _ in range(5):
        log.write(3)
        stage.settle()
        stage.backend.cut()  # as an idle time-out of a load balancer
        time.sleep(0.05)

    stage.verdict().assert_exact()
    assert sidecar.metric("sidetail_lines_acknowledged_total", backend="main") == 45


def test_connections_are_kept_alive(stage: Stage):
    log = stage.log()
    stage.started(limits={"batch_seconds": 0, "in_flight": 2})
    for _ in range(30):
        log.write(2)
        stage.settle()

    assert stage.backend.connections <= 2


def test_s21_the_wall_clock_jumps(stage: Stage):
    clock = Clock(stage.folder)
    log = stage.log()
    sidecar = stage.started(environ=clock.environ)
    for shift in (-3600, 3600, 10 * 365 * 86_400, -20 * 365 * 86_400, 0):
        clock.shift(shift)
        log.write(5)
        stage.settle()
    stage.backend.answers(status(503))
    log.write(5)
    eventually(lambda: stage.backend.answered(503) >= 2)
    clock.shift(-86_400)  # in the midst of a wait
    seen = len(stage.backend.requests)
    eventually(lambda: len(stage.backend.requests) > seen)
    stage.backend.answers(OK)
    stage.settle()
    before = sidecar.cpu_seconds
    for number in range(10):
        clock.shift(number % 2 * 1000)
        time.sleep(0.1)

    assert sidecar.cpu_seconds - before < 0.5
    stage.verdict().assert_exact()
    assert any(record["time"].startswith("20") for record in stage.backend.records)


def test_s35_a_process_that_gets_a_twentieth_of_a_core_falls_behind_and_comes_back(stage: Stage):
    log = stage.log()
    sidecar = stage.started()

    def throttle() -> None:
        sidecar.send_signal(signal.SIGSTOP)
        time.sleep(0.095)
        sidecar.send_signal(signal.SIGCONT)
        time.sleep(0.005)

    with Background(throttle) as duty:
        for _ in range(10):
            log.write(200)
            time.sleep(0.1)
        assert sidecar.get("/healthz", seconds=60)[0] == 200
        stage.settle()
    assert duty.rounds > 2

    stage.verdict().assert_exact()


def test_a_rate_limit_delays_and_drops_nothing(stage: Stage):
    log = stage.log()
    log.write(400)
    sidecar = stage.started(limits={"max_rate": "64KiB", "batch_bytes": 16_384})
    began = time.monotonic()
    stage.settle()
    took = time.monotonic() - began
    size = sum(len(request.body) for request in stage.backend.stored)

    stage.verdict().assert_exact()
    # A second's worth may go out at once.
    assert took >= (size - 65_536 - 2 * 16_384) / 65_536 - 0.5
    assert sidecar.metric("sidetail_lines_dropped_total") == 0


def test_the_health_endpoint_does_not_depend_on_the_backend(stage: Stage):
    stage.backend.down()
    stage.log().write(5)
    sidecar = stage.started()
    eventually(lambda: sidecar.metric("sidetail_retries_total") >= 1)

    stays(lambda: sidecar.get("/healthz")[0] == 200, 0.3)


def test_oldest_unacknowledged_and_lag_are_seen(stage: Stage):
    stage.backend.answers(status(503))
    log = stage.log()
    log.write(10)
    sidecar = stage.started()
    held = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_oldest_unacknowledged_seconds", backend="main") > 0.5
    )
    assert held.total("sidetail_lag_bytes", backend="main") == 1000
    stage.backend.answers(OK)
    stage.settle()

    sidecar.wait_for_metric(
        lambda scrape: (
            scrape.total("sidetail_lag_bytes", backend="main") == 0
            and scrape.total("sidetail_oldest_unacknowledged_seconds", backend="main") == 0
        )
    )
