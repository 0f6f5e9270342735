"""The real sidecar as a process: started with a configuration, watched from outside, ended.

In: a configuration document and a folder. Out: exit code, log lines, metrics, what /proc says.
Every wait is for a condition; the limits are for hanging only.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent
"""The repository: what `python -m sidecar` is started in."""
PATIENCE = 60.0
"""Seconds after which a condition is taken for one that never comes true."""


_NOT_WITHOUT_US = ("setpriv", "--pdeathsig=KILL", "--") if shutil.which("setpriv") else ()
"""A test run that is killed leaves no sidecar behind."""
_T = TypeVar("_T")


def eventually(
    condition: Callable[[], _T], what: str = "", *, seconds: float = PATIENCE, every: float = 0.01
) -> _T:
    """Wait until `condition` gives something true and return it; raise after `seconds`."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"not within {seconds:g} s: {what or condition}"
        time.sleep(every)


def stays(condition: Callable[[], object], seconds: float, what: str = "") -> None:
    """Check that `condition` holds all the time for `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert condition(), what or condition
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody has, outside the range from which the kernel deals them out."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer of `/metrics`: `(name, labels)` → value."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of `name` that bear these labels; 0 where there is none."""
        wanted = set(labels.items())
        return sum(
            value for (key, have), value in self.values.items() if key == name and wanted <= have
        )

    def names(self) -> set[str]:
        """Return the names of all samples."""
        return {name for name, _ in self.values}

    def backends(self) -> set[str]:
        """Return the backends that the metrics speak of."""
        return {
            value
            for name, labels in self.values
            if name == "sidetail_lines_read_total"
            for key, value in labels
            if key == "backend"
        }

    def imbalance(self) -> list[str]:
        """Return where `read = acknowledged + in flight + dropped` does not hold."""
        found = []
        for backend in self.backends():
            read, acknowledged, in_flight, dropped = (
                self.total(f"sidetail_lines_{name}", backend=backend)
                for name in ("read_total", "acknowledged_total", "in_flight", "dropped_total")
            )
            if read != acknowledged + in_flight + dropped:
                found.append(f"{backend}: {read} != {acknowledged} + {in_flight} + {dropped}")
        return found


