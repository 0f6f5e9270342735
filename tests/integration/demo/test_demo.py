"""`python -m demo` as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_MIRROR = ROOT / "mirror" / "build" / "sidetail-mirror"

_ASKS = """kind: Pod
metadata:
  name: a
  annotations: {sidetail.dev/paths: /srv/log/x.log}
spec: {containers: [{name: a, image: 'a:1'}]}
"""

needs_mirror = pytest.mark.skipif(
    not _MIRROR.exists(), reason="the mirror is not built (make mirror): no C compiler?"
)


def _start(tmp_path: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "demo", "--output", str(tmp_path / "out"), *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_take_ctrl_c,  # noqa: PLW1509 - one call of the C library, nothing of Python's
    )


def _take_ctrl_c() -> None:
    """A run in the background of a script ignores it, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    process = _start(tmp_path, *arguments)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def _left(tmp_path: Path) -> list[str]:
    """Return temporary folders that are still there, and processes that still name one."""
    found = [path.name for path in tmp_path.glob("sidetail-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in words:
            found.append(words.decode(errors="replace"))
    return found


def _lost(out: str) -> list[int]:
    """Return the column `lost` of the table."""
    rows = re.findall(r"^  \S+:\S+ +\d+ +\d+ +(\d+) +\d+$", out, re.MULTILINE)
    return [int(row) for row in rows]


@needs_mirror
@pytest.mark.parametrize("mode", ["real-mounts", "mapped-paths"])
def test_the_demo_loses_nothing_and_leaves_nothing_behind(tmp_path: Path, mode: str):
    extra = ["--no-mounts"] if mode == "mapped-paths" else []
    status, out, err = _run(tmp_path, "--seconds", "1.5", *extra)

    assert (status, err) == (0, ""), out
    assert len(_lost(out)) >= 4
    assert set(_lost(out)) == {0}
    assert _left(tmp_path) == []
    assert list((tmp_path / "out").glob("*/*.ndjson"))


@needs_mirror
def test_two_demos_at_the_same_time_do_not_meet(tmp_path: Path):
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    both = [_start(place, "--seconds", "1") for place in places]
    results = [(process.communicate(timeout=100), process.returncode) for process in both]

    assert [status for _, status in results] == [0, 0], results


def test_a_pod_of_ones_own_is_played_with_ones_own_command(tmp_path: Path):
    manifest = tmp_path / "mine.yaml"
    manifest.write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: mine}\nspec:\n"
        "  template:\n    metadata:\n      annotations: {sidetail.dev/paths: /srv/log/*.log}\n"
        "    spec:\n      containers: [{name: web, image: 'web:1'}]\n"
    )
    script = "i=0; while :; do i=$((i+1)); echo line $i >> /srv/log/own.log; sleep 0.05; done"
    status, out, err = _run(
        tmp_path, "--seconds", "1", "--pod", str(manifest), "--app", f"sh -c '{script}'"
    )

    assert (status, err) == (0, ""), out
    assert set(_lost(out)) == {0}
    assert "web:/srv/log/own.log" in out


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, [], "cannot read"),
        ("a: [", [], "is not YAML"),
        ("kind: Service\n", [], "holds no pod"),
        ("kind: Pod\nmetadata: {name: a}\nspec: {}\n", [], "no containers"),
        (_ASKS, [], "APP="),
        (_ASKS.replace("/srv/log/x.log", "var/log/x.log"), [], "bad-path"),
        (_ASKS.replace("/srv/log/x.log", "/proc/x.log"), [], "forbidden-directory"),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n",
            [],
            "nothing was added",
        ),
        (_ASKS, ["--app", "'open"], "no command line"),
    ],
    ids=[
        "missing",
        "not-yaml",
        "no-pod",
        "no-containers",
        "no-command",
        "relative-path",
        "forbidden-directory",
        "no-annotations",
        "open-quote",
    ],
)
def test_what_cannot_be_played_is_one_clear_line(
    tmp_path: Path, content: str | None, arguments: list[str], said: str
):
    manifest = tmp_path / "bad.yaml"
    if content is not None:
        manifest.write_text(content)
    status, _, err = _run(tmp_path, "--pod", str(manifest), *arguments)

    assert status == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert _left(tmp_path) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_no_right_to_write_is_one_clear_line(tmp_path: Path):
    (tmp_path / "out").mkdir(mode=0o500)
    status, _, err = _run(tmp_path)

    assert status == 2
    assert "cannot write" in err


def test_ctrl_c_ends_everything(tmp_path: Path):
    process = _start(tmp_path, "--seconds", "30")
    deadline = time.monotonic() + 60
    assert process.stdout is not None
    while time.monotonic() < deadline and "play the kubelet" not in process.stdout.readline():
        pass
    time.sleep(1)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err == "demo: stopped; nothing is left running\n"
    assert _left(tmp_path) == []
