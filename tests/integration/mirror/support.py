"""Run the real mirror, and read what it wrote as a reader of CRI files would."""

import contextlib
import datetime as dt
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
MIRROR_SOURCES = ROOT / "mirror"
LONG = 60.0
"""Seconds after which something hangs; nothing here is about speed."""

LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) ([^\n]*)\n", re.DOTALL
)
LEFT_OUT = re.compile(rb"sidetail-mirror: (\d+) lines? \((\d+) bytes\) left out here: (.+)")


def build(target: str, *arguments: str) -> Path:
    """Build `mirror/build/TARGET`, once for all test processes; skip where there is no compiler."""
    if shutil.which(os.environ.get("CC", "cc")) is None or shutil.which("make") is None:
        pytest.skip("no C compiler, or no make")
    (MIRROR_SOURCES / "build").mkdir(exist_ok=True)
    with (MIRROR_SOURCES / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            ["make", "-s", "-C", str(MIRROR_SOURCES), f"build/{target}", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return MIRROR_SOURCES / "build" / target


@dataclass(frozen=True, slots=True)
class Line:
    time: str
    stream: str
    tag: str
    text: bytes


def parse(content: bytes) -> list[Line]:
    """Return the CRI lines of a file; every byte of it must belong to one."""
    lines, end = [], 0
    for found in LINE.finditer(content):
        assert found.start() == end, content[end : end + 200]
        when, stream, tag, text = found.groups()
        lines.append(Line(when.decode(), stream.decode(), tag.decode(), text))
        end = found.end()
    assert end == len(content), content[end : end + 200]
    return lines


def joined(lines: list[Line], stream: str) -> list[bytes]:
    """Return a stream's lines with their parts put together."""
    whole, parts = [], b""
    for line in lines:
        if line.stream == stream:
            parts += line.text
            if line.tag == "F":
                whole.append(parts)
                parts = b""
    assert parts == b"", "a line was begun and not ended"
    return whole


def seconds(line: Line) -> float:
    return dt.datetime.fromisoformat(line.time[:26] + "+00:00").timestamp()


@dataclass(slots=True)
class Finished:
    code: int
    stdout: bytes
    stderr: bytes
    lines: list[Line]

    def of(self, stream: str) -> list[bytes]:
        return joined(self.lines, stream)


@dataclass(slots=True)
class Mirror:
    """One container's mirror: where the program is, and where it is to write."""

    program: Path
    file: Path

    def argv(self, *command: str, flags: tuple[str, ...] = ()) -> list[str]:
        return [str(self.program), "--file", str(self.file), *flags, "--", *command]

    def run(
        self,
        *command: str,
        flags: tuple[str, ...] = (),
        stdin: bytes | None = None,
        **more: Any,
    ) -> Finished:
        """Run COMMAND to its end."""
        done = subprocess.run(
            self.argv(*command, flags=flags),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=LONG,
            check=False,
            **more,
        )
        return Finished(done.returncode, done.stdout, done.stderr, self.lines())

    def sh(self, script: str, **more: Any) -> Finished:
        return self.run("/bin/sh", "-c", script, **more)

    def python(self, script: str, *arguments: str, **more: Any) -> Finished:
        """Run a Python program without what it would import for comfort."""
        return self.run(sys.executable, "-I", "-S", "-c", script, *arguments, **more)

    @contextlib.contextmanager
    def started(
        self, *command: str, flags: tuple[str, ...] = (), **more: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start COMMAND; when the block is left, nothing of it is left."""
        more = {"stdin": subprocess.DEVNULL, "start_new_session": True, **more}
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        with subprocess.Popen(self.argv(*command, flags=flags), **more) as process:
            try:
                yield process
            finally:
                for pid in [process.pid, *descendants(process.pid)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for pipe in (process.stdout, process.stderr):
                    if pipe and not pipe.closed:
                        pipe.close()

    def content(self) -> bytes:
        return self.file.read_bytes() if self.file.exists() else b""

    def lines(self) -> list[Line]:
        return parse(self.content())

    def rotated(self) -> list[Path]:
        """Return all files, oldest first."""
        return sorted(
            self.file.parent.glob(self.file.name + "*"),
            key=lambda path: -int(path.name[len(self.file.name) + 1 :] or 0),
        )


def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """Wait until `holds()` is true and return it."""
    deadline = time.monotonic() + LONG
    while not (result := holds()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)
    return result


def read_line(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    return pipe.readline()


def state_of(pid: int) -> str:
    """Return the letter of a process's state (`R`, `S`, `T`, `Z`, …), `-` if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "-"


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(rest[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return sorted(found - {pid})


def ended(pid: int) -> bool:
    return state_of(pid) in "-ZX"


def in_namespaces(script: str, *, reason: str) -> list[str]:
    """Return an argv that runs a shell script as root of new user, mount and PID namespaces.

    Skips with `reason` where an ordinary user may not make them.
    """
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"]
    prefix += ["--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None:
        pytest.skip(f"no unshare: {reason}")
    tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=LONG, check=False)
    if tried.returncode != 0:
        pytest.skip(f"namespaces are forbidden here: {reason}")
    return [*prefix, "/bin/sh", "-c", script, "sh"]
