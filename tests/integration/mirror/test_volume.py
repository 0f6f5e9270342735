"""A volume that is full, gone, slow or hung never holds the app up, and is accounted for."""

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.mirror import inside
from tests.integration.mirror.numbered import App, account
from tests.integration.mirror.slow_volume import slow_volume
from tests.integration.mirror.support import (
    LEFT_OUT,
    LONG,
    ROOT,
    Mirror,
    eventually,
    in_namespaces,
    joined,
    parse,
)


def play(scene: Callable[[Path], None], program: Path) -> None:
    """Run a scene of `inside` where it may mount."""
    argv = in_namespaces('exec "$@"', reason="this test mounts a file system")
    done = subprocess.run(
        [*argv, sys.executable, "-m", inside.__name__, scene.__name__, str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * LONG,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scene", inside.ON_A_VOLUME, ids=lambda scene: scene.__name__)
def test_volume(scene: Callable[[Path], None], program: Path) -> None:
    play(scene, program)


def test_a_volume_that_hangs_does_not_hold_the_app_up(mirror: Mirror) -> None:
    with slow_volume() as volume, App(mirror, preexec_fn=volume.preexec) as app:
        volume.supervise(app.process.pid)
        volume.hang()
        app.prints(200_000)
        assert volume.held.is_set(), "nothing hung"
        app.prints(1)
        volume.release()
        eventually(lambda: b"left out here" in mirror.content(), "the account")
        app.prints(100)
        app.ends()
        missing, reasons = account(app, mirror.lines())

    assert missing > 100_000
    assert reasons == [b"the volume was too slow"]


def test_a_volume_that_hangs_does_not_keep_the_container_from_ending(mirror: Mirror) -> None:
    with slow_volume() as volume, App(mirror, preexec_fn=volume.preexec) as app:
        volume.supervise(app.process.pid)
        volume.hang()
        app.prints(50_000)
        app.ends()


def test_a_volume_that_hangs_for_a_moment_loses_nothing(mirror: Mirror) -> None:
    with (
        slow_volume() as volume,
        App(mirror, "--max-bytes", "100000000", preexec_fn=volume.preexec) as app,
    ):
        volume.supervise(app.process.pid)
        for _ in range(5):
            volume.hang()
            app.prints(3_000)
            volume.release()
            eventually(lambda: mirror.content().count(b"\n") == app.printed, "the lines")
        app.ends()

        assert account(app, mirror.lines()) == (0, [])


def test_a_slow_volume_is_accounted_for(mirror: Mirror) -> None:
    with (
        slow_volume() as volume,
        App(mirror, "--max-bytes", "100000000", preexec_fn=volume.preexec) as app,
    ):
        volume.supervise(app.process.pid)
        volume.delay_seconds = 0.1  # about a megabyte a second
        before = time.monotonic()
        app.prints(150_000)
        took = time.monotonic() - before
        volume.delay_seconds = 0
        app.ends()
        missing, reasons = account(app, mirror.lines())

    assert missing > 50_000
    assert set(reasons) == {b"the volume was too slow"}
    written_through = (150_000 - missing) * 115 / 1e6
    assert written_through < took * 10 + 2, "it was not slow"


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "device", "missing folder"])
def test_what_is_no_file_is_not_written_to(mirror: Mirror, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    if kind == "fifo":
        os.mkfifo(mirror.file)
    elif kind == "link":
        mirror.file.symlink_to(target)
    elif kind == "folder":
        mirror.file.mkdir()
    elif kind == "device":
        mirror.file = Path("/dev/null")
    else:
        mirror.file = tmp_path / "nowhere" / "app.log"
    done = subprocess.run(
        mirror.argv("/bin/sh", "-c", "seq 100000; exit 4"),
        capture_output=True,
        timeout=LONG,
        check=False,
    )

    assert done.returncode == 4
    assert done.stdout == b"".join(b"%d\n" % i for i in range(1, 100001))
    assert done.stderr == b""
    assert target.read_bytes() == b""


def test_a_folder_that_is_made_later_is_found(mirror: Mirror) -> None:
    mirror.file = mirror.file.parent / "later" / "app.log"
    with App(mirror) as app:
        app.prints(20_000)
        mirror.file.parent.mkdir()
        eventually(lambda: b"left out here" in mirror.content(), "the account")
        app.ends()
        missing, reasons = account(app, mirror.lines())

    assert missing > 5_000
    assert reasons == [os.strerror(errno.ENOENT).lower().encode()]


def test_what_is_torn_by_a_shortage_is_ended_before_the_next_line(mirror: Mirror) -> None:
    """Long lines, in parts: the parts that are in the file must not run into other lines."""
    mirror.file = mirror.file.parent / "later" / "app.log"
    script = (
        "import os, sys\n"
        "def say(b):\n"
        "    while b: b = b[os.write(1, b):]\n"
        "for i in range(30): say(b'%02d' % i + b'x' * 40000 + b'\\n')\n"
        "os.write(2, b'printed\\n'); sys.stdin.read(1)\n"
        "for i in range(30, 33): say(b'%02d' % i + b'x' * 40000 + b'\\n')\n"
    )
    argv = (sys.executable, "-I", "-S", "-c", script)
    with mirror.started(*argv, stdin=-1, stdout=-3) as process:
        assert process.stderr is not None
        assert process.stdin is not None
        assert process.stderr.readline() == b"printed\n"
        mirror.file.parent.mkdir()
        eventually(lambda: b"left out here" in mirror.content(), "the account")
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(LONG) == 0

    lines = joined([line for line in mirror.lines() if line.stream == "stdout"], "stdout")
    whole = [line for line in lines if len(line) == 40002]
    cut = [line for line in lines if len(line) != 40002]
    assert [int(line[:2]) for line in whole][-3:] == [30, 31, 32]
    assert len(cut) <= 1
    said = LEFT_OUT.fullmatch(
        next(line.text for line in mirror.lines() if b"left out" in line.text)
    )
    assert said is not None
    # stderr's own line is in the ring or in the account, as the shortage had it
    in_file = b"printed" in [line.text for line in mirror.lines()]
    kept = sum(len(line) + 1 for line in whole) + sum(len(line) for line in cut)
    printed = 33 * 40003 + (0 if in_file else len(b"printed\n"))
    assert int(said[2]) == printed - kept
    assert int(said[1]) == 33 - len(whole) + (not in_file)


def test_a_limit_of_file_size_is_a_smaller_file(mirror: Mirror) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    done = mirror.run("seq", "5000", preexec_fn=small)

    assert done.code == 0
    assert done.stdout.count(b"\n") == 5000
    assert [path.stat().st_size > 19_900 for path in mirror.rotated()] == [True, True, False]
    lines = [line for path in mirror.rotated() for line in parse(path.read_bytes())]
    assert [line.text for line in lines] == [b"%d" % i for i in range(5001 - len(lines), 5001)]


def test_a_line_beyond_the_limit_of_file_size_is_accounted_for(mirror: Mirror) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))

    data = b"before\n" + b"x" * 10_000 + b"\nafter\n"
    done = subprocess.run(
        mirror.argv("cat"),
        input=data,
        capture_output=True,
        preexec_fn=small,
        timeout=LONG,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, data)
    texts = b"".join(path.read_bytes() + b"\n" for path in mirror.rotated()).split(b"\n")
    assert [text[40:] for text in texts if text.endswith(b" after")] == [b"after"]
    assert [found[3] for text in texts if (found := LEFT_OUT.search(text))] == [b"file too large"]
