"""Containers that print and end at once: the last line is never missing, the code never wrong."""

import os
import signal
import subprocess
import time

import pytest

from tests.integration.mirror.support import LONG, Mirror


def _short_runs(mirror: Mirror, runs: int) -> None:
    argv = mirror.argv(
        "/bin/sh", "-c", "echo last; exit 3", flags=("--max-bytes", "100000000")
    )  # fmt: skip
    for run in range(runs):
        done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=LONG, check=False)
        assert (done.returncode, done.stdout) == (3, b"last\n"), run
    assert [line.text for line in mirror.lines()] == [b"last"] * runs


def test_a_thousand_short_runs_lose_no_line(mirror: Mirror) -> None:
    _short_runs(mirror, 1000)


@pytest.mark.soak
def test_ten_thousand_short_runs_lose_no_line(mirror: Mirror) -> None:
    _short_runs(mirror, 10_000)


def test_short_runs_that_crash_lose_no_line(mirror: Mirror) -> None:
    for run in range(100):
        done = subprocess.run(
            mirror.argv("/bin/sh", "-c", f"echo out {run}; echo err {run} >&2; kill -SEGV $$"),
            capture_output=True,
            timeout=LONG,
            check=False,
        )
        assert done.returncode == 128 + signal.SIGSEGV
        assert done.stdout == b"out %d\n" % run
        assert done.stderr == b"err %d\n" % run
    texts = [line.text for line in mirror.lines()]
    assert sorted(texts) == sorted(
        b"%s %d" % (stream, run) for run in range(100) for stream in (b"out", b"err")
    )


def test_a_container_killed_at_any_moment_leaves_a_file_that_goes_on(mirror: Mirror) -> None:
    script = "i=0; while :; do echo $i; i=$((i+1)); done"
    for run in range(60):
        with mirror.started("/bin/sh", "-c", script, stdout=subprocess.DEVNULL) as process:
            time.sleep(0.0005 * (run % 20))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(LONG)
    subprocess.run(mirror.argv("echo", "the end"), timeout=LONG, check=True)

    assert mirror.content().endswith(b" stdout F the end\n")
    assert all(line.count(b" stdout F ") <= 1 for line in mirror.content().splitlines())
