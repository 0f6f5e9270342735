"""Tail scenarios 7.3 and fault S22: files that are renamed, replaced and packed under our eyes."""

import gzip
import os
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.backend import OK, Answer, status
from tests.fakes.files import Background, Log, append, numbered, replace, rotate_by_rename
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, stays


def test_row_33_the_old_writer_and_the_new_file_both_arrive(stage: Stage):
    log = stage.log()
    log.write()
    stage.started()
    stage.settle()
    log.path.rename(numbered(log.path, 1))
    log.write()
    new = stage.log("a.log", "new")
    new.write()

    stage.verdict().assert_exact()


def test_row_34_the_old_writer_goes_on_late_after_the_rename(stage: Stage):
    log = stage.log()
    log.write()
    stage.started(limits={"rotated_seconds": 20})
    stage.settle()
    log.path.rename(numbered(log.path, 1))
    stage.log("a.log", "new").write()
    for _ in range(2):
        time.sleep(1)
        log.write()
        stage.settle()

    stage.verdict().assert_exact()


def test_row_35_two_renames_with_writes_to_all_three(stage: Stage):
    first = stage.log("a.log", "first")
    stage.started()
    first.write()
    rotate_by_rename(first.path)
    second = stage.log("a.log", "second")
    second.write()
    first.write()
    eventually(lambda: stage.judge.has("second", 0))
    rotate_by_rename(first.path)
    third = stage.log("a.log", "third")
    third.write()
    second.write()

    stage.verdict().assert_exact()


def test_row_37_a_rename_inside_the_glob_repeats_nothing(stage: Stage):
    log = stage.log()
    stage.started(source={"path": f"{stage.logs}/a.log*"})
    for _ in range(4):
        log.write(5)
        stage.settle()
        rotate_by_rename(log.path)
        log.reopen()
        log.write(2)

    stage.verdict().assert_exact()


def test_row_38_a_file_moved_out_of_the_folder_is_followed_on(stage: Stage):
    log = stage.log()
    log.write(2)
    stage.started()
    stage.settle()
    elsewhere = stage.folder / "elsewhere"
    elsewhere.mkdir()
    log.path.rename(elsewhere / "moved.txt")
    log.write(3)

    stage.verdict().assert_exact()


def test_row_39_three_renames_while_the_backend_is_down(stage: Stage):
    log = stage.log()
    stage.backend.answers(status(503))
    witness, seen = stage.another_backend()
    stage.started(backends=both(stage, witness))
    for number in range(4):
        log.write(500)
        # The other backend shows that the file was seen under its name at least once.
        eventually(lambda number=number: seen.arrived("a_log") >= 500 * number + 500)  # type: ignore[misc] # a lambda with a default
        if number < 3:
            rotate_by_rename(log.path)
            log.reopen()
    assert not stage.backend.stored
    assert stage.backend.answered(503)
    stage.backend.answers(OK)

    stage.verdict().assert_exact()
    seen.verdict().assert_exact()


def both(stage: Stage, witness) -> list[dict[str, str]]:
    return [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "witness", "type": "http", "url": witness.url},
    ]


def test_row_41_renamed_and_deleted_while_we_were_down(stage: Stage):
    gone, kept = stage.log("gone.log"), stage.log("kept.log")
    gone.write(3)
    kept.write(3)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    gone.write(2)
    kept.write(2)
    gone.path.rename(numbered(gone.path, 1))
    numbered(gone.path, 1).unlink()
    gone.stream.excuse([3, 4])
    kept.path.rename(numbered(kept.path, 1))
    sidecar.start()

    stage.verdict().assert_exact()
    assert sidecar.stop() == 0, sidecar.tail()


@pytest.mark.parametrize("where", ["beside", "in another folder"])
def test_s22_renamed_out_of_the_glob_while_we_were_down(stage: Stage, where: str):
    log = stage.log()
    log.write(10)
    sidecar = stage.started()
    stage.settle()
    assert sidecar.stop() == 0
    log.write(10)
    target = numbered(log.path, 2)
    if where != "beside":
        target = stage.logs / "old" / "a"
        target.parent.mkdir()
    log.path.rename(target)
    new = stage.log("a.log", "new")
    new.write(10)
    sidecar.start()
    stage.settle()
    log.write(10)

    stage.verdict().assert_exact()


