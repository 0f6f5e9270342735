"""Tail scenarios 7.4 and faults S23-S27, S30: which content a file is."""

import os
import time
from pathlib import Path

import pytest

from tests.fakes.backend import OK, Answer, status
from tests.fakes.files import Background, Log, append, copy_and_truncate, rewrite_in_place
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, stays


def test_row_49_truncated_to_nothing_and_written_anew(stage: Stage):
    log = stage.log()
    log.write(5)
    stage.started()
    stage.settle()
    os.truncate(log.path, 0)
    log.write(5)

    verdict = stage.verdict()
    verdict.assert_exact()
    assert verdict.records == 10


def test_row_50_copytruncate_under_a_writer_loses_at_most_its_own_window(stage: Stage):
    stage.judge_by(copies=True)
    log = stage.log()
    number_at: list[tuple[int, int]] = []

    def write() -> None:
        log.write(5)
        number_at.append((log.stream.count, os.fstat(log.descriptor).st_size))

    stage.started(source={"path": f"{stage.logs}/a.log*"})
    lost = 0
    with Background(write, every_seconds=0.003) as writer:
        for round_number in range(4):
            rounds = writer.rounds
            eventually(lambda rounds=rounds: writer.rounds > rounds + 30)  # type: ignore[misc] # a lambda with a default
            before = log.stream.count
            copy = stage.logs / f"a.log.{round_number}"
            copy_and_truncate(log.path, copy)
            after = log.stream.count
            lost += after - before
            # What came between the copy's last byte and the truncation is copytruncate's loss.
            log.stream.excuse(range(before - 5, after + 5))

    verdict = stage.verdict()
    # The copy may end in the midst of a write: what it has of that line is a line of its own.
    assert len(verdict.corrupt) <= 4
    verdict.corrupt.clear()
    verdict.assert_exact()
    assert lost < log.stream.count / 2


def test_rows_51_and_s24_copytruncate_with_a_writer_that_does_not_append(stage: Stage):
    log = stage.log(appending=False)
    log.write(200)
    sidecar = stage.started(source={"path": f"{stage.logs}/a.log"})
    for _ in range(3):
        stage.settle()
        copy_and_truncate(log.path, stage.logs / "copy")
        log.write(50)  # at the old offset: a hole of NULs before it

    stage.verdict().assert_exact()
    assert all("\0" not in message for message in stage.backend.messages)
    assert sidecar.stop() == 0
    for record in stage.backend.records[-50:]:
        with log.path.open("rb") as file:
            file.seek(record["offset"])
            assert file.readline()[:-1].decode() == record["message"]


REFILLS = {"smaller": 3, "equal": 10, "larger": 40}


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("how_many", REFILLS.values(), ids=REFILLS)
def test_rows_53_57_and_s23_refilled_in_one_step(stage: Stage, how_many: int, down: bool):
    log = stage.log()
    log.write(10)
    sidecar = stage.started()
    stage.settle()
    if down:
        assert sidecar.stop() == 0
    rewrite_in_place(log.path, log.stream.lines(how_many))
    if down:
        sidecar.start()

    stage.verdict().assert_exact()


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_row_55_refilled_longer_with_the_same_first_line(stage: Stage, down: bool):
    stage.judge_by(foreign=True)
    log = stage.log()
    header = b"# time level message\n"
    log.write_raw(header)
    log.write(10)
    sidecar = stage.started()
    stage.settle()
    if down:
        assert sidecar.stop() == 0
    rewrite_in_place(log.path, header + log.stream.lines(25))
    if down:
        sidecar.start()

    stage.verdict().assert_exact()
    headers = [record["id"] for record in stage.judge.strangers]
    assert len(headers) == len(set(headers)) == 2, "a second content has ids of its own"


def test_row_56_truncated_to_half_while_the_backend_blocks(stage: Stage):
    log = stage.log()
    log.write(100)
    stage.backend.answers(Answer(hang=True))
    sidecar = stage.started(limits={"request_seconds": 2})
    eventually(lambda: stage.backend.requests)
    os.truncate(log.path, 4970)  # in the midst of line 49
    log.stream.excuse(range(49, 100))
    # The cut line's rest and the new first line run into each other: that is the app's doing.
    stage.judge_by(foreign=True, check_ids=False)
    log.write_raw(b"\n")
    log.write(30)
    stage.backend.answers(OK)
    stage.settle()

    verdict = stage.judge.verdict()
    assert not verdict.missing
    assert not verdict.invented
    assert sidecar.stop() == 0, sidecar.tail()


