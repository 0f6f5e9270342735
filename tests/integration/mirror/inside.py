"""Scenes that need a file system or a PID namespace of their own.

`python -m tests.integration.mirror.inside SCENE PROGRAM` runs as root of new user, mount and PID
namespaces (test_volume.py and test_first_process.py start it there); a scene fails by an exception.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.integration.mirror.numbered import App, account
from tests.integration.mirror.support import LEFT_OUT, LONG, Line, Mirror, eventually, parse


@contextlib.contextmanager
def tmpfs(options: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder = Path(tempfile.mkdtemp())
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Take all the room there is, to the last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return filler


def a_full_volume_holds_nothing_up_and_the_file_says_what_it_lacks(program: Path) -> None:
    with tmpfs("size=4m") as volume, App(Mirror(program, volume / "app.log")) as app:
        app.prints(1000)
        eventually(lambda: b"line 0000999" in app.mirror.content(), "the first lines")
        filler = fill(volume)
        app.prints(40000)
        app.prints(1)
        filler.unlink()
        eventually(lambda: b"left out here" in app.mirror.content(), "the account")
        app.prints(1000)
        app.ends()
        missing, reasons = account(app, app.mirror.lines())

    assert missing > 20000, "where were they kept?"
    assert set(reasons) == {b"no space left on device"}


def a_short_shortage_loses_nothing(program: Path) -> None:
    with tmpfs("size=1m") as volume, App(Mirror(program, volume / "app.log")) as app:
        filler = fill(volume)
        app.prints(3000)
        time.sleep(0.3)
        filler.unlink()
        app.ends()

        assert account(app, app.mirror.lines()) == (0, [])


def a_volume_that_stays_full_does_not_keep_the_container_from_ending(program: Path) -> None:
    with tmpfs("size=1m") as volume, App(Mirror(program, volume / "app.log")) as app:
        fill(volume)
        app.prints(50000)
        app.ends()


def a_volume_that_is_full_many_times_is_accounted_for_each_time(program: Path) -> None:
    with tmpfs("size=16m") as volume, App(Mirror(program, volume / "app.log")) as app:
        for _ in range(4):
            filler = fill(volume)
            app.prints(12000)
            filler.unlink()
            eventually(lambda: app.mirror.content().endswith(b"device\n"), "the account")
            app.prints(100)
        app.ends()
        missing, reasons = account(app, app.mirror.lines())

    assert missing > 10000
    assert len(reasons) >= 4


def what_is_missing_at_the_end_is_said_if_there_is_room_again(program: Path) -> None:
    with tmpfs("size=4m") as volume, App(Mirror(program, volume / "app.log")) as app:
        filler = fill(volume)
        app.prints(20000)
        filler.unlink()
        app.ends()
        missing, reasons = account(app, app.mirror.lines())

    assert missing > 5000
    assert set(reasons) == {b"no space left on device"}


def a_file_that_is_removed_to_make_room_is_begun_with_a_whole_line(program: Path) -> None:
    """The line that the shortage tore has its head in the file that is gone."""
    with (
        tmpfs("size=300k") as volume,
        App(Mirror(program, volume / "app.log"), "--max-bytes", "100000000") as app,
    ):
        app.prints(4000)
        kept = eventually(lambda: _settled_and_torn(app.mirror), "a torn line").count(b"\n")
        app.mirror.file.unlink()
        app.prints(1)
        eventually(lambda: app.mirror.file.exists() and app.mirror.lines(), "the new file")
        app.ends()
        lines = app.mirror.lines()

    numbers = [int(line.text.split()[1]) for line in lines if line.text.startswith(b"line")]
    said = [LEFT_OUT.fullmatch(line.text) for line in lines]
    assert numbers[0] == kept + 1, "the torn one is left out, the next is whole"
    assert [int(found[1]) for found in said if found] == [1]


def _settled_and_torn(mirror: Mirror) -> bytes:
    """Return the content if it ends within a line and no write is under way, else nothing."""
    content = mirror.content()
    time.sleep(0.2)
    settled = content == mirror.content() and not content.endswith(b"\n")
    return content if settled else b""


def a_read_only_volume_is_written_to_when_it_can_be(program: Path) -> None:
    with tmpfs("size=4m") as volume:
        subprocess.run(["mount", "-o", "remount,bind,ro", volume], check=True)
        _write_when_it_can(program, volume)


def _write_when_it_can(program: Path, volume: Path) -> None:
    with App(Mirror(program, volume / "app.log")) as app:
        app.prints(20000)
        assert not app.mirror.file.exists()
        subprocess.run(["mount", "-o", "remount,bind,rw", volume], check=True)
        eventually(lambda: b"left out here" in app.mirror.content(), "the account")
        app.prints(10)
        app.ends()
        missing, reasons = account(app, app.mirror.lines())

    assert missing > 5000
    assert set(reasons) == {b"read-only file system"}


def a_volume_that_is_unmounted_and_mounted_again_is_found_again(program: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    subprocess.run(mount, check=True)
    mirror = Mirror(program, folder / "deep" / "app.log")
    mirror.file.parent.mkdir()
    with App(mirror) as app:
        app.prints(10)
        eventually(lambda: mirror.content().count(b"\n") == 10, "the first lines")
        subprocess.run(["umount", "-l", folder], check=True)
        time.sleep(1.1)  # it looks for its file once a second
        app.prints(10)
        subprocess.run(mount, check=True)
        mirror.file.parent.mkdir()
        app.prints(10)
        app.ends()

    numbers = [int(line.text.split()[1]) for line in mirror.lines()]
    assert numbers == list(range(10, 30))
    subprocess.run(["umount", "-l", folder], check=True)


def no_inode_for_the_next_file_is_a_shortage_like_another(program: Path) -> None:
    with (
        tmpfs("size=4m,nr_inodes=3") as volume,
        App(
            Mirror(program, volume / "app.log"), "--max-bytes", "300000", "--max-files", "9"
        ) as app,
    ):
        app.prints(20000)
        assert [path.name for path in app.mirror.rotated()] == ["app.log.2", "app.log.1"]
        for path in app.mirror.rotated():
            path.unlink()
        eventually(lambda: b"left out here" in app.mirror.content(), "the account")
        app.ends()
        lines = [line for path in app.mirror.rotated() for line in parse(path.read_bytes())]

    assert {found[3] for line in lines if (found := LEFT_OUT.fullmatch(line.text))} == {
        b"no space left on device"
    }


def seeding_a_volume_that_is_too_small_leaves_out_what_does_not_fit(program: Path) -> None:
    with tmpfs("size=4m") as image, tmpfs("size=200k") as volume:
        (image / "large").write_bytes(b"x" * 300_000)
        (image / "small").write_bytes(b"y" * 3_000)
        done = subprocess.run(
            [program, "--seed", image, volume], capture_output=True, timeout=LONG, check=False
        )
        reason = f"left out '{image}/large': no space left on device"

        assert done.returncode == 0
        assert done.stderr.decode() == f"sidetail-mirror: {reason}\n"
        assert [path.name for path in volume.iterdir()] == ["small"], "and nothing half-done"


def _as_first_process(program: Path, file: Path, *command: str) -> list[str]:
    """Return an argv that makes the mirror process 1 of a PID namespace, as runtimes do."""
    return [
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "setsid",
        *Mirror(program, file).argv(*command),
    ]  # fmt: skip


def _run_first(program: Path, script: str) -> tuple[int, bytes, list[Line]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "app.log"
        done = subprocess.run(
            _as_first_process(program, file, "/bin/sh", "-c", script),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=LONG,
            check=False,
        )
        return done.returncode, done.stdout, parse(file.read_bytes())


def the_mirror_is_process_1_and_gives_the_exit_code(program: Path) -> None:
    code, out, lines = _run_first(program, "tr '\\0' ' ' < /proc/1/cmdline; echo; exit 3")

    assert code == 3
    assert out.startswith(bytes(program) + b" --file")
    assert lines[-1].text == out.rstrip(b"\n")


def hooks_that_write_to_the_descriptors_of_process_1_are_mirrored(program: Path) -> None:
    script = "echo from a hook > /proc/1/fd/1; (sleep 0.1; echo from cron > /proc/1/fd/1); exit 0"
    code, out, lines = _run_first(program, script)

    assert (code, out) == (0, b"from a hook\nfrom cron\n")
    assert [line.text for line in lines] == [b"from a hook", b"from cron"]


def a_signal_sent_to_process_1_ends_an_app_that_does_not_catch_it(program: Path) -> None:
    code, _, lines = _run_first(program, "echo before; kill -TERM 1; sleep 60")

    assert code == 128 + signal.SIGTERM
    assert [line.text for line in lines] == [b"before"]


def an_app_that_kills_everybody_leaves_process_1_to_send_its_last_line(program: Path) -> None:
    code, out, lines = _run_first(program, "sleep 60 & echo last; kill -9 -1; kill -9 $$")

    assert (code, out) == (128 + 9, b"last\n")
    assert [line.text for line in lines] == [b"last"]


def orphans_of_the_app_are_reaped_by_process_1(program: Path) -> None:
    script = (
        "for i in 1 2 3 4 5; do (sh -c 'sleep 0.05 & exit' &); done; sleep 0.5; "
        "grep -l 'State:.Z' /proc/[0-9]*/status | wc -l; cut -d ' ' -f 4 /proc/self/stat"
    )
    code, out, _ = _run_first(program, script)

    assert code == 0
    assert out.split()[0] == b"0"


def what_the_app_left_behind_ends_with_the_container(program: Path) -> None:
    code, out, _ = _run_first(program, "(sleep 0.2; echo late) & sleep 60 & exit 0")

    assert (code, out) == (0, b"late\n")


def stopping_process_1_from_inside_does_nothing(program: Path) -> None:
    script = "kill -STOP 1; kill -TSTP 1; sleep 0.1; kill -CONT 1; echo alive"
    code, out, _ = _run_first(program, script)

    assert (code, out) == (0, b"alive\n")


ON_A_VOLUME = (
    a_full_volume_holds_nothing_up_and_the_file_says_what_it_lacks,
    a_short_shortage_loses_nothing,
    a_volume_that_stays_full_does_not_keep_the_container_from_ending,
    a_volume_that_is_full_many_times_is_accounted_for_each_time,
    what_is_missing_at_the_end_is_said_if_there_is_room_again,
    a_file_that_is_removed_to_make_room_is_begun_with_a_whole_line,
    a_read_only_volume_is_written_to_when_it_can_be,
    a_volume_that_is_unmounted_and_mounted_again_is_found_again,
    no_inode_for_the_next_file_is_a_shortage_like_another,
    seeding_a_volume_that_is_too_small_leaves_out_what_does_not_fit,
)
AS_FIRST_PROCESS = (
    the_mirror_is_process_1_and_gives_the_exit_code,
    hooks_that_write_to_the_descriptors_of_process_1_are_mirrored,
    a_signal_sent_to_process_1_ends_an_app_that_does_not_catch_it,
    an_app_that_kills_everybody_leaves_process_1_to_send_its_last_line,
    orphans_of_the_app_are_reaped_by_process_1,
    what_the_app_left_behind_ends_with_the_container,
    stopping_process_1_from_inside_does_nothing,
)

if __name__ == "__main__":
    scene = {one.__name__: one for one in ON_A_VOLUME + AS_FIRST_PROCESS}[sys.argv[1]]
    scene(Path(sys.argv[2]))
