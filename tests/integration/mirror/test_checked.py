"""The same sources under sanitizers and valgrind: no bad access, no undefined step, no race."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.mirror.support import LONG, Mirror, build, parse

KINDS = ("address", "thread", "valgrind")


@pytest.fixture(scope="session", params=KINDS)
def checked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror that ends with code 99 and says why when it does something it must not do."""
    wrapper = tmp_path_factory.mktemp("checked") / "sidetail-mirror"
    if request.param == "valgrind":
        if shutil.which("valgrind") is None:
            pytest.skip("valgrind is not installed")
        # not the freestanding program: valgrind wants to know where a thread's stack ends
        under = f"valgrind -q --error-exitcode=99 {build('sidetail-mirror-hosted')}"
    else:
        program = build(f"sidetail-mirror-{request.param}")
        tried = subprocess.run([program], capture_output=True, timeout=LONG, check=False)
        if tried.returncode != 2:
            pytest.skip(f"programs with -fsanitize={request.param} do not run here")
        under = str(program)
    options = "exitcode=99:abort_on_error=0:detect_leaks=0:halt_on_error=1"
    wrapper.write_text(
        f"#!/bin/sh\nexport ASAN_OPTIONS={options} UBSAN_OPTIONS={options} TSAN_OPTIONS={options}\n"
        f'exec {under} "$@"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture
def watched(checked: Path, tmp_path: Path) -> Mirror:
    return Mirror(checked, tmp_path / "app.log")


def test_copying_is_clean(watched: Mirror) -> None:
    chance = random.Random(3)
    data = b"".join(chance.randbytes(chance.choice([3, 90, 30_000])) + b"\n" for _ in range(300))
    data += b"".join(b"%d\n" % i for i in range(200_000)) + b"the end"
    flags = ("--max-bytes", "1000000", "--max-files", "99")
    script = "cat; cat >&2 < /etc/passwd; seq 1000 >&2; exit 3"
    done = watched.sh(script, stdin=data, flags=flags)

    assert (done.code, done.stdout) == (3, data)
    lines = [line for path in watched.rotated() for line in parse(path.read_bytes())]
    text = b"".join(
        line.text + b"\n" * (line.tag == "F") for line in lines if line.stream[3] == "o"
    )
    assert text == data + b"\n"


def test_signals_and_orphans_are_clean(watched: Mirror) -> None:
    script = (
        "trap 'echo got' USR1; trap 'exit 5' TERM; echo ready; (sleep 0.05 &); "
        "while :; do sleep 0.02; done"
    )
    with watched.started("/bin/sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(20):
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.003)
        process.terminate()
        out, err = process.communicate(timeout=LONG)

        assert (process.returncode, err) == (5, b"")
        assert set(out.splitlines()) <= {b"got"}


def test_a_volume_that_is_not_there_is_clean(watched: Mirror) -> None:
    watched.file = watched.file.parent / "later" / "app.log"
    script = "seq 30000; mkdir $0; sleep 0.6; seq 30000; exit 4"
    done = watched.run("/bin/sh", "-c", script, str(watched.file.parent))

    assert done.code == 4
    assert done.stderr == b""
    assert any(b"left out here" in line.text for line in done.lines)


def test_a_closed_stdout_is_clean(watched: Mirror) -> None:
    with watched.started("/bin/sh", "-c", "yes; exit 6") as process:
        assert process.stdout is not None
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()

        assert process.wait(LONG) == 6
        assert process.stderr is not None
        assert process.stderr.read() in (b"", b"yes: standard output: Broken pipe\n")


def test_init_containers_are_clean(checked: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_bytes(os.urandom(200_000))
    (tree / "a" / "link").symlink_to("../../../etc")
    (tree / "a" / "inner").symlink_to("b/file")
    (tmp_path / "to").mkdir()
    for argv in (
        ["--seed", f"{tree}/", tmp_path / "to"],
        ["--seed", tree, tmp_path / "to"],
        ["--init", "--mkdir", tmp_path / "x" / "y", "--install", tmp_path / "copy"],
        ["--init", "--mkdir", tmp_path / "x" / ("n" * 300)],
    ):
        done = subprocess.run(
            [checked, *map(str, argv)], capture_output=True, timeout=LONG, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"ERROR" not in done.stderr
    assert (tmp_path / "to" / "a" / "b" / "file").stat().st_size == 200_000
