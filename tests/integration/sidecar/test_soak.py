"""The long forms: run by `make soak`, hours in all; each has a short form in the other files.

`SIDETAIL_SOAK_SECONDS` (3,600 by default) is how long the soak and the outages of an hour last.
"""

import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.backend import OK, Answer, Backend, Request, retry_after, status
from tests.fakes.files import Background, Log, append, rotate_by_rename
from tests.fakes.preload import killed_at
from tests.integration.sidecar.stage import Stage, gaps
from tests.integration.sidecar.test_identity import make_with_inode
from tests.integration.sidecar.test_restart import dies, journal, kill_again_and_again
from tests.integration.sidecar.test_shutdown import LAST_WORDS
from tests.judge import Judge
from tests.sidecar_process import ROOT, eventually, stays

pytestmark = [pytest.mark.soak, pytest.mark.timeout(6 * 3600)]

SECONDS = float(os.environ.get("SIDETAIL_SOAK_SECONDS", "3600"))


def test_s16_a_thousand_kills_under_load(stage: Stage):
    kill_again_and_again(stage, 1000, random.Random(16), most_seconds=2.0)

    assert stage.backend.resent + stage.judge.verdict().duplicates >= 100, "too few replays"


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_s17_killed_at_every_call_in_turn(stage: Stage, when: str, call: str):
    log = stage.log()
    limits = {"batch_bytes": 3000, "batch_seconds": 0, "in_flight": 1}
    most = {"write": 60, "fsync": 4, "rename": 3}[call]
    fired = 0
    for number in range(1, most + 1):
        environ = killed_at(stage.folder, when, call, f"{stage.state}/", number)
        doomed = stage.sidecar(limits=limits, environ=environ, metrics=None)
        doomed.start()
        with Background(lambda: log.write(20), every_seconds=0.01):
            dies(doomed)
        fired += 1
    stage.sidecar(limits=limits).start()

    batch = max(len(request.lines) for request in stage.backend.stored)
    stage.verdict().assert_at_least_once(duplicates=fired * batch)
    assert fired == most


def test_s15_every_truncation_and_a_thousand_flips(stage: Stage):
    log = stage.log()
    sidecar = stage.sidecar(flags=("--until-eof",), metrics=None)
    for _ in range(3):
        log.write(5)
        assert sidecar.run() == 0
    path = journal(stage)
    good, name = path.read_bytes(), path.name
    source = random.Random(15)
    hurt = [good[:place] for place in range(len(good))]
    for _ in range(1000):
        place = source.randrange(len(good))
        flipped = bytes([good[place] ^ (1 << source.randrange(8))])
        hurt.append(good[:place] + flipped + good[place + 1 :])
    for content in hurt:
        shutil.rmtree(stage.state)
        stage.state.mkdir(mode=0o700)
        (stage.state / name).write_bytes(content)
        log.write(1)
        assert sidecar.run() == 0, sidecar.tail()
        assert stage.judge.owed() == 0

    stage.judge.verdict().assert_at_least_once(duplicates=10**7)


def test_s20_a_thousand_last_words(stage: Stage):
    for number in range(1000):
        sidecar = stage.sidecar(metrics=None)
        sidecar.start()
        name = f"job{number}"
        path = stage.logs / f"{name}.log"
        script = LAST_WORDS.format(root=str(ROOT), run=stage.ledger.run, name=name, path=str(path))
        stage.ledger.stream(name).count = 100
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        # The sidecar is up long before an app's end, but not always its handlers in this loop.
        eventually(lambda name=name: stage.judge.arrived(name) > 0)  # type: ignore[misc] # a lambda with a default
        assert sidecar.stop() == 0, sidecar.tail()
        assert stage.judge.arrived(name) == 100
        path.unlink()

    stage.judge.verdict().assert_exact()


def test_s22_fifty_rotations_a_second_for_a_minute(stage: Stage):
    log = stage.log()
    sidecar = stage.started(source={"path": f"{stage.logs}/a.log*"}, limits={"batch_seconds": 0.05})
    until = time.monotonic() + 60
    number = 0
    while time.monotonic() < until:
        log.write(20)
        log.path.rename(stage.logs / f"a.log.{number}")
        log.reopen()
        number += 1
        if number % 500 == 0:
            assert sidecar.stop() == 0
            log.write(20)
            sidecar.start()
        time.sleep(0.02)
    assert number > 500

    stage.verdict().assert_exact()