def test_rows_58_and_s30_deleted_while_it_is_read(stage: Stage):
    log = stage.log()
    log.write(20_000, size=250)
    stage.backend.answers(Answer(delay_seconds=0.02))
    sidecar = stage.started(limits={"batch_bytes": "256KiB"})
    eventually(lambda: stage.judge.arrived("a_log") > 1000)
    log.path.unlink()
    assert stage.judge.owed() > 5000, "the deletion came too late to prove anything"
    log.write(10)  # the app has it open still
    stage.backend.answers(OK)

    stage.verdict().assert_exact()
    log.close()
    eventually(lambda: not gone(sidecar), "the deleted file is let go")


def gone(sidecar) -> list[str]:
    return [name for name in sidecar.descriptors() if name.endswith(" (deleted)")]


def test_s30_past_its_budget_a_deleted_file_is_let_go_and_counted(stage: Stage):
    stage.backend.answers(status(503))
    witness, seen = stage.another_backend()
    backends = [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "witness", "type": "http", "url": witness.url},
    ]
    sidecar = stage.started(backends=backends, limits={"deleted_bytes": "1MiB"})
    log = stage.log()
    log.write(10_000, size=250)
    stage.settle(seen)
    log.path.unlink()
    log.close()
    eventually(lambda: not gone(sidecar), "the descriptor is closed")

    lost = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_files_lost_total", reason="deleted") == 1
    )
    assert lost.total("sidetail_lines_acknowledged_total", backend="witness") == 10_000
    stage.backend.answers(OK)
    survivor = stage.log("b.log")
    survivor.write(5)
    eventually(lambda: stage.judge.arrived("b_log") == 5)


def test_row_60_deleted_and_made_anew(stage: Stage):
    first = stage.log("a.log", "first")
    first.write(5)
    stage.started()
    stage.settle()
    first.path.unlink()
    time.sleep(0.3)
    stage.log("a.log", "second").write(5)

    stage.verdict().assert_exact()


def remake_with_same_inode(path: Path, content: bytes) -> None:
    """Delete `path` and make it anew with `content` under the same inode number, or skip."""
    inode = path.stat().st_ino
    path.unlink()
    make_with_inode(path, content, inode)


def make_with_inode(path: Path, content: bytes, inode: int) -> None:
    """Make `path` with `content` under an inode number that is free, or skip."""
    blockers = []
    try:
        for number in range(300):
            attempt = path.with_name(f".{path.name}.{number}")
            attempt.write_bytes(b"")
            if attempt.stat().st_ino == inode:
                attempt.write_bytes(content)
                attempt.rename(path)
                return
            blockers.append(attempt)
        pytest.skip("this file system does not give an inode number again")
    finally:
        for blocker in blockers:
            blocker.unlink()


@pytest.mark.parametrize("size", ["shorter", "longer"])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_row_61_the_same_inode_with_other_content(stage: Stage, down: bool, size: str):
    log = stage.log()
    log.write(10)
    sidecar = stage.started()
    stage.settle()
    log.close()
    inode = log.path.stat().st_ino
    if down:
        assert sidecar.stop() == 0
    log.path.unlink()
    if not down:
        # As long as the sidecar holds the old file open, its inode cannot come back.
        sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_open_files") == 0)
    make_with_inode(log.path, log.stream.lines(3 if size == "shorter" else 30), inode)
    if down:
        sidecar.start()

    stage.verdict().assert_exact()


