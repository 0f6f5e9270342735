"""The same bytes where they went before, and CRI lines in the file."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.integration.mirror.support import (
    LONG,
    Mirror,
    eventually,
    parse,
    read_line,
    seconds,
)

EVERY_BYTE = bytes(range(256))


def test_both_streams_reach_their_outputs_and_the_file(mirror: Mirror) -> None:
    done = mirror.sh("echo to stdout; echo to stderr >&2")

    assert (done.stdout, done.stderr) == (b"to stdout\n", b"to stderr\n")
    assert done.of("stdout") == [b"to stdout"]
    assert done.of("stderr") == [b"to stderr"]


def test_a_line_carries_the_time_at_which_it_was_printed(mirror: Mirror) -> None:
    before = time.time()
    done = mirror.sh("echo first; sleep 0.3; echo second")
    after = time.time()

    first, second = (seconds(line) for line in done.lines)
    assert before - 0.001 <= first < second <= after
    assert second - first >= 0.25


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"", []),
        (b"\n", [("F", b"")]),
        (b"\n\n", [("F", b""), ("F", b"")]),
        (b"no newline", [("F", b"no newline")]),
        (b"one\nno newline", [("F", b"one"), ("F", b"no newline")]),
        (b"carriage\r\n", [("F", b"carriage\r")]),
        (b"a" * 16384 + b"\n", [("F", b"a" * 16384)]),
        (b"a" * 16384, [("F", b"a" * 16384)]),
        (b"a" * 16385 + b"\n", [("P", b"a" * 16384), ("F", b"a")]),
        (b"a" * 32768 + b"\nb\n", [("P", b"a" * 16384), ("F", b"a" * 16384), ("F", b"b")]),
        (b"a" * 32769, [("P", b"a" * 16384), ("P", b"a" * 16384), ("F", b"a")]),
    ],
    ids=lambda value: f"{len(value)}" if isinstance(value, bytes) else "",
)
def test_lines_are_cut_where_container_runtimes_cut(
    mirror: Mirror, printed: bytes, lines: list[tuple[str, bytes]]
) -> None:
    done = mirror.run("cat", stdin=printed)

    assert done.stdout == printed
    assert [(line.tag, line.text) for line in done.lines] == lines


def test_binary_output_is_copied_byte_for_byte(mirror: Mirror) -> None:
    noise = random.Random(1).randbytes(3_000_000) + EVERY_BYTE * 40
    done = mirror.run("cat", stdin=noise)

    assert done.stdout == noise
    assert b"\n".join(done.of("stdout")) == noise.removesuffix(b"\n")


def test_a_line_is_on_stdout_and_in_the_file_while_the_app_runs_on(mirror: Mirror) -> None:
    with mirror.started("/bin/sh", "-c", "echo ready; sleep 60") as process:
        assert read_line(process.stdout) == b"ready\n"
        eventually(lambda: [line.text for line in mirror.lines()] == [b"ready"], "the line")


def test_a_line_printed_in_pieces_is_one_line(mirror: Mirror) -> None:
    done = mirror.sh("printf abc; sleep 0.1; printf def; sleep 0.1; printf 'ghi\\n'")

    assert done.stdout == b"abcdefghi\n"
    assert [(line.tag, line.text) for line in done.lines] == [("F", b"abcdefghi")]


def test_pieces_without_newline_reach_stdout_at_once(mirror: Mirror) -> None:
    with mirror.started("/bin/sh", "-c", "printf prompt; sleep 60") as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"prompt"


def test_streams_printed_in_turns_keep_their_own_order(mirror: Mirror) -> None:
    script = (
        "import os\n"
        "for i in range(20000):\n"
        "    os.write(1 + i % 2, b'%d ' % i * (i % 30) + b'end %d\\n' % i)\n"
    )
    done = mirror.python(script)

    expected = [b"%d " % i * (i % 30) + b"end %d" % i for i in range(20000)]
    assert done.stdout == b"".join(line + b"\n" for line in expected[::2])
    assert done.stderr == b"".join(line + b"\n" for line in expected[1::2])
    assert done.of("stdout") == expected[::2]
    assert done.of("stderr") == expected[1::2]


def test_a_line_begun_on_one_stream_is_not_broken_by_the_other(mirror: Mirror) -> None:
    done = mirror.sh("printf 'out-'; sleep 0.05; echo err >&2; sleep 0.05; echo put")

    assert done.of("stdout") == [b"out-put"]
    assert done.of("stderr") == [b"err"]


def test_outputs_that_are_one_pipe_get_whole_writes(mirror: Mirror) -> None:
    script = (
        "import os\nfor i in range(3000):\n    os.write(1 + i % 2, b'%05d' % i * 20 + b'\\n')\n"
    )
    done = subprocess.run(
        mirror.argv(sys.executable, "-I", "-S", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONG,
        check=True,
    )

    assert sorted(done.stdout.splitlines()) == [b"%05d" % i * 20 for i in range(3000)]


@pytest.mark.parametrize("kind", ["file", "null", "socket"])
def test_stdout_may_be_something_else_than_a_pipe(
    mirror: Mirror, tmp_path: Path, kind: str
) -> None:
    printed = b"0123456789\n" * 30000
    source = tmp_path / "source"
    source.write_bytes(printed)
    got: list[bytes] = []
    if kind == "socket":
        mine, theirs = socket.socketpair()
        reader = threading.Thread(target=lambda: got.extend(iter(lambda: mine.recv(65536), b"")))
        reader.start()
        with mine:
            with theirs:
                subprocess.run(
                    mirror.argv("cat", str(source)),
                    stdout=theirs.fileno(),
                    timeout=LONG,
                    check=True,
                )
            reader.join(LONG)
    else:
        target = Path("/dev/null") if kind == "null" else tmp_path / "target"
        with target.open("wb") as stdout:
            subprocess.run(mirror.argv("cat", str(source)), stdout=stdout, timeout=LONG, check=True)
        got = [target.read_bytes() or printed]

    assert b"".join(got) == printed
    assert b"\n".join(line.text for line in mirror.lines()) + b"\n" == printed


def test_a_slow_reader_of_stdout_gets_everything(mirror: Mirror) -> None:
    with mirror.started("seq", "60000") as process:
        assert process.stdout is not None
        time.sleep(0.3)
        got = b""
        while piece := os.read(process.stdout.fileno(), 30000):
            got += piece
            time.sleep(0.001)
        assert process.wait(LONG) == 0

    assert got == b"".join(b"%d\n" % i for i in range(1, 60001))
    assert [line.text for line in mirror.lines()] == got.splitlines()


def test_a_reader_that_stops_holds_the_app_up_as_without_us(mirror: Mirror) -> None:
    with mirror.started("/bin/sh", "-c", "echo err >&2; seq 1000000; echo done >&2") as process:
        assert read_line(process.stderr) == b"err\n"
        time.sleep(0.3)
        held = len(mirror.content())

        assert process.poll() is None
        assert b"stderr F done" not in mirror.content()
        assert held < 4_000_000, "the app ran on although nobody read its stdout"


def test_a_stdout_that_is_stuck_does_not_hold_up_stderr(mirror: Mirror) -> None:
    script = "(seq 1000000 &) ; sleep 0.2; echo one >&2; sleep 0.1; echo two >&2; sleep 60"
    with mirror.started("/bin/sh", "-c", script) as process:
        assert read_line(process.stderr) == b"one\n"
        assert read_line(process.stderr) == b"two\n"
        eventually(lambda: b"stderr F two\n" in mirror.content(), "the line in the file")


def test_an_app_whose_stdout_was_closed_sees_a_broken_pipe(mirror: Mirror) -> None:
    with mirror.started("yes") as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 2) == b"y\n"
        process.stdout.close()

        assert process.wait(LONG) == 128 + 13


def test_an_app_that_ignores_a_broken_pipe_runs_on_and_stderr_is_still_mirrored(
    mirror: Mirror,
) -> None:
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
        "os.write(1, b'before\\n')\n"
        "os.read(0, 1)\n"
        "try:\n"
        "    while True: os.write(1, b'after\\n' * 1000)\n"
        "except BrokenPipeError: os.write(2, b'broken\\n')\n"
    )
    with mirror.started(sys.executable, "-I", "-S", "-c", script, stdin=subprocess.PIPE) as process:
        assert read_line(process.stdout) == b"before\n"
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.write(b"x")
        process.stdin.close()

        assert read_line(process.stderr) == b"broken\n"
        assert process.wait(LONG) == 0
    assert [line.text for line in mirror.lines() if line.stream == "stderr"] == [b"broken"]


def test_an_app_may_close_its_stdout_and_go_on(mirror: Mirror) -> None:
    done = mirror.sh("echo one; exec 1>&-; sleep 0.1; echo two >&2; exit 5")

    assert done.code == 5
    assert (done.stdout, done.stderr) == (b"one\n", b"two\n")
    assert done.of("stdout") == [b"one"]


def test_an_app_may_open_its_stdout_again_by_name(mirror: Mirror) -> None:
    done = mirror.sh("echo by name > /dev/stdout; echo second > /proc/self/fd/1")

    assert done.of("stdout") == [b"by name", b"second"]


def test_others_may_write_to_the_descriptors_of_the_first_process(mirror: Mirror) -> None:
    done = mirror.sh("echo out > /proc/$PPID/fd/1; echo err > /proc/$PPID/fd/2")

    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert done.of("stdout") == [b"out"]
    assert done.of("stderr") == [b"err"]


def _through(mirror: Mirror, size: int) -> None:
    """Send `size` bytes of lines through and compare both sides by their checksum."""
    line = (b"0123456789abcdef" * 62)[:991] + b"\n"
    block = b"".join(b"%08d" % i + line[8:] for i in range(1000))
    rounds = size // len(block)
    script = (
        "import os, sys\n"
        "block = sys.stdin.buffer.read()\n"
        "view = memoryview(block)\n"
        f"for _ in range({rounds}):\n"
        "    sent = 0\n"
        "    while sent < len(view): sent += os.write(1, view[sent:])\n"
    )
    with mirror.started(
        sys.executable,
        "-I",
        "-S",
        "-c",
        script,
        flags=("--max-bytes", str(2 * size + 1)),
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(block)
        process.stdin.close()
        seen = hashlib.blake2b()
        while piece := os.read(process.stdout.fileno(), 1 << 18):
            seen.update(piece)
        assert process.wait(LONG * 10) == 0

    expected, kept = hashlib.blake2b(), hashlib.blake2b()
    for _ in range(rounds):
        expected.update(block)
    with mirror.file.open("rb") as file:
        while piece := file.read((40 + len(line)) * 1000):
            assert len(piece) == (40 + len(line)) * 1000
            heads = {piece[at + 30 : at + 40] for at in range(0, len(piece), 40 + len(line))}
            assert heads == {b" stdout F "}
            kept.update(
                b"".join(
                    piece[at + 40 : at + 40 + len(line)]
                    for at in range(0, len(piece), 40 + len(line))
                )
            )
    mirror.file.unlink()
    assert seen.digest() == expected.digest(), "stdout differs"
    assert kept.digest() == expected.digest(), "the file differs"


def test_sixty_megabytes_come_through_intact_on_both_sides(mirror: Mirror) -> None:
    _through(mirror, 60_000_000)


@pytest.mark.soak
def test_a_gigabyte_comes_through_intact_on_both_sides(mirror: Mirror) -> None:
    _through(mirror, 1_000_000_000)


def test_any_cutting_of_the_output_into_writes_gives_the_same_lines(mirror: Mirror) -> None:
    chance = random.Random(7)
    script = (
        "import os, sys, time\n"
        "data = sys.stdin.buffer.read()\n"
        "at = 0\n"
        "for cut in map(int, sys.argv[1].split(',')):\n"
        "    os.write(1, data[at:cut]); at = cut\n"
        "    if cut % 7 == 0: time.sleep(0.0005)\n"
    )
    for _ in range(12):
        pieces = [
            chance.choice([b"", b"x", b"short line", b"a" * chance.randint(0, 40000)])
            for _ in range(60)
        ]
        data = b"\n".join(pieces)
        cuts = sorted({chance.randint(0, len(data)) for _ in range(150)} | {len(data)})
        mirror.file.unlink(missing_ok=True)
        done = mirror.python(script, ",".join(map(str, cuts)), stdin=data)

        assert done.stdout == data
        assert done.of("stdout") == (data.removesuffix(b"\n").split(b"\n") if data else [])


def test_the_memory_it_takes_does_not_depend_on_what_is_printed(mirror: Mirror) -> None:
    script = "seq 500000; head -c 9000000 /dev/zero; yes | head -c 2000000; echo err >&2"
    script += "; sleep 60"
    with mirror.started("/bin/sh", "-c", script, stdout=subprocess.DEVNULL) as process:
        assert read_line(process.stderr) == b"err\n"
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))

        assert int(peak.split()[1]) <= 1024, peak
    for path in mirror.rotated():
        assert parse(path.read_bytes())