def test_s25_ten_thousand_deletions_and_creations(stage: Stage):
    path = stage.logs / "a.log"
    sidecar = stage.started(limits={"batch_seconds": 0, "rotated_seconds": 0.05})
    reused = 0
    inode = -1
    for number in range(10_000):
        with Log(path, stage.ledger.stream(f"g{number}")) as log:
            log.write(3)
            reused += path.stat().st_ino == inode
            inode = path.stat().st_ino
        stage.settle()
        path.unlink()
        if number % 10 == 0:
            # Let the old content go, so that its inode can come back.
            sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_open_files") == 0)

    stage.verdict().assert_exact()
    assert reused > 100, "the inode never came back: it proves nothing here"


def test_row_34_written_ten_seconds_after_the_rename(stage: Stage):
    log = stage.log()
    log.write()
    stage.started(limits={"rotated_seconds": 30})
    stage.settle()
    log.path.rename(f"{log.path}.1")
    for pause in (2, 8):
        time.sleep(pause)
        log.write()

    stage.verdict().assert_exact()


def test_row_74_a_line_of_200_mib(stage: Stage):
    path = stage.logs / "a.log"
    sidecar = stage.started(limits={"max_line_bytes": "1MiB"})
    with path.open("ab") as file:
        for _ in range(200):
            file.write(b"y" * (1 << 20))
        file.write(b"\nafter\n")
    stage.arrives("after")

    cut, after = stage.backend.records[-2:]
    assert len(cut["message"]) + cut.get("truncated", 0) <= 200 << 20
    assert after["offset"] == (200 << 20) + 1
    assert sidecar.peak_mib < 96


def test_s29_a_thousand_lines_of_a_mebibyte(stage: Stage):
    log = stage.log()
    sidecar = stage.started(limits={"max_line_bytes": "2MiB"})
    for _ in range(1000):
        log.write(1, size=1 << 20)
        stage.settle()
        for request in stage.backend.stored:
            request.body, request._text = b"", None
    assert sidecar.peak_mib < 96
    stage.verdict().assert_exact()


def test_s1_an_hour_without_a_backend(stage: Stage):
    stage.backend.down()
    log = stage.log()
    sidecar = stage.started()
    with Background(lambda: log.write(20), every_seconds=0.1):
        time.sleep(30)
        first = sidecar.resident_mib
        time.sleep(SECONDS)
        growth = sidecar.resident_mib - first
        stage.backend.up()
        began = time.monotonic()
        eventually(lambda: stage.backend.stored, seconds=60)
        waited = time.monotonic() - began
    stage.settle(seconds=1200)

    stage.verdict().assert_exact()
    assert growth < 8
    assert waited < 30 + 15


def test_s1_at_the_plateau_there_are_four_attempts_a_minute(stage: Stage):
    stage.backend.answers(Answer(reset="before-answer"))
    stage.log().write(5)
    stage.started()
    time.sleep(300)
    last = [at for at in stage.backend.connected_at if at > time.monotonic() - 120]

    assert 2 <= len(last) <= 9


def test_row_103_an_outage_of_five_minutes_under_load(stage: Stage):
    log = stage.log()
    sidecar = stage.started()
    with Background(lambda: log.write(10), every_seconds=0.02):
        stage.backend.answers(status(503))
        time.sleep(300)
        before = sidecar.resident_mib
        stage.backend.answers(OK)
        began = time.monotonic()
        stored = len(stage.backend.stored)
        eventually(lambda: len(stage.backend.stored) > stored, seconds=60)
        waited = time.monotonic() - began
    stage.settle(seconds=300)

    stage.verdict().assert_exact()
    assert waited < 30 + 15
    assert sidecar.resident_mib - before < 12


def test_s4_an_absurd_retry_after_is_capped_at_five_minutes(stage: Stage):
    stage.backend.answers(retry_after("1000000000000"))
    stage.log().write(5)
    stage.started()
    eventually(lambda: len(stage.backend.requests) == 2, seconds=400)

    assert 299 <= gaps(stage.backend.requests)[0] <= 345


def test_s31_a_hundred_thousand_tiny_files(stage: Stage):
    stream = stage.ledger.stream("tiny")
    sidecar = stage.started(limits={"files": 200_000})
    for number in range(100_000):
        (stage.logs / f"{number}.log").write_bytes(stream.line())
    stage.settle(seconds=900)
    verdict = stage.judge.verdict()
    verdict.disorder.clear()  # between files there is no order

    verdict.assert_exact()
    held = [name for name in sidecar.descriptors() if name.startswith(f"{stage.logs}/")]
    assert len(held) <= 256
    stage.judge_by(check_ids=False)
    late = stage.log("late.log")
    late.write(5)
    eventually(lambda: stage.judge.arrived("late_log") == 5, seconds=120)


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """Make a memory control group with this limit in bytes, or skip."""
    for root, name in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        group = Path(root) / f"sidetail-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            eventually(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc] # as it is now
            group.rmdir()
        return
    pytest.skip("no control group can be made here")