def test_s25_delete_and_create_again_and_again(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(limits={"batch_seconds": 0, "rotated_seconds": 0.1})
    inodes = set()
    for number in range(60):
        with Log(path, stage.ledger.stream(f"g{number}")) as log:
            log.write(3)
            inodes.add(path.stat().st_ino)
        stage.settle()
        path.unlink()

    stage.verdict().assert_exact()


def test_s25_the_inode_comes_back_at_once_while_its_ids_must_not(stage: Stage):
    """Generations: equal first lines, equal inode, equal offsets, and yet other ids."""
    path = stage.logs / "a.log"
    sidecar = stage.sidecar(flags=("--until-eof",))
    ids = []
    append(path, b"starting up\nready\n")
    for _ in range(2):
        assert sidecar.run() == 0, sidecar.tail()
        ids += [record["id"] for record in stage.backend.records[-2:]]
        remake_with_same_inode(path, b"starting up\nready!\n")
        assert sidecar.run() == 0, sidecar.tail()
        ids += [record["id"] for record in stage.backend.records[-2:]]
        remake_with_same_inode(path, b"starting up\nready\n")

    assert stage.backend.messages == ["starting up", "ready", "starting up", "ready!"] * 2
    assert len(set(ids)) == len(ids) == 8


@pytest.mark.parametrize("size", [60, 1024, 5000], ids=["first line", "first KiB", "first 5 kB"])
def test_rows_64_and_s26_two_files_that_begin_alike(stage: Stage, size: int):
    head = b"# " + b"=" * (size - 3) + b"\n"
    stage.judge_by(foreign=True)
    for name in ("a.log", "b.log"):
        append(stage.logs / name, head)
        stage.log(name).write(3)
    stage.started()
    stage.settle()
    eventually(lambda: len(stage.judge.strangers) == 2)

    stage.verdict().assert_exact()
    assert len({record["id"] for record in stage.judge.strangers}) == 2


@pytest.mark.parametrize("size", [1, 19, 254, 1022], ids=lambda size: f"{size + 1} bytes")
def test_rows_65_and_s27_a_small_file_that_never_grows(stage: Stage, size: int):
    append(stage.logs / "a.log", b"x" * size + b"\n")
    stage.started()

    stage.arrives("x" * size)
    stays(lambda: len(stage.backend.messages) == 1, 0.3)


def test_s27_one_byte_without_newline(stage: Stage):
    append(stage.logs / "a.log", b"x")
    stage.started()

    stage.arrives("x")
    stays(lambda: stage.backend.messages == ["x"], 0.5)


def test_row_67_and_row_56_of_the_bad_inputs_and_t4_two_names_of_one_file(stage: Stage):
    log = stage.log()
    log.write(5)
    os.link(log.path, stage.logs / "b.log")
    stage.started()
    stage.settle()
    log.write(5)
    stage.settle()
    log.path.unlink()
    log.write(5)

    stage.verdict().assert_exact()


def test_row_68_no_descriptor_stays_on_deleted_files(stage: Stage):
    logs = [stage.log(f"{number}.log") for number in range(100)]
    sidecar = stage.started()
    for log in logs:
        log.write(2)
    stage.settle()
    for log in logs:
        log.path.unlink()
        log.close()

    eventually(lambda: not gone(sidecar), "all are let go")
    stage.verdict().assert_exact()


def test_row_60_of_the_bad_inputs_a_file_that_shrinks_and_grows_all_the_time(stage: Stage):
    steady, wild = stage.log("steady.log"), stage.logs / "wild.log"
    stage.judge_by(foreign=True)
    append(wild, b"w" * 99 + b"\n")

    def tear() -> None:
        size = wild.stat().st_size
        os.truncate(wild, size // 2)
        append(wild, b"w" * 99 + b"\n" + b"w" * 50)

    sidecar = stage.started()
    with Background(tear, every_seconds=0.001) as storm:
        for _ in range(15):
            steady.write(5)
            time.sleep(0.05)
        stage.settle()
    assert storm.rounds > 50

    verdict = stage.verdict()
    assert not verdict.missing
    assert not verdict.corrupt
    assert not verdict.disorder
    assert all(record["offset"] >= 0 for record in stage.judge.strangers)
    assert all(set(record["message"]) <= {"w"} for record in stage.judge.strangers)
    assert sidecar.stop() == 0, sidecar.tail()


@pytest.mark.parametrize("year", [1970, 2100])
def test_row_64_of_the_bad_inputs_the_time_of_a_file_does_not_matter(stage: Stage, year: int):
    log = stage.log()
    log.write(5)
    when = (year - 1970) * 365 * 86_400
    os.utime(log.path, (when, when))
    stage.started()
    stage.settle()
    log.write(5)
    os.utime(log.path, (when, when))

    stage.verdict().assert_exact()


def test_files_closed_for_the_descriptor_budget_and_then_renamed_are_found_again(stage: Stage):
    logs = [stage.log(f"{number}.log") for number in range(30)]
    stage.backend.answers(status(503))
    witness, seen = stage.another_backend()
    backends = [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "witness", "type": "http", "url": witness.url},
    ]
    sidecar = stage.started(backends=backends, limits={"open_files": 4})
    for log in logs:
        log.write(20)
    stage.settle(seen)
    for log in logs:
        log.path.rename(log.path.with_suffix(".old"))
    for log in logs:
        log.write(5)
    stage.backend.answers(OK)

    stage.verdict().assert_exact()
    held = [name for name in sidecar.descriptors() if name.startswith(str(stage.logs) + "/")]
    assert len(held) <= 8
