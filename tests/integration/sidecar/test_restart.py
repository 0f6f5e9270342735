"""Tail scenarios 7.7, faults S15, S17 and bad input 71: restarts, kills, and hurt state."""

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.backend import OK, Answer, status
from tests.fakes.files import Background
from tests.fakes.preload import killed_at
from tests.integration.sidecar.stage import Stage
from tests.integration.sidecar.test_discovery import without_root_rights
from tests.sidecar_process import Sidecar, eventually, stays

HEADER = b"sidetail journal "


def journal(stage: Stage) -> Path:
    """Return the journal: the file in the state folder that begins as the design says."""
    found = [
        path
        for path in stage.state.iterdir()
        if path.is_file() and path.read_bytes().startswith(HEADER) and path.suffix != ".bad"
    ]
    assert len(found) == 1, list(stage.state.iterdir())
    return found[0]


def test_row_94_three_lines_a_clean_stop_and_three_more(stage: Stage):
    log = stage.log()
    log.write(3)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    log.write(3)
    sidecar.start()

    stage.verdict().assert_exact()


def test_row_95_killed_with_a_healthy_backend_in_the_midst_of_a_burst(stage: Stage):
    log = stage.log()
    log.write(20_000, size=400)
    stage.backend.answers(Answer(delay_seconds=0.003))
    sidecar = stage.sidecar(limits={"batch_bytes": "128KiB"})
    sidecar.start()
    eventually(lambda: stage.judge.arrived("a_log") > 3000)
    sidecar.kill()
    assert stage.judge.owed() > 1000, "the kill came too late to prove anything"
    sidecar.start()

    batch = max(len(request.lines) for request in stage.backend.stored)
    stage.verdict().assert_at_least_once(duplicates=2 * batch)


def test_row_96_killed_while_the_backend_refuses(stage: Stage):
    log = stage.log()
    log.write(1000)
    stage.backend.answers(status(503))
    sidecar = stage.started()
    eventually(lambda: stage.backend.answered(503) >= 2)
    sidecar.kill()
    stage.backend.answers(OK)
    sidecar.start()

    stage.verdict().assert_exact()


def test_a_killed_process_that_had_acknowledged_everything_repeats_nothing(stage: Stage):
    log = stage.log()
    log.write(500)
    sidecar = stage.started()
    stage.settle()
    size = os.path.getsize(log.path)
    # See docs/state.md: an entry `A` names the offset before which everything is settled.
    eventually(lambda: re.search(rb" A .* %d " % size, journal(stage).read_bytes()))
    sidecar.kill()
    log.write(5)
    sidecar.start()

    stage.verdict().assert_exact()


MOMENTS = [
    (when, call, number)
    for when in ("before", "after")
    for call, number in (("write", 1), ("write", 2), ("write", 7), ("fsync", 1), ("rename", 1))
]


@pytest.mark.parametrize(("when", "call", "number"), MOMENTS, ids=str)
def test_rows_98_and_s17_killed_at_a_call_that_writes_the_checkpoint(
    stage: Stage, when: str, call: str, number: int
):
    logs = [stage.log(f"{name}.log") for name in "ab"]
    environ = killed_at(stage.folder, when, call, str(stage.state) + "/", number)
    limits = {"batch_bytes": 4000, "batch_seconds": 0, "in_flight": 1}
    doomed = stage.sidecar(limits=limits, environ=environ)
    for log in logs:
        log.write(300)
    doomed.start()
    if call == "rename":
        # The journal is written anew only when it has grown.
        keep_writing = Background(lambda: logs[0].write(40), every_seconds=0.01)
        with keep_writing:
            dies(doomed)
    else:
        dies(doomed)
    survivor = stage.sidecar(limits=limits)
    survivor.start()
    stage.settle()
    for log in logs:
        log.write(3)

    batch = max(len(request.lines) for request in stage.backend.stored)
    stage.verdict().assert_at_least_once(duplicates=batch)
    assert survivor.stop() == 0, survivor.tail()
    assert not [name for name in os.listdir(stage.state) if "tmp" in name]


def dies(sidecar: Sidecar) -> None:
    """Wait until the process has ended by SIGKILL: the fault really fired."""
    eventually(lambda: not sidecar.running, "the call comes at which it dies")
    assert sidecar.wait() == -9, sidecar.tail()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x41
    path.write_bytes(content)


def _join_lines(path: Path, number: int) -> None:
    """Make one line of the line of this number and the next."""
    lines = path.read_bytes().split(b"\n")
    lines[number : number + 2] = [lines[number] + b"K" + lines[number + 1]]
    path.write_bytes(b"\n".join(lines))


def _huge(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + random.Random(1).randbytes(1 << 20) * 8)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_bytes(b"")