def test_s34_64_mib_of_memory_a_flood_and_a_dead_backend(stage: Stage):
    with memory_cgroup(64 << 20) as group:
        stage.backend.down()
        log = stage.log()
        sidecar = stage.sidecar(
            wrapper=("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        )
        sidecar.start()
        for _ in range(int(min(SECONDS, 600))):
            log.write(2000, size=300)
            time.sleep(1)
            assert sidecar.running, "it was killed for its memory"
        stage.backend.up()
        stage.settle(seconds=600)
        assert sidecar.stop() == 0
    stage.judge.verdict().assert_exact()


def test_s25_the_same_inode_hundreds_of_times_while_down(stage: Stage):
    path = stage.logs / "a.log"
    stream = stage.ledger.stream("a")
    sidecar = stage.sidecar(flags=("--until-eof",), metrics=None)
    path.write_bytes(stream.lines(5))
    for number in range(300):
        assert sidecar.run() == 0
        inode = path.stat().st_ino
        path.unlink()
        make_with_inode(path, stream.lines(3 + number % 5), inode)
    assert sidecar.run() == 0

    stage.judge.verdict().assert_exact()


def test_row_112_and_s40_the_soak(stage: Stage):
    """1,000 lines/s, rotation each 30 s, a backend that fails one time in ten, kills each 5 min."""
    judge = Judge(stage.ledger, check_ids=False)
    failing = random.Random(112)
    flapping = Backend(keep_bodies=False, on_stored=judge.take)

    def rule(request: Request) -> Answer:
        return status(503) if failing.random() < 0.1 else OK

    with flapping as backend:
        backend.answers(rule)
        log = stage.log()
        backends = [{"name": "main", "type": "http", "url": backend.url}]
        sidecar = stage.sidecar(
            backends=backends,
            source={"path": f"{stage.logs}/a.log*"},
            limits={"rotated_seconds": 5, "batch_seconds": 0.2},
        )
        sidecar.start()
        kills = 0
        memory: list[tuple[float, float]] = []
        descriptors: list[int] = []
        began = time.monotonic()
        turned = killed = flapped = began
        with Background(lambda: log.write(20), every_seconds=0.02):
            while (now := time.monotonic()) - began < SECONDS:
                if now - turned > 30:
                    rotate_by_rename(log.path, keep=5)
                    log.reopen()
                    turned = now
                if now - flapped > 60:
                    backend.down()
                    time.sleep(6)
                    backend.up()
                    flapped = now
                if now - killed > 300:
                    sidecar.kill()
                    kills += 1
                    sidecar.start()
                    memory.clear()
                    killed = now
                if now - killed > 60:
                    memory.append((now, sidecar.resident_mib))
                    descriptors.append(len(sidecar.descriptors()))
                time.sleep(1)
        backend.answers(OK)
        eventually(lambda: judge.owed() == 0, seconds=600)
        assert sidecar.stop() == 0, sidecar.tail()

    judge.verdict().assert_at_least_once(duplicates=kills * 2 * 4000)
    assert not sidecar.imbalances
    assert max(descriptors) - min(descriptors) <= 12
    if len(memory) > 60:
        slope = statistics.linear_regression([t for t, _ in memory], [m for _, m in memory]).slope
        assert slope * 3600 < 16, "MiB an hour, over the last minutes"


def test_s14_a_budget_for_deleted_files_holds_under_a_dead_backend_for_long(stage: Stage):
    stage.backend.answers(status(503))
    witness, seen = stage.another_backend()
    backends = [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "witness", "type": "http", "url": witness.url},
    ]
    sidecar = stage.started(backends=backends, limits={"deleted_bytes": "8MiB"})
    for number in range(100):
        with Log(stage.logs / f"{number}.log", stage.ledger.stream(f"s{number}")) as log:
            log.write(4000, size=250)
        stage.settle(seen)
        (stage.logs / f"{number}.log").unlink()
    eventually(lambda: sidecar.metric("sidetail_files_lost_total", reason="deleted") >= 80)
    held = [name for name in sidecar.descriptors() if name.endswith(" (deleted)")]

    assert len(held) <= 12
    append(stage.logs / "x.log", b"")
    stays(lambda: sidecar.running, 1)
