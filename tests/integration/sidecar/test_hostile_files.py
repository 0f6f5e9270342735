"""Threats T1-T6 and bad inputs C 54, 55, 61, 62: what a hostile app puts into its log volume."""

import os
import time
from pathlib import Path

import pytest

from tests.fakes.files import Background, Log, append
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually

CANARY = b"canary-8fd1c2"
LONG = (pytest.mark.soak, pytest.mark.timeout(3600))


@pytest.fixture
def secrets(stage: Stage) -> Path:
    """A folder outside of the volume, with a canary in a file that looks like a log."""
    folder = stage.folder / "secrets"
    folder.mkdir()
    for name in ("token", "a.log"):
        (folder / name).write_bytes(CANARY + b" of a file\n")
    return folder


def nothing_leaked(stage: Stage) -> None:
    for request in list(stage.backend.requests):
        assert CANARY not in request.text
        assert CANARY not in repr(request.headers).encode()


def plant_links(logs: Path, secrets: Path) -> int:
    """Plant every shape of link; return how many of them the glob meets by a name of their own."""
    (logs / "sub").mkdir()
    shapes = {
        "absolute.log": f"{secrets}/a.log",
        "relative.log": "../secrets/a.log",
        "environ.log": "/proc/self/environ",
        "descriptor.log": "/proc/self/fd/3",
        "self.log": "self.log",
        "dangling.log": "nowhere",
        "chain.log": "absolute.log",
        "by-root.log": f"/proc/self/root{secrets}/a.log",
        "by-cwd.log": "/proc/self/cwd/README.md",
        "sub/below.log": "../../secrets/a.log",
        "a-folder.log": f"{secrets}",
        "sibling.log": "live.log",
    }
    for name, target in shapes.items():
        (logs / name).symlink_to(target)
    # Folders that are links, and ways back up.
    (logs / "folder").symlink_to(secrets)
    (logs / "root").symlink_to("/")
    (logs / "up").symlink_to("..")
    (logs / "sub" / "round").symlink_to("..")
    return len(shapes)


@pytest.mark.parametrize("when", ["before the start", "after the start"])
def test_t1_and_row_54_of_the_bad_inputs_no_link_is_followed_at_any_level(
    stage: Stage, secrets: Path, when: str
):
    live = stage.log("live.log")
    live.write(5)
    planted = plant_links(stage.logs, secrets) if when == "before the start" else 0
    sources = [
        {"path": f"{stage.logs}/**/*.log"},
        {"path": f"{stage.logs}/*/*.log"},
        {"path": f"{stage.logs}/folder/*.log"},
        {"path": f"{stage.logs}/*/token"},
    ]
    sidecar = stage.started(sources=sources, environ={"SECRET": CANARY.decode()})
    planted = planted or plant_links(stage.logs, secrets)
    live.write(5)
    counted = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_files_skipped_total") >= planted
    )
    time.sleep(0.5)  # more scans
    live.write(5)

    stage.verdict().assert_exact()
    nothing_leaked(stage)
    assert counted.total("sidetail_files_skipped_total") <= planted + 4
    assert sidecar.metric("sidetail_files_skipped_total") == counted.total(
        "sidetail_files_skipped_total"
    ), "counted once"
    assert sidecar.stop() == 0, sidecar.tail()
    assert CANARY not in sidecar.stderr


def test_t1_a_source_whose_fixed_folder_becomes_a_link(stage: Stage, secrets: Path):
    folder = stage.logs / "app"
    folder.mkdir()
    log = stage.log("app/a.log")
    log.write(3)
    stage.started(source={"path": f"{folder}/*.log"})
    stage.settle()
    folder.rename(stage.logs / "moved")
    folder.symlink_to(secrets)
    time.sleep(0.5)
    folder.unlink()
    folder.mkdir()
    stage.log("app/a.log", "again").write(3)

    stage.verdict().assert_exact()
    nothing_leaked(stage)


@pytest.mark.parametrize("seconds", [3, pytest.param(600, marks=LONG)])
def test_t2_a_file_and_a_link_change_places_as_fast_as_they_can(
    stage: Stage, secrets: Path, seconds: int
):
    live = stage.log("live.log")
    spare, target = stage.logs / "spare", stage.logs / "app.log"
    rounds = [0]

    def swap() -> None:
        for _ in range(100):
            rounds[0] += 1
            spare.write_bytes(b"regular %d\n" % rounds[0])
            spare.rename(target)
            spare.symlink_to(secrets / "a.log")
            spare.rename(target)

    folder, real = stage.logs / "d", stage.logs / "real"
    real.mkdir()
    append(real / "a.log", b"real\n")

    def swap_folders() -> None:
        for _ in range(100):
            folder.symlink_to(secrets)
            folder.unlink()
            real.rename(folder)
            folder.rename(real)

    sidecar = stage.started(
        source={"path": f"{stage.logs}/**/*.log"},
        environ={"SECRET": CANARY.decode()},
        limits={"batch_seconds": 0, "rotated_seconds": 0.2},
        scan_seconds=0.01,
    )
    stage.judge_by(foreign=True)
    with Background(swap), Background(swap_folders):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            live.write(2)
            time.sleep(0.05)
    stage.settle()
    live.write(2)

    stage.verdict().assert_exact()
    assert rounds[0] > 200
    nothing_leaked(stage)
    assert {record["message"].split(" ")[0] for record in stage.judge.strangers} <= {
        "regular",
        "real",
    }
    assert sidecar.stop() == 0, sidecar.tail()