def _link(path: Path) -> None:
    victim = path.parent.parent / "victim"
    victim.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(victim)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut by one": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one byte": lambda path: os.truncate(path, 1),
    "flipped byte": _flip,
    "first entries joined": partial(_join_lines, number=1),
    "later entries joined": partial(_join_lines, number=4),
    "flipped header": lambda path: path.write_bytes(b"S" + path.read_bytes()[1:]),
    "torn tail": lambda path: path.write_bytes(path.read_bytes() + b"\x00\x01half an ent"),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "NULs": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "JSON of another shape": lambda path: path.write_bytes(b'{"a.log": [1, 2]}\n'),
    "huge": _huge,
    "a folder": _folder,
    "a link": _link,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_row_98_s15_and_row_71_of_the_bad_inputs_hurt_state_never_costs_a_line(
    stage: Stage, damage: Callable[[Path], object]
):
    logs = [stage.log(f"{name}.log") for name in "abc"]
    for log in logs:
        log.write(100)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    path = journal(stage)
    damage(path)
    for log in logs:
        log.write(20)
    sidecar.start()
    stage.settle()
    assert sidecar.stop() == 0, sidecar.tail()
    if damage is _link:
        assert (stage.folder / "victim").read_bytes() == b"precious"
    else:
        assert journal(stage).stat().st_size
    for log in logs:
        log.write(5)
    records = len(stage.backend.records)
    sidecar.start()
    stage.settle()

    stage.verdict().assert_at_least_once(duplicates=300)
    # What was hurt is healed: the third run repeats nothing.
    if damage is not _link:
        assert len(stage.backend.records) == records + 15


def test_s15_state_cut_at_many_places_and_flipped_at_many(stage: Stage):
    log = stage.log()
    sidecar = stage.sidecar(flags=("--until-eof",), metrics=None)
    for _ in range(3):
        log.write(5)
        assert sidecar.run() == 0
    good = journal(stage).read_bytes()
    name = journal(stage).name
    source = random.Random(7)
    for round_number in range(8):
        shutil.rmtree(stage.state)
        stage.state.mkdir(mode=0o700)
        place = source.randrange(len(good))
        hurt = good[:place]
        if round_number % 2:
            hurt += bytes([good[place] ^ (1 << source.randrange(8))]) + good[place + 1 :]
        (stage.state / name).write_bytes(hurt)
        log.write(1)
        assert sidecar.run() == 0, (place, sidecar.tail())
        assert stage.judge.owed() == 0, place

    stage.judge.verdict().assert_at_least_once(duplicates=10_000)


def test_damaged_state_is_set_aside_and_said_once(stage: Stage):
    stage.log().write(5)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    path = journal(stage)
    path.write_bytes(b"no journal at all\n" * 20)
    sidecar.start()
    stage.settle()
    assert sidecar.stop() == 0

    bad = [name for name in os.listdir(stage.state) if name.endswith(".bad")]
    assert len(bad) == 1
    assert (stage.state / bad[0]).read_bytes() == b"no journal at all\n" * 20
    assert len(sidecar.said(".bad")) == 1, sidecar.tail()


def test_state_of_a_newer_version_is_left_where_it_is(stage: Stage):
    log = stage.log()
    log.write(5)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    path = journal(stage)
    content = path.read_bytes()
    match = re.match(rb"sidetail journal (\d+)\n", content)
    assert match
    newer = HEADER + b"%d\n" % (int(match[1]) + 1) + b"of which nobody here knows the form\n"
    path.write_bytes(newer)
    log.write(5)
    sidecar.start()
    stage.settle()
    assert sidecar.stop() == 0
    records = len(stage.backend.records)
    log.write(5)
    sidecar.start()
    stage.settle()
    assert sidecar.stop() == 0

    assert path.read_bytes() == newer
    stage.judge.verdict().assert_at_least_once(duplicates=5)
    assert len(stage.backend.records) == records + 5, "our own state beside it is used"
    ours = [
        other
        for other in stage.state.iterdir()
        if other != path and other.is_file() and other.read_bytes().startswith(HEADER)
    ]
    assert len(ours) == 1
    assert match[1].decode() in ours[0].name


def test_row_100_a_second_process_on_one_state_folder_says_so_and_exits_3(stage: Stage):
    log = stage.log()
    log.write(5)
    first = stage.started()
    stage.settle()
    second = stage.sidecar()

    assert second.run() == 3
    assert second.said("state")
    log.write(5)
    stage.verdict().assert_exact()
    assert first.running


def test_row_100_with_keep_running_the_second_goes_on_without_state(stage: Stage):
    log = stage.log()
    log.write(5)
    stage.started()
    stage.settle()
    before = journal(stage).read_bytes()
    other, seen = stage.another_backend()
    backends = [{"name": "main", "type": "http", "url": other.url}]
    second = stage.sidecar(backends=backends, flags=("--keep-running",))
    second.start()
    stage.settle(seen)

    seen.verdict().assert_exact()
    assert journal(stage).read_bytes() == before
    assert second.said("state")
    assert second.stop() == 0, second.tail()


