"""Whole processes, measured from outside: CPU-seconds, peak memory, lines at the sink."""

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.programs import Start

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost."""

    lines: int
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float

    @property
    def lines_per_cpu_second(self) -> float:
        """Return the figure that is compared."""
        return self.lines / max(self.cpu_seconds, 1e-9)


class Sink:
    """`bench.sink` as a process of its own, so that its cost is nobody's."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sink", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def counts(self) -> dict[str, Any]:
        """Return what came in so far."""
        self._connection.request("GET", "/count")
        counts: dict[str, Any] = json.loads(self._connection.getresponse().read())
        return counts

    def close(self) -> None:
        """End it."""
        self._connection.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@contextmanager
def sink(*arguments: str) -> Iterator[Sink]:
    """Yield a running sink."""
    one = Sink(*arguments)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def running(start: Start) -> Iterator["subprocess.Popen[bytes]"]:
    """Yield the started program; it is ended afterwards."""
    process = subprocess.Popen(
        start.command,
        env=start.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def running_seconds(pid: int) -> float:
    """Return the seconds for which a process's present threads have run, to the nanosecond.

    For shares of a core too small for the ticks of `cpu_seconds`.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """Return resident memory, or its peak with `VmHWM`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def drain(start: Start, receiver: Sink, lines: int, *, seconds: float = 300) -> Cost:
    """Run a program from its start until `lines` newlines have reached the sink.

    Programs whose records carry no newline (OTLP) count by quiet: nothing came for two seconds.
    """
    before = receiver.counts()
    with running(start) as process:
        started_at = time.monotonic()
        seen, quiet_since = before["bytes"], time.monotonic()
        while time.monotonic() - started_at < seconds:
            if process.poll() is not None:
                raise RuntimeError(f"{start.command[0]} ended with status {process.returncode}")
            counts = receiver.counts()
            if counts["lines"] - before["lines"] >= lines:
                break
            if counts["bytes"] != seen:
                seen, quiet_since = counts["bytes"], time.monotonic()
            elif seen > before["bytes"] and time.monotonic() - quiet_since > 2.0:
                break
            time.sleep(0.02)
        return Cost(
            lines=lines,
            cpu_seconds=cpu_seconds(process.pid),
            wall_seconds=time.monotonic() - started_at,
            peak_mib=memory_mib(process.pid, "VmHWM"),
        )


def whole(start: Start) -> Cost:
    """Run a program to its own end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_at = time.monotonic()
    subprocess.run(
        start.command,
        env=start.environment,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(
        lines=1,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        wall_seconds=time.monotonic() - started_at,
        peak_mib=0.0,
    )