def test_row_42_packed_after_the_rename(stage: Stage):
    log = stage.log()
    log.write(5000)
    stage.backend.answers(Answer(delay_seconds=0.05))
    stage.started(limits={"batch_bytes": 65_536})
    eventually(lambda: stage.judge.arrived("a_log"))
    rotated = numbered(log.path, 1)
    log.path.rename(rotated)
    pack(rotated)
    log.reopen()
    log.write(10)

    stage.verdict().assert_exact()


def pack(path: Path) -> None:
    """Do what `gzip` does: a packed file beside, then the original goes."""
    with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()


@pytest.mark.parametrize("excluded", [True, False], ids=["excluded", "in the glob"])
def test_row_43_a_packed_rotated_file_repeats_no_line(stage: Stage, excluded: bool):
    stage.judge_by(foreign=True)
    log = stage.log()
    log.write(50)
    exclude = ["*.gz"] if excluded else []
    stage.started(source={"path": f"{stage.logs}/a.log*", "exclude": exclude})
    stage.settle()
    rotate_by_rename(log.path)
    pack(numbered(log.path, 1))
    log.reopen()
    log.write(5)

    stage.verdict().assert_exact()
    assert bool(stage.judge.strangers) is not excluded  # never unpacked: bytes are bytes


def test_row_44_an_atomic_replacement_gives_the_new_lines_and_only_those(stage: Stage):
    log = stage.log()
    log.write(5)
    stage.started()
    stage.settle()
    for _ in range(3):
        replace(log.path, log.stream.lines(7))
        stage.settle()

    stage.verdict().assert_exact()


def test_row_46_renamed_while_half_of_it_is_unread(stage: Stage):
    log = stage.log()
    log.write(20_000, size=250)
    stage.backend.answers(Answer(delay_seconds=0.02))
    stage.started(limits={"batch_bytes": "256KiB"})
    eventually(lambda: stage.judge.arrived("a_log") > 2000)
    log.path.rename(numbered(log.path, 1))
    log.reopen()
    log.write(100)
    assert stage.judge.owed() > 5000, "the rename came too late to prove anything"
    stage.backend.answers(OK)

    stage.verdict().assert_exact()


def test_row_47_a_last_line_without_newline_in_a_renamed_file(stage: Stage):
    log = stage.log()
    log.write()
    stage.started()
    stage.settle()
    log.write_raw(b"never completed")
    log.path.rename(numbered(log.path, 1))

    stage.arrives("never completed")
    stays(lambda: stage.backend.messages.count("never completed") == 1, 0.5)


@pytest.mark.parametrize("delete", [False, True], ids=["kept", "deleted"])
@pytest.mark.parametrize("names", ["sequential", "timestamp"])
@pytest.mark.parametrize("glob", ["live file only", "all files"])
def test_row_48_matrix_of_names_and_fates(stage: Stage, names: str, delete: bool, glob: str):
    log = stage.log()
    pattern = "*.log" if glob == "live file only" else "a.log*"
    stage.started(source={"path": f"{stage.logs}/{pattern}"})
    rotated: list[Path] = []
    for number in range(5):
        first = log.stream.count
        log.write(20)
        # Unread and out of the glob, or deleted, is nobody's obligation; what was seen is.
        eventually(partial(stage.judge.has, "a_log", first))
        if delete:
            stage.settle()
        if names == "sequential":
            rotate_by_rename(log.path)
            rotated = [numbered(log.path, 1)]
        else:
            rotated = [log.path.with_name(f"a.log-2026010{number}")]
            log.path.rename(rotated[0])
        log.write(3)  # the app has not noticed yet
        if delete:
            stage.settle()
            rotated[0].unlink()
        log.reopen()
    log.write(5)

    stage.verdict().assert_exact()


def test_s22_a_storm_of_rotations_inside_the_glob(stage: Stage):
    log = stage.log()
    stage.started(source={"path": f"{stage.logs}/a.log*"}, limits={"batch_seconds": 0})
    for number in range(150):
        log.write(10)
        log.path.rename(stage.logs / f"a.log.{number}")
        log.reopen()
        time.sleep(0.01)

    stage.verdict().assert_exact()


