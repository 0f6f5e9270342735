"""Tail scenarios 7.2 and faults S31-S33, S36, S37: which files are found, and when."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.fakes.files import Log, append
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, stays


def test_row_19_globs_and_excludes(stage: Stage):
    for name in ("a1.log", "b/x.log", "b/x.tmp.log", "a2.tmp.log", "c1.log", "b/d/x.log", "a3.txt"):
        path = stage.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, name.encode() + b"\n")
    sources = [
        {"path": f"{stage.logs}/a*.log", "exclude": ["*.tmp.log"]},
        {"path": f"{stage.logs}/b/*.log", "exclude": ["*.tmp.log"]},
    ]
    stage.started(sources=sources)
    stage.arrives("a1.log", "b/x.log")

    stays(lambda: sorted(stage.backend.messages) == ["a1.log", "b/x.log"], 0.4)


def test_an_exclude_with_a_slash_speaks_of_the_whole_path_as_the_app_sees_it(stage: Stage):
    for name in ("keep/x.log", "drop/x.log"):
        path = stage.logs / name
        path.parent.mkdir()
        append(path, name.encode() + b"\n")
    source = {
        "path": f"{stage.logs}/*/*.log",
        "shown_as": "/var/log/app",
        "exclude": ["/var/log/app/drop/*.log"],
    }
    stage.started(source=source)
    stage.arrives("keep/x.log")

    stays(lambda: stage.backend.messages == ["keep/x.log"], 0.4)


def test_row_20_a_file_that_several_globs_match_belongs_to_the_first(stage: Stage):
    sources = [
        {"path": f"{stage.logs}/a*.log", "fields": {"of": "first"}},
        {"path": f"{stage.logs}/*.log", "fields": {"of": "second"}},
    ]
    a, b = stage.log("a.log"), stage.log("b.log")
    a.write(5)
    b.write(5)
    stage.started(sources=sources)

    stage.verdict().assert_exact()
    owners = {
        (record["message"].split("-")[1], record["fields"]["of"])
        for record in stage.backend.records
    }
    assert owners == {("a_log", "first"), ("b_log", "second")}


def test_row_21_two_stars_are_none_or_more_folders_to_depth_eight(stage: Stage):
    for depth in range(11):
        folder = stage.logs.joinpath(*(f"d{number}" for number in range(depth)))
        folder.mkdir(parents=True, exist_ok=True)
        append(folder / "x.log", b"depth %d\n" % depth)
    stage.started(source={"path": f"{stage.logs}/**/x.log"})
    stage.arrives(*(f"depth {depth}" for depth in range(8)))

    stays(lambda: "depth 10" not in stage.backend.messages, 0.4)


def test_a_star_does_not_match_a_leading_dot_nor_a_slash(stage: Stage):
    (stage.logs / "sub").mkdir()
    for name in (".hidden.log", "sub/deep.log", "seen.log"):
        append(stage.logs / name, name.encode() + b"\n")
    stage.started()
    stage.arrives("seen.log")

    stays(lambda: stage.backend.messages == ["seen.log"], 0.4)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("{a,b}.log", {"a.log", "b.log"}),
        ("[ab]1.log", {"a1.log", "b1.log"}),
        ("[!ab]1.log", {"c1.log"}),
        ("?.log", {"a.log", "b.log", "c.log"}),
        ("{a,[bc]1}.log", {"a.log", "b1.log", "c1.log"}),
    ],
    ids=["braces", "class", "negated class", "question mark", "class in braces"],
)
def test_braces_classes_and_question_marks(stage: Stage, pattern: str, wanted: set[str]):
    for name in ("a", "b", "c", "a1", "b1", "c1"):
        append(stage.logs / f"{name}.log", f"{name}.log\n".encode())
    sidecar = stage.sidecar(source={"path": f"{stage.logs}/{pattern}"}, flags=("--until-eof",))

    assert sidecar.run() == 0, sidecar.tail()
    assert set(stage.backend.messages) == wanted


def test_row_22_a_folder_made_after_the_start(stage: Stage):
    stage.started(source={"path": f"{stage.logs}/**/*.log"})
    (stage.logs / "new" / "deeper").mkdir(parents=True)
    stage.log("new/deeper/a.log").write(5)

    stage.verdict().assert_exact()


def test_row_23_a_watched_folder_that_is_missing_at_the_start(stage: Stage):
    folder = stage.logs / "later"
    stage.started(source={"path": f"{folder}/*.log"})
    time.sleep(0.3)
    folder.mkdir()
    stage.log("later/a.log").write(5)

    stage.verdict().assert_exact()


def test_row_25_a_link_beside_its_target_gives_nothing_twice(stage: Stage):
    stage.log("a.log").write(5)
    (stage.logs / "cur.log").symlink_to("a.log")
    stage.started()

    stage.verdict().assert_exact()


def test_row_26_a_link_that_moves_to_a_new_target_while_the_old_one_is_written(stage: Stage):
    one, two = stage.log("one.log"), stage.log("two.log")
    link = stage.logs / "cur.log"
    link.symlink_to("one.log")
    one.write(3)
    stage.started()
    stage.settle()
    link.unlink()
    link.symlink_to("two.log")
    two.write(3)
    one.write(3)

    stage.verdict().assert_exact()


def test_row_27_s36_and_row_63_of_the_bad_inputs_a_file_that_may_not_be_read_yet(stage: Stage):
    log = stage.log("secret.log")
    log.write(5)
    other = stage.log("other.log")
    log.path.chmod(0)
    sidecar = stage.sidecar(wrapper=without_root_rights())
    stage.wait_until_up(sidecar.start())
    other.write(3)
    eventually(lambda: stage.judge.arrived("other_log") == 3)
    time.sleep(0.5)  # several scans meet the locked file
    assert stage.judge.arrived("secret_log") == 0
    said = len(sidecar.said("log file", level="warning")) + len(sidecar.said("open"))
    log.path.chmod(0o644)

    stage.verdict().assert_exact()
    assert said <= 4, sidecar.tail()


def without_root_rights() -> tuple[str, ...]:
    """Return a wrapper under which permission bits hold, also where the tests run as root."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: root reads what it may not")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket", "loop", "dangling"])