def test_t3_a_fifo_with_a_writer_blocks_nobody(stage: Stage):
    fifo = stage.logs / "app.log"
    os.mkfifo(fifo)
    live = stage.log("live.log")
    sidecar = stage.started()
    # A reader of the FIFO would take this, and wait for ever for more.
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(descriptor, CANARY + b"\n")
        for _ in range(5):
            live.write(2)
            stage.settle()
        assert os.read(descriptor, 100) == CANARY + b"\n", "nobody took it"
    finally:
        os.close(descriptor)

    stage.verdict().assert_exact()
    assert sidecar.stop() == 0


def test_a_regular_file_in_the_place_of_a_fifo_is_found(stage: Stage):
    fifo = stage.logs / "app.log"
    os.mkfifo(fifo)
    sidecar = stage.started()
    sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_files_skipped_total") == 1)
    fifo.unlink()
    stage.log("app.log").write(5)

    stage.verdict().assert_exact()


@pytest.mark.parametrize(
    ("names", "limit"),
    [(6000, 1500), pytest.param(200_000, 100_000, marks=LONG)],
    ids=["6,000", "200,000"],
)
def test_t6_and_row_62_of_the_bad_inputs_more_names_than_the_limit(
    stage: Stage, names: int, limit: int
):
    for number in range(names):
        path = stage.logs / f"{number:06}.log"
        path.write_bytes(b"old %d\n" % number)
        os.utime(path, (number, number))
    stage.judge_by(foreign=True)
    patience = 60 + names / 100
    sidecar = stage.sidecar(limits={"files": limit, "batch_seconds": 0.1})
    sidecar.start()
    newest = [stage.log(f"new{number}.log") for number in range(5)]
    for log in newest:
        log.write(5)
    stage.settle(seconds=patience)
    scrape = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_files_followed") >= limit * 0.9, seconds=patience
    )

    assert scrape.total("sidetail_files_followed") <= limit
    assert scrape.total("sidetail_files_over_limit") >= names - limit
    counted = scrape.total("sidetail_files_skipped_total", reason="files")
    assert counted >= min(names - limit, 10_000)
    eventually(lambda: len(stage.judge.strangers) >= limit - 10, seconds=patience)
    old = {int(record["message"].split()[1]) for record in stage.judge.strangers}
    # The least recently written are given up first.
    assert sum(number >= names - limit for number in old) >= 0.95 * (limit - 10)
    assert len(sidecar.said("limit")) <= 2
    assert sidecar.peak_mib < 60 + 1.1 * limit / 1024  # docs/sidecar.md: a KiB for each file
    for log in newest:
        log.write(5)
    stage.settle(seconds=patience)
    stage.verdict().assert_exact()


def test_t6_deep_folders_and_folders_without_number(stage: Stage):
    deep = stage.logs
    for number in range(60):
        deep /= f"d{number}"
    deep.mkdir(parents=True)
    append(deep / "x.log", b"too deep\n")
    for number in range(300):
        (stage.logs / f"e{number}").mkdir()
    stage.log("e299/a.log").write(3)
    sidecar = stage.started(source={"path": f"{stage.logs}/**/*.log"})
    stage.settle()
    stage.log("e7/b.log").write(3)

    stage.verdict().assert_exact()
    assert sidecar.peak_mib < 96


def test_t6_folders_that_come_and_go_all_the_time(stage: Stage):
    live = stage.log("live.log")
    sidecar = stage.started(source={"path": f"{stage.logs}/**/*.log"})
    number = [0]

    def churn() -> None:
        number[0] += 1
        folder = stage.logs / f"t{number[0]}"
        (folder / "deeper").mkdir(parents=True)
        append(folder / "deeper" / "a.txt", b"x\n")
        (folder / "deeper" / "a.txt").unlink()
        (folder / "deeper").rmdir()
        folder.rmdir()

    with Background(churn) as storm:
        for _ in range(20):
            live.write(3)
            time.sleep(0.05)
    assert storm.rounds > 50

    stage.verdict().assert_exact()
    assert sidecar.stop() == 0, sidecar.tail()


def test_the_sidecar_never_follows_its_own_output(stage: Stage):
    # stderr is a pipe in these tests; a file in the glob is the hard case.
    own = stage.logs / "own.log"
    config = stage.config(log_level="debug", metrics=None)
    sidecar = stage.sidecar(config, wrapper=("sh", "-c", 'exec "$@" 2>>"$0"', str(own)))
    log = stage.log()
    log.write(5)
    stage.judge_by(foreign=True)
    sidecar.start()
    stage.settle()
    time.sleep(0.5)
    size = own.stat().st_size
    for _ in range(5):
        time.sleep(0.3)

    assert own.stat().st_size - size < 20_000, "its log feeds itself"


def test_names_that_forge_nothing_in_our_own_log(stage: Stage):
    folder = os.fsencode(stage.logs)
    evil = b'x\n{"level":"error","message":"forged"}\n\x1b[2J\xff.log'
    os.mkfifo(folder + b"/" + evil)
    with open(folder + b"/b" + evil, "wb") as file:
        file.write(b"line\n")
    sidecar = stage.started(log_level="debug")
    stage.arrives("line")
    time.sleep(0.3)
    assert sidecar.stop() == 0

    assert all(line["message"] != "forged" for line in sidecar.log)
    path = stage.backend.records[0]["log.file.path"]
    assert path.isprintable()
    assert "\\x0a" in path


def test_a_log_file_that_is_written_through_two_hundred_descriptors(stage: Stage):
    logs = [Log(stage.logs / "a.log", stage.ledger.stream(f"w{number}")) for number in range(50)]
    stage.started()
    for _ in range(10):
        for log in logs:
            log.write(2)
    stage.settle()
    for log in logs:
        log.close()

    stage.verdict().assert_exact()
