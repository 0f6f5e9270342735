"""One file for one container, rotated by rename, and continued when the container starts again."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.integration.mirror.support import (
    LONG,
    Line,
    Mirror,
    eventually,
    joined,
    parse,
    read_line,
)


def _all_lines(mirror: Mirror) -> list[Line]:
    return [line for path in mirror.rotated() for line in parse(path.read_bytes())]


def test_files_are_rotated_by_rename_and_the_newest_are_kept(mirror: Mirror) -> None:
    done = mirror.run("seq", "10000", flags=("--max-bytes", "20000", "--max-files", "4"))

    files = mirror.rotated()
    assert [path.name for path in files] == ["app.log.3", "app.log.2", "app.log.1", "app.log"]
    assert all(path.stat().st_size <= 20000 for path in files)
    assert all(path.stat().st_size > 19900 for path in files[:-1])
    texts = [line.text for line in _all_lines(mirror)]
    assert texts == [b"%d" % i for i in range(10001 - len(texts), 10001)]
    assert done.stdout.count(b"\n") == 10000


def test_the_defaults_are_three_files_of_ten_mebibytes(mirror: Mirror) -> None:
    line = "x" * 200
    with mirror.started(
        "/bin/sh", "-c", f"yes {line} | head -n 180000", stdout=subprocess.DEVNULL
    ) as process:
        assert process.wait(LONG) == 0

    sizes = [path.stat().st_size for path in mirror.rotated()]
    assert len(sizes) == 3
    assert all(10 * 2**20 - 250 < size <= 10 * 2**20 for size in sizes[:-1])
    assert 0 < sizes[-1] <= 10 * 2**20


def test_one_file_is_replaced_when_it_is_full(mirror: Mirror) -> None:
    mirror.run("seq", "10000", flags=("--max-bytes", "20000", "--max-files", "1"))

    assert [path.name for path in mirror.rotated()] == ["app.log"]
    assert mirror.file.stat().st_size <= 20000
    assert mirror.lines()[-1].text == b"10000"


def test_a_reader_that_holds_a_file_open_reads_it_to_its_end(mirror: Mirror) -> None:
    flags = ("--max-bytes", "4000", "--max-files", "2")
    with mirror.started("/bin/sh", "-c", "seq 50; read x; seq 1000", flags=flags, stdin=-1) as one:
        eventually(lambda: mirror.content().count(b"\n") == 50, "the first lines")
        with mirror.file.open("rb") as held:
            assert one.stdin is not None
            assert one.stdout is not None
            one.stdin.write(b"\n")
            one.stdin.close()
            one.stdout.read()
            one.wait(LONG)
            texts = [line.text for line in parse(held.read())]

    assert texts[:50] == [b"%d" % i for i in range(1, 51)]
    assert texts[50:] == [b"%d" % i for i in range(1, len(texts) - 49)]


def test_files_beyond_the_limit_from_an_earlier_run_are_removed(mirror: Mirror) -> None:
    for number in range(1, 8):
        mirror.file.with_name(f"app.log.{number}").write_bytes(b"")
    mirror.run("echo", "x", flags=("--max-files", "3"))

    assert [path.name for path in mirror.rotated()] == ["app.log.2", "app.log.1", "app.log"]


def test_other_files_of_the_folder_are_left_alone(mirror: Mirror) -> None:
    others = ["app.log.old", "app.log.01", "app.log2", "other.log.3"]
    for name in others:
        mirror.file.with_name(name).write_bytes(b"kept")
    mirror.run("seq", "3000", flags=("--max-bytes", "9000", "--max-files", "2"))

    assert all(mirror.file.with_name(name).read_bytes() == b"kept" for name in others)


def test_a_line_longer_than_the_limit_gets_a_file_of_its_own(mirror: Mirror) -> None:
    data = b"short\n" + b"y" * 3000 + b"\nshort again\n"
    mirror.run("cat", stdin=data, flags=("--max-bytes", "1000", "--max-files", "5"))

    assert [len(parse(path.read_bytes())) for path in mirror.rotated()] == [1, 1, 1]
    assert joined(_all_lines(mirror), "stdout") == [b"short", b"y" * 3000, b"short again"]


def test_the_parts_of_a_line_stay_in_one_file(mirror: Mirror) -> None:
    lines = [b"%04d" % i + b"z" * (37000 + 1000 * (i % 9)) for i in range(60)]
    flags = ("--max-bytes", "500000", "--max-files", "50")
    with mirror.started("cat", flags=flags, stdin=subprocess.PIPE, stdout=-3) as process:
        assert process.stdin is not None
        for line in lines:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        process.stdin.close()
        assert process.wait(LONG) == 0

    files = mirror.rotated()
    assert len(files) > 4
    assert all(path.stat().st_size <= 500000 for path in files)
    assert [parse(path.read_bytes())[-1].tag for path in files] == ["F"] * len(files)
    assert joined(_all_lines(mirror), "stdout") == lines


def test_a_container_that_starts_again_appends(mirror: Mirror) -> None:
    for run in range(5):
        mirror.sh(f"echo run {run}; printf unfinished {run}")

    texts = [line.text for line in mirror.lines()]
    assert texts == [text for run in range(5) for text in (b"run %d" % run, b"unfinished")]


def test_the_size_of_earlier_runs_counts(mirror: Mirror) -> None:
    for _ in range(10):
        mirror.run("seq", "100", flags=("--max-bytes", "10000", "--max-files", "3"))

    assert [path.name for path in mirror.rotated()] == ["app.log.2", "app.log.1", "app.log"]
    assert all(path.stat().st_size <= 10000 for path in mirror.rotated())
    assert [line.text for line in _all_lines(mirror)][-100:] == [b"%d" % i for i in range(1, 101)]


def test_what_follows_a_torn_line_does_not_become_part_of_it(mirror: Mirror) -> None:
    torn = b"2026-01-01T00:00:00.000000000Z stdout F torn by a ki"
    mirror.file.write_bytes(torn)
    subprocess.run(mirror.argv("echo", "whole"), timeout=LONG, check=True)

    first, rest = mirror.content().split(b"\n", 1)
    assert first == torn
    assert [line.text for line in parse(rest)] == [b"whole"]


def test_a_mirror_that_is_killed_leaves_whole_lines_but_for_the_last(mirror: Mirror) -> None:
    script = "import os\ni = 0\nwhile True:\n    os.write(1, b'%d ' % i * 40 + b'\\n'); i += 1"
    for run in range(8):
        with mirror.started(
            sys.executable,
            "-I",
            "-S",
            "-c",
            script,
            stdout=subprocess.DEVNULL,
            flags=("--max-bytes", str(1 << 30)),
        ) as process:
            before = mirror.file.stat().st_size if mirror.file.exists() else 0
            while not (mirror.file.exists() and mirror.file.stat().st_size > before + 99999):
                time.sleep(0.001)
            time.sleep(0.001 * run)
            process.kill()
            process.wait(LONG)
    subprocess.run(mirror.argv("echo", "the end"), timeout=LONG, check=True)

    content = mirror.content()
    bad = [line for line in content.split(b"\n")[:-1] if not parse_one(line)]
    assert len(bad) <= 8
    assert parse(content[content.rindex(b"\n", 0, -1) + 1 :])[-1].text == b"the end"


def parse_one(line: bytes) -> bool:
    try:
        return len(parse(line + b"\n")) == 1
    except AssertionError:
        return False


@pytest.mark.parametrize("what", ["renamed", "removed", "replaced"])
def test_a_file_that_somebody_took_away_is_made_again(mirror: Mirror, what: str) -> None:
    script = "echo one; while read line; do echo $line; done"
    with mirror.started("/bin/sh", "-c", script, stdin=subprocess.PIPE) as process:
        eventually(lambda: b" one\n" in mirror.content(), "the first line")
        if what == "renamed":
            mirror.file.rename(mirror.file.with_name("taken"))
        elif what == "removed":
            mirror.file.unlink()
        else:
            mirror.file.with_name("new").write_bytes(b"")
            mirror.file.with_name("new").rename(mirror.file)
        assert process.stdin is not None

        def arrives() -> bool:
            assert process.stdin is not None
            process.stdin.write(b"again\n")
            process.stdin.flush()
            time.sleep(0.05)
            return b" again\n" in mirror.content()

        eventually(arrives, "a line in the new file")
        process.stdin.close()
        process.wait(LONG)
    assert {line.text for line in mirror.lines()} == {b"again"}


def test_a_file_that_somebody_truncated_is_appended_to(mirror: Mirror) -> None:
    with mirror.started("/bin/sh", "-c", "seq 5; read x; echo after", stdin=-1) as process:
        eventually(lambda: mirror.content().endswith(b" 5\n"), "the first lines")
        os.truncate(mirror.file, 0)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
        process.wait(LONG)

    assert [line.text for line in mirror.lines()] == [b"after"]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_sidecar_may_read_the_file_whatever_the_apps_umask(mirror: Mirror, umask: int) -> None:
    done = mirror.sh("umask; echo x", umask=umask)

    assert mirror.file.stat().st_mode & 0o7777 == 0o644
    assert done.stdout == b"0%03o\nx\n" % umask


def test_readers_see_rotation_without_a_gap(mirror: Mirror) -> None:
    """A reader that follows by identity, as the sidecar does, gets every line once."""
    seen: list[bytes] = []
    stop = threading.Event()

    def follow() -> None:
        held: dict[int, tuple[int, bytes]] = {}
        final = False
        while True:
            for path in mirror.rotated():
                try:
                    fd = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    continue
                inode = os.fstat(fd).st_ino
                if inode in held:
                    os.close(fd)
                else:
                    held[inode] = (fd, b"")
            for inode, (fd, before) in list(held.items()):
                *lines, rest = (before + os.read(fd, 1 << 20)).split(b"\n")
                seen.extend(line[40:] for line in lines)
                held[inode] = (fd, rest)
            if final:
                break
            final = stop.is_set()
        for fd, _ in held.values():
            os.close(fd)

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        mirror.sh(
            "for i in $(seq 150); do seq 20; sleep 0.001; done",
            flags=("--max-bytes", "50000", "--max-files", "3"),
        )
    finally:
        stop.set()
        follower.join(LONG)

    assert sorted(seen) == sorted(b"%d" % i for i in range(1, 21) for _ in range(150))


def test_signals_and_rotation_do_not_disturb_each_other(mirror: Mirror) -> None:
    script = (
        "import os, signal\n"
        "seen = 0\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {40})\n"
        "os.write(1, b'ready\\n')\n"
        "i = 0\n"
        "while seen < 200:\n"
        "    os.write(1, b'%d\\n' % i); i += 1\n"
        "    seen += signal.sigtimedwait({40}, 0) is not None\n"
        "os.write(2, b'%d\\n' % seen)\n"
    )
    flags = ("--max-bytes", "3000", "--max-files", "2")
    with mirror.started(sys.executable, "-I", "-S", "-c", script, flags=flags) as process:
        assert read_line(process.stdout) == b"ready\n"
        for _ in range(200):
            os.kill(process.pid, signal.SIGRTMIN + 6)
        out, err = process.communicate(timeout=LONG)

        assert (process.returncode, err) == (0, b"200\n")
        first = int(out.split(b"\n", 1)[0])
        assert out.splitlines() == [b"%d" % (first + i) for i in range(out.count(b"\n"))]
        texts = [line.text for line in mirror.lines() if line.stream == "stdout"]
        assert texts[-1] == out.splitlines()[-1]


def test_a_relative_path_is_meant_from_the_working_folder(mirror: Mirror, tmp_path: Path) -> None:
    subprocess.run(
        [str(mirror.program), "--file", "here.log", "--", "/bin/sh", "-c", "cd /; echo x"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=LONG,
    )

    assert parse((tmp_path / "here.log").read_bytes())[0].text == b"x"