def test_row_29_and_row_55_of_the_bad_inputs_things_that_are_no_regular_files_are_left_aside(
    stage: Stage, kind: str
):
    thing = stage.logs / "a.log"
    if kind == "folder":
        thing.mkdir()
    elif kind == "fifo":
        os.mkfifo(thing)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            _bind_short(bound, thing)
    elif kind == "loop":
        thing.symlink_to("a.log")
    else:
        thing.symlink_to("nothing")
    stage.log("live.log").write(5)
    sidecar = stage.started()

    stage.verdict().assert_exact()
    time.sleep(0.3)  # several scans meet it, it counts once
    assert sidecar.metric("sidetail_files_skipped_total") == 1
    assert sidecar.stop() == 0


def _bind_short(bound: socket.socket, path: Path) -> None:
    """Bind a socket whose path is too long for an address, by way of the folder's descriptor."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def test_row_30_one_active_file_among_two_thousand_idle_ones(stage: Stage):
    for number in range(2000):
        append(stage.logs / f"idle{number}.log", b"")
    log = stage.log()
    stage.started()
    for _ in range(5):
        log.write()
        stage.settle()

    stage.verdict().assert_exact()


NAMES = [
    b"with space.log",
    b'quote".log',
    b"new\nline.log",
    b"esc\x1b[31m.log",
    b"-rf.log",
    "größe.log".encode(),
    "\u202ebidi.log".encode(),
    b"not\xffutf8.log",
    b"back\\slash.log",
    b"c1\xc2\x85next.log",
    b"del\x7f.log",
    b"%s{}$(x).log",
    b"x" * 251 + b".log",
]
SHOWN = {
    b"new\nline.log": "new\\x0aline.log",
    b"esc\x1b[31m.log": "esc\\x1b[31m.log",
    b"not\xffutf8.log": "not\\xffutf8.log",
    b"c1\xc2\x85next.log": "c1\\x85next.log",
    b"del\x7f.log": "del\\x7f.log",
}


def test_row_31_and_row_61_of_the_bad_inputs_names_of_any_bytes(stage: Stage):
    folder = os.fsencode(stage.logs)
    for number, name in enumerate(NAMES):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"%d\n" % number)
    stage.started(source={"shown_as": "/l"})
    stage.arrives(*map(str, range(len(NAMES))))

    shown = {int(record["message"]): record["log.file.path"] for record in stage.backend.records}
    for number, name in enumerate(NAMES):
        expected = "/l/" + SHOWN.get(name, name.decode("utf-8", "replace"))
        assert shown[number].lower() == expected.lower()


def test_rows_32_and_s32_a_descriptor_limit_of_64_and_200_files(stage: Stage):
    logs = [stage.log(f"{number}.log") for number in range(200)]
    for log in logs:
        log.write(3)
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("prlimit is not installed")
    sidecar = stage.sidecar(wrapper=(prlimit, "--nofile=64", "--"))
    stage.wait_until_up(sidecar.start())
    stage.settle()
    for log in logs:
        log.write(2)

    stage.verdict().assert_exact()
    assert len(sidecar.descriptors()) <= 64
    assert sidecar.stop() == 0, sidecar.tail()


def test_s31_thousands_of_tiny_files_at_once(stage: Stage):
    stage.started(limits={"batch_seconds": 0.05})
    stream = stage.ledger.stream("tiny")
    for number in range(4000):
        # Each file is a stream of its own; here one stream tells all of them apart.
        (stage.logs / f"{number}.log").write_bytes(stream.line())
    sidecar = stage._sidecars[0]
    stage.settle()
    verdict = stage.judge.verdict()
    verdict.disorder.clear()  # between files there is no order

    verdict.assert_exact()
    held = [name for name in sidecar.descriptors() if name.startswith(str(stage.logs) + "/")]
    assert len(held) <= 256


def test_s33_no_inotify_instance_is_left(stage: Stage):
    probe = (
        subprocess.run(
            ["unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_inotify_instances"],
            check=False,
            capture_output=True,
        )
        if shutil.which("unshare")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip("no user namespaces here: the limit cannot be set to 0")
    script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    sidecar = stage.sidecar(wrapper=("unshare", "-Ur", "sh", "-c", script, "sh"))
    log = stage.log()
    log.write(5)
    stage.wait_until_up(sidecar.start())
    for _ in range(5):
        log.write(5)
        stage.settle()

    stage.verdict().assert_exact()
    assert len(sidecar.said("notifications", level="warning")) == 1, sidecar.tail()
    assert not any("anon_inode:inotify" in name for name in sidecar.descriptors())


def test_s33_the_queue_of_notifications_overflows(stage: Stage):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("the queue is too long to be filled here")
    log, idle = stage.log(), stage.log("idle.log")
    sidecar = stage.started()
    log.write(2)
    stage.settle()
    sidecar.send_signal(signal.SIGSTOP)
    # Two files in turn, so that no event is merged with the one before it.
    for _ in range(limit // 2 + 500):
        log.write_raw(b"")
        log.write(1, size=64) if log.stream.count < 5000 else os.utime(log.path)
        os.utime(idle.path)
    late = stage.log("late.log")
    late.write(5)
    sidecar.send_signal(signal.SIGCONT)

    stage.verdict().assert_exact()


def test_s37_the_folder_is_replaced_by_a_file_and_comes_back(stage: Stage):
    folder = stage.logs / "app"
    folder.mkdir()
    sidecar = stage.started(source={"path": f"{folder}/*.log"})
    first = Log(folder / "a.log", stage.ledger.stream("first"))
    first.write(5)
    stage.settle()
    first.close()
    shutil.rmtree(folder)
    folder.write_bytes(b"not a folder\n")
    time.sleep(0.4)
    folder.unlink()
    folder.mkdir()
    with Log(folder / "a.log", stage.ledger.stream("second")) as second:
        second.write(5)
        stage.verdict().assert_exact()
    assert sidecar.stop() == 0, sidecar.tail()


def test_a_folder_that_is_renamed_away_and_made_again_loses_nothing(stage: Stage):
    folder = stage.logs / "app"
    folder.mkdir()
    stage.started(source={"path": f"{stage.logs}/app/*.log"})
    old = stage.log("app/a.log", "old")
    old.write(3)
    stage.settle()
    folder.rename(stage.logs / "gone")
    old.write(3)
    folder.mkdir()
    stage.log("app/a.log", "new").write(3)

    stage.verdict().assert_exact()