def test_state_that_cannot_be_written_does_not_stop_the_lines(stage: Stage):
    log = stage.log()
    log.write(5)
    stage.state.chmod(0o500)
    sidecar = stage.sidecar(wrapper=without_root_rights())
    sidecar.start()
    stage.settle()
    log.write(5)
    stage.settle()
    assert len(sidecar.said("state", level="error") + sidecar.said("state", level="warning")) == 1
    stage.state.chmod(0o700)
    # Writing comes back alone …
    eventually(lambda: any(stage.state.iterdir()), "the journal is written")
    log.write(5)
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    assert sidecar.stop() == 0, sidecar.tail()
    log.write(5)
    sidecar.start()

    # … and holds everything.
    stage.verdict().assert_exact()


def test_the_journal_is_entered_before_anything_is_acknowledged(stage: Stage):
    stage.log().write(5)
    stage.backend.answers(Answer(hang=True))
    sidecar = stage.started()
    eventually(lambda: stage.backend.requests)
    content = journal(stage).read_bytes()

    assert content.startswith(HEADER)
    assert content.count(b"\n") >= 2, "the file is entered with offset 0"
    sidecar.kill()


def test_a_backend_that_is_added_later_gets_everything_that_is_there(stage: Stage):
    log = stage.log()
    log.write(50)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    other, seen = stage.another_backend()
    both = [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "other", "type": "http", "url": other.url},
    ]
    log.write(5)
    stage.started(backends=both)
    stage.settle(seen)
    stage.settle()

    seen.verdict().assert_exact()
    stage.verdict().assert_exact()


def test_ids_are_the_same_after_a_kill_and_with_the_state_wiped(stage: Stage):
    log = stage.log()
    log.write(50)
    first = stage.started()
    stage.settle()
    first.kill()
    shutil.rmtree(stage.state)
    stage.state.mkdir(mode=0o700)
    first.start()
    eventually(lambda: len(stage.backend.records) == 100)

    # The judge holds every line to one id.
    stage.judge.verdict().assert_at_least_once(duplicates=50)


def test_a_batch_that_is_sent_again_unchanged_bears_the_same_id(stage: Stage):
    stage.log().write(50)
    stage.backend.answers(status(503))
    stage.started()
    eventually(lambda: len(stage.backend.requests) >= 3)
    first, *others = stage.backend.requests[:3]

    assert {request.header("x-sidetail-batch-id") for request in others} == {
        first.header("x-sidetail-batch-id")
    }
    assert {request.body for request in others} == {first.body}


def test_two_restarts_in_a_row_without_any_line_change_nothing(stage: Stage):
    stage.log().write(5)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    for _ in range(2):
        stage.wait_until_up(sidecar.start())
        assert sidecar.stop() == 0

    stays(lambda: len(stage.backend.records) == 5, 0.2)


def test_a_journal_stays_small_however_often_it_is_appended_to(stage: Stage):
    log = stage.log()
    sidecar = stage.started(limits={"batch_bytes": 1, "batch_seconds": 0})
    for _ in range(6):
        log.write(250)
        stage.settle()
    stage.settled_in_sidecar(sidecar)

    assert len(stage.backend.requests) >= 1500
    assert journal(stage).stat().st_size <= 128 * 1024
    stage.verdict().assert_exact()


@pytest.mark.parametrize("half", ["first half", "second half"])
def test_row_97_fifty_kills_under_load(stage: Stage, half: str):
    """The short form of S16; the long one is in test_soak."""
    kill_again_and_again(stage, 25, random.Random(), most_seconds=0.4)


def _more_than(stage: Stage, seen: int) -> bool:
    return len(stage.backend.requests) > seen


def kill_again_and_again(
    stage: Stage, how_often: int, source: random.Random, *, most_seconds: float
) -> None:
    """Kill the sidecar at random moments under load, and judge in the end."""
    logs = [stage.log(f"{name}.log") for name in "abc"]

    def write() -> None:
        for log in logs:
            log.write(source.randrange(1, 6))
        if source.random() < 0.01:
            turned = logs[source.randrange(3)]
            turned.path.rename(f"{turned.path}.{time.monotonic_ns()}")
            turned.reopen()

    stage.backend.answers(Answer(delay_seconds=0.02))
    sidecar = stage.sidecar(
        source={"path": f"{stage.logs}/*.log*"}, limits={"batch_bytes": "64KiB"}, metrics=None
    )
    with Background(write, every_seconds=0.01):
        for number in range(how_often):
            sidecar.start()
            if number % 2:
                seen = len(stage.backend.requests)
                eventually(partial(_more_than, stage, seen))
            time.sleep(source.uniform(0.005, most_seconds))
            sidecar.kill()
    stage.backend.answers(OK)
    sidecar.start()
    batch = max(len(request.lines) for request in stage.backend.stored)
    verdict = stage.verdict()

    verdict.assert_at_least_once(duplicates=how_often * 2 * batch)
    assert verdict.duplicates or stage.backend.resent, "no replay was seen: it proves nothing"
    assert sidecar.stop() == 0, sidecar.tail()