_SAMPLE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse_metrics(text: str) -> Scrape:
    """Return the samples of a page in Prometheus's text format; raise on what is none."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, f"no sample: {line!r}"
        labels = frozenset(_LABEL.findall(match[2] or ""))
        values[match[1], labels] = float(match[3])
    return Scrape(values)


@dataclass(slots=True)
class _Output:
    """What came on one pipe, read by a thread of its own so that it never fills up."""

    pipe: Any
    content: bytearray = field(default_factory=bytearray)
    _thread: threading.Thread | None = None

    def start(self) -> Self:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        while piece := self.pipe.read1(65536):
            self.content += piece
            # A flood of log lines is a fault to be seen, not a reason to run out of memory.
            if len(self.content) > 64 * 1024 * 1024:
                del self.content[: 32 * 1024 * 1024]

    def end(self) -> None:
        assert self._thread is not None
        self._thread.join(20)
        self.pipe.close()


class Sidecar:
    """One process; `start` may be called again after it has ended (same state, same files)."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        *,
        flags: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
        wrapper: Iterable[str] = (),
        scrape_seconds: float = 0.05,
    ) -> None:
        """Prepare; nothing runs yet.

        `wrapper` is a command that runs its arguments in its own place (by exec), such as
        `unshare`. With `metrics.port` in `config` every answer of `/metrics` is checked against
        the accounting identity, each `scrape_seconds`, as long as the process lives.
        """
        self.config = dict(config)
        self.file = folder / "sidecar.json"
        self.flags = list(flags)
        self.wrapper = list(wrapper)
        self.environ = dict(environ or {})
        self.imbalances: list[str] = []
        self.scrapes = 0
        self.starts = 0
        self.exit_code: int | None = None
        self._scrape_seconds = scrape_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._out: _Output | None = None
        self._err: _Output | None = None
        self._past_err = bytearray()
        self._watching = threading.Event()
        self._watcher: threading.Thread | None = None

    # --- its life ---------------------------------------------------------------------------

    def start(self, *, without_file: bool = False) -> Self:
        """Start the process; it is not waited for.

        `without_file`: without `--config`, so that the environment decides.
        """
        assert self._process is None, "it runs already"
        command = [*self.wrapper, *_NOT_WITHOUT_US, sys.executable, "-m", "sidecar"]
        if not without_file:
            self.file.write_text(json.dumps(self.config))
            command += ["--config", str(self.file)]
        environ = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [*command, *self.flags],
            cwd=ROOT,
            env=environ | self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.starts += 1
        self.exit_code = None
        self._out = _Output(self._process.stdout).start()
        self._err = _Output(self._process.stderr).start()
        if "port" in self.config.get("metrics", {}):
            self._watching.clear()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def run(self, *, seconds: float = PATIENCE) -> int:
        """Start, wait for the end and return the exit code."""
        self.start()
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = PATIENCE) -> int:
        """Wait for the process to end by itself; return its exit code (−9: SIGKILL)."""
        process = self._running
        try:
            self.exit_code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {seconds:g} s\n{self.tail()}") from None
        self._reap()
        return self.exit_code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running.send_signal(number)

    def stop(self, *, seconds: float = PATIENCE) -> int:
        """Send SIGTERM, as soon as the process has a handler for it, and return the exit code."""
        eventually(lambda: not self.running or self._handles(signal.SIGTERM), "it is up")
        self.send_signal(signal.SIGTERM)
        return self.wait(seconds=seconds)

    def kill(self) -> None:
        """Send SIGKILL and wait."""
        process = self._running
        process.kill()
        self.exit_code = process.wait(PATIENCE)
        self._reap()

    def close(self) -> None:
        """End it whatever it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    def _reap(self) -> None:
        self._watching.set()
        if self._watcher is not None:
            self._watcher.join(20)
            self._watcher = None
        assert self._out is not None
        assert self._err is not None
        self._out.end()
        self._err.end()
        self._past_err += self._err.content
        self._process = None

    # --- what it says -----------------------------------------------------------------------

    @property
    def stdout(self) -> bytes:
        """What the latest run wrote to stdout."""
        return bytes(self._out.content) if self._out else b""

    @property
    def stderr(self) -> bytes:
        """What all runs wrote to stderr."""
        now = bytes(self._err.content) if self._err and self._process is not None else b""
        return bytes(self._past_err) + now

    @property
    def log(self) -> list[dict[str, Any]]:
        """The log lines of all runs; raise on one that is not a JSON object."""
        lines = self.stderr.split(b"\n")[:-1]
        found = [json.loads(line) for line in lines if line]
        assert all(isinstance(line, dict) for line in found)
        return found

    def said(self, *words: str, level: str | None = None) -> list[dict[str, Any]]:
        """Return the log lines in whose text (fields included) all `words` occur."""
        return [
            line
            for line in self.log
            if (level is None or line["level"] == level)
            and all(word.lower() in json.dumps(line).lower() for word in words)
        ]

    def tail(self, size: int = 3000) -> str:
        """Return the end of its log, for a failure's message."""
        return self.stderr[-size:].decode("utf-8", "replace")

    # --- what is seen from outside ------------------------------------------------------------

    def get(self, path: str, *, method: str = "GET", seconds: float = 10) -> tuple[int, bytes]:
        """Ask the metrics port; return status and body."""
        port = self.config["metrics"]["port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def scrape(self) -> Scrape:
        """Return the metrics as of now."""
        status, body = self.get("/metrics")
        assert status == 200, (status, body[:500])
        return parse_metrics(body.decode())

    def metric(self, name: str, **labels: str) -> float:
        """Return one figure (a sum over the labels that are not given)."""
        return self.scrape().total(name, **labels)

    def wait_for_metric(
        self, wanted: Callable[[Scrape], object], what: str = "", *, seconds: float = PATIENCE
    ) -> Scrape:
        """Wait for a scrape of which `wanted` is true; the port need not be open yet."""

        def look() -> Scrape | None:
            assert self.running, f"it has ended\n{self.tail()}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                found = self.scrape()
                return found if wanted(found) else None
            return None

        found = eventually(look, what or "a metric", seconds=seconds, every=0.03)
        assert found is not None
        return found

    def _watch(self) -> None:
        while not self._watching.wait(self._scrape_seconds):
            try:
                found = self.scrape()
            except (OSError, http.client.HTTPException):
                continue  # not up yet, or gone
            self.scrapes += 1
            self.imbalances += found.imbalance()

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[0])

    def _handles(self, number: signal.Signals) -> bool:
        """Return whether the process has a handler for a signal."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        caught = int(re.findall(r"^SigCgt:\s+(\w+)", text, re.MULTILINE)[0], 16)
        return bool(caught >> (number - 1) & 1)

    @property
    def resident_mib(self) -> float:
        """Resident memory now, in MiB."""
        return self._status("VmRSS") / 1024

    @property
    def peak_mib(self) -> float:
        """The most resident memory so far, in MiB."""
        return self._status("VmHWM") / 1024

    @property
    def threads(self) -> int:
        """Threads now."""
        return self._status("Threads")

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> list[str]:
        """Return what its descriptors lead to, as /proc tells it (` (deleted)` where gone)."""
        folder, found = f"/proc/{self.pid}/fd", []
        try:
            names = os.listdir(folder)
        except PermissionError:  # it is not dumpable, on purpose
            pytest.skip("only root sees the descriptors of a process that hides its memory")
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"{folder}/{name}"))
        return found

    def holds(self, path: Path) -> bool:
        """Return whether it has the file open under this name."""
        return str(path) in self.descriptors()