def test_row_70_of_the_bad_inputs_a_file_replaced_as_fast_as_it_goes(stage: Stage):
    log = stage.log("steady.log")
    content = b"".join(b"noise %d\n" % number for number in range(3))
    stage.judge_by(foreign=True)
    sidecar = stage.started()
    with Background(lambda: replace(stage.logs / "b.log", content)) as storm:
        for _ in range(20):
            log.write(5)
            time.sleep(0.05)
        stage.settle()
    assert storm.rounds > 100

    stage.verdict().assert_exact()
    assert {record["message"] for record in stage.judge.strangers} <= {
        "noise 0",
        "noise 1",
        "noise 2",
    }
    stage.settled_in_sidecar(sidecar)
    gone = [name for name in sidecar.descriptors() if name.endswith(" (deleted)")]
    assert len(gone) <= 256


LOGROTATE = {
    "create": "create 0644",
    "nocreate": "nocreate",
    "dateext": "dateext\n dateformat -%Y%m%d-%s\n create",
    "compress": "compress\n create",
    "delaycompress": "compress\n delaycompress\n create",
    "shred of old ones": "create\n rotate 2",
}


@pytest.mark.parametrize("options", LOGROTATE.values(), ids=LOGROTATE)
def test_logrotate_itself_renames_under_a_writer(stage: Stage, options: str):
    rotate = logrotate(stage, options)
    log = stage.log()

    def write() -> None:
        log.write(10)
        # The app learns of a rotation when the name leads elsewhere, and a little late.
        if writer.rounds % 10 == 0 and moved(log):
            log.reopen()

    stage.started()
    writer = Background(write, every_seconds=0.005)
    with writer:
        for _ in range(4):
            begun = log.stream.count
            # Out of the glob it counts as seen once a line of the new file came.
            eventually(partial(has_more, stage, begun + 100))
            rotate()
            eventually(partial(is_turned, log, log.stream.count))
    log.write(10)

    stage.verdict().assert_exact()


def has_more(stage: Stage, count: int) -> bool:
    return stage.judge.arrived("a_log") > count


def is_turned(log: Log, count: int) -> bool:
    """Return whether the writer has opened the new file and gone on."""
    return not moved(log) and log.stream.count > count


def moved(log: Log) -> bool:
    """Return whether the name no longer leads to the open file."""
    try:
        return log.path.stat().st_ino != os.fstat(log.descriptor).st_ino
    except OSError:
        return True


def logrotate(stage: Stage, options: str):
    """Return a function that makes the real logrotate rotate `a.log` once."""
    program = shutil.which("logrotate", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("logrotate is not installed")
    stage.logs.chmod(0o755)
    config = stage.folder / "logrotate.conf"
    config.write_text(f"{stage.logs}/a.log {{\n rotate 50\n missingok\n {options}\n}}\n")
    config.chmod(0o644)

    def rotate() -> None:
        command = [program, "--force", "--state", str(stage.folder / "status"), str(config)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        while b"already exists" in done.stderr:  # two rotations within the second of its name
            time.sleep(0.2)
            done = subprocess.run(command, check=False, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr

    return rotate


def test_logrotate_itself_copies_and_truncates(stage: Stage):
    rotate = logrotate(stage, "copytruncate")
    stage.judge_by(copies=True)
    log = stage.log()
    stage.started(source={"path": f"{stage.logs}/a.log*"})
    for _ in range(4):
        log.write(200)
        rotate()
    log.write(10)

    stage.verdict().assert_exact()


def test_the_name_of_the_first_sight_stays_with_a_content(stage: Stage):
    path = stage.logs / "a.log"
    append(path, b"one\n")
    sidecar = stage.started(source={"path": f"{stage.logs}/a.log*", "shown_as": "/l"})
    stage.arrives("one")
    path.rename(numbered(path, 1))
    append(numbered(path, 1), b"two\n")
    stage.arrives("two")
    assert sidecar.stop() == 0
    append(numbered(path, 1), b"three\n")
    sidecar.start()
    stage.arrives("three")

    assert {record["log.file.path"] for record in stage.backend.records} == {"/l/a.log"}
