"""Faults S13, S14, S37 and threat T1: volumes that are full, read-only, gone, or others."""

import contextlib
import os
import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.files import Log, append
from tests.fakes.room import Room, fill
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import Sidecar, eventually, stays


@pytest.fixture
def room() -> Iterator[Room]:
    with Room() as made:
        yield made


def started_in(stage: Stage, room: Room, **changes: object) -> Sidecar:
    sidecar = stage.sidecar(wrapper=room.wrapper, **changes)  # type: ignore[arg-type] # a config's
    return stage.wait_until_up(sidecar.start())


def test_s13_the_state_volume_is_full_and_comes_back(stage: Stage, room: Room):
    room.mount_tmpfs(stage.state, "128k")
    log = stage.log()
    log.write(20)
    sidecar = started_in(stage, room, limits={"batch_bytes": 1000})
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    filler = fill(room.path(stage.state))
    # New files and many acknowledgements: entries that find no room.
    for number in range(40):
        stage.log(f"{number}.log").write(20, size=120)
    stage.settle()
    log.write(20)
    stage.settle()
    said = sidecar.said("state", level="error") + sidecar.said("state", level="warning")
    assert len(said) == 1, sidecar.tail()
    filler.unlink()
    log.write(20)
    stage.settle()
    # Writing resumes alone: what was settled meanwhile is known after a kill.
    size = os.path.getsize(log.path)
    eventually(partial(says_settled, room.path(stage.state) / "journal", size))
    sidecar.kill()
    log.write(5)
    sidecar.start()

    stage.verdict().assert_at_least_once(duplicates=0)
    assert sidecar.stop() == 0, sidecar.tail()
    names = [path.name for path in room.path(stage.state).iterdir()]
    assert not [name for name in names if "tmp" in name]


def says_settled(journal: Path, offset: int) -> bool:
    """Return whether an entry of the journal names this offset; see docs/state.md."""
    return re.search(rb" A .* %d " % offset, journal.read_bytes()) is not None


def test_s13_killed_while_the_state_volume_is_full(stage: Stage, room: Room):
    room.mount_tmpfs(stage.state, "128k")
    log = stage.log()
    log.write(50)
    sidecar = started_in(stage, room)
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    fill(room.path(stage.state))
    log.write(400)
    stage.settle()
    sidecar.kill()
    log.write(5)
    sidecar.start()

    # What stood there before the volume was full is still good.
    stage.verdict().assert_at_least_once(duplicates=400)


def test_s13_the_state_volume_becomes_read_only(stage: Stage, room: Room):
    room.mount_tmpfs(stage.state, "1m")
    log = stage.log()
    log.write(20)
    sidecar = started_in(stage, room)
    stage.settle()
    sidecar.stop()
    room.run("mount", "-o", "remount,ro", str(stage.state))
    log.write(20)
    stage.wait_until_up(sidecar.start())
    stage.settle()
    assert sidecar.said("state")
    room.run("mount", "-o", "remount,rw", str(stage.state))
    log.write(20)
    stage.settle()
    assert sidecar.stop() == 0, sidecar.tail()
    log.write(5)
    sidecar.start()

    stage.verdict().assert_exact()


def test_s14_a_full_log_volume_is_read_and_freed(stage: Stage, room: Room):
    room.mount_tmpfs(stage.logs, "1m")
    inside = room.path(stage.logs)
    sidecar = started_in(stage, room)
    for number in range(4):
        name = f"r{number}"
        with Log(inside / f"{name}.log", stage.ledger.stream(name)) as log:
            log.write(2000, size=300)
            with contextlib.suppress(OSError):  # the volume is full: the app's problem
                log.write_raw(b"x" * 2_000_000)
        stream = stage.ledger.stream(name)
        eventually(lambda name=name, stream=stream: stage.judge.arrived(name) == stream.count)  # type: ignore[misc] # a lambda with defaults
        (inside / f"{name}.log").unlink()
        # Nobody holds what was deleted: else the next round would find no room.
        eventually(lambda: free_bytes(inside) > 900_000, "the space is free again")
    assert sidecar.stop() == 0, sidecar.tail()

    verdict = stage.judge.verdict()
    assert not verdict.missing
    assert verdict.duplicates == 0


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_s37_the_log_volume_is_unmounted_and_mounted_anew(stage: Stage, room: Room):
    room.mount_tmpfs(stage.logs, "1m")
    inside = room.path(stage.logs)
    sidecar = started_in(stage, room)
    with Log(inside / "a.log", stage.ledger.stream("first")) as log:
        log.write(5)
    stage.settle()
    room.run("umount", "-l", str(stage.logs))
    room.mount_tmpfs(stage.logs, "1m")
    with Log(room.path(stage.logs) / "a.log", stage.ledger.stream("second")) as log:
        log.write(5)

    stage.verdict().assert_exact()
    assert sidecar.stop() == 0, sidecar.tail()


def test_t1_a_file_on_another_file_system_is_not_read(stage: Stage, room: Room):
    other = stage.logs / "other"
    other.mkdir()
    room.mount_tmpfs(other, "1m")
    canary = f"canary-{random.random()}".encode()
    append(room.path(other) / "a.log", canary + b"\n")
    log = stage.log("live.log")
    sidecar = started_in(stage, room, source={"path": f"{stage.logs}/**/*.log"})
    log.write(5)
    stage.settle()

    stays(lambda: not any(canary in request.text for request in stage.backend.requests), 0.5)
    assert sidecar.metric("sidetail_files_skipped_total") >= 1


def test_t23_a_log_volume_that_is_four_fifths_full_is_said_and_measured(stage: Stage):
    log = stage.log()
    log.write(2000, size=1000)
    volume = {"dir": str(stage.logs), "bytes": "2MiB"}
    sidecar = stage.started(volume=volume)
    stage.settle()
    used = sidecar.scrape().total("sidetail_volume_used_bytes")

    assert len(sidecar.said("four fifths", level="warning")) == 1, sidecar.tail()
    assert 2_000_000 <= used < 2_200_000
    stage.verdict().assert_exact()


def test_t23_nothing_is_said_of_a_volume_with_room(stage: Stage):
    stage.log().write(20)
    sidecar = stage.started(volume={"dir": str(stage.logs), "bytes": "2MiB"})
    stage.settle()

    assert sidecar.said("four fifths", level="warning") == []
