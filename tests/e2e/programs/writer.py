"""The application of the end-to-end tests: writes numbered lines to a file and to stdout.

In: $PLAN, a JSON object (the dataclass below). Out: the lines, and at the end the number of them,
told to the collector by a way of its own. The last line of each stream has no newline, but
where the exit status says that the container is started again.
Runs in a pod beside `judge.py`; Python's standard library only.
"""

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import judge  # type: ignore[import-not-found] # it lies beside this file, in a pod


@dataclass(frozen=True)
class Plan:
    run: str
    namespace: str
    collector: str
    """`http://ADDRESS:PORT`."""
    name: str = ""
    """Begins the names of its streams; else the host's name does."""
    file: str | None = None
    file_mode: int = 0o640
    stdout: bool = False
    lines: int = 0
    """For each stream, the last one aside; 0 is endless."""
    rate: float = 0.0
    """Lines a second; 0 is as fast as it goes."""
    rotate_bytes: int = 0
    """Renames the file when it has grown to this; 0 is never."""
    exit_status: int = 0
    """Where it is not 0, or memory is what ends it, the container is started again."""
    takes_memory: bool = False
    """Takes more memory in the end than there is, until it is killed."""
    stays: bool = False
    """Waits for SIGTERM behind the last line but one."""


class File:
    """A log file that is rotated by renaming: FILE, FILE.1 (the newest), FILE.2, …"""

    def __init__(self, path: Path, rotate_bytes: int, mode: int) -> None:
        self._path = path
        self._mode = mode
        self._rotate_bytes = rotate_bytes
        self._rotated = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()

    def write(self, text: bytes) -> None:
        os.write(self._descriptor, text)
        if 0 < self._rotate_bytes <= os.fstat(self._descriptor).st_size:
            os.close(self._descriptor)
            for number in range(self._rotated, 0, -1):
                self._numbered(number).rename(self._numbered(number + 1))
            self._path.rename(self._numbered(1))
            self._rotated += 1
            self._descriptor = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, self._mode)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Stdout:
    """What is printed; a pipe may take a part of it only."""

    def write(self, text: bytes) -> None:
        while text:
            text = text[os.write(1, text) :]


def main() -> None:
    plan = Plan(**json.loads(os.environ["PLAN"]))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    pod = (plan.name or os.uname().nodename).replace("-", "_")
    name = f"{pod}_{time.time_ns() // 1_000_000}"  # a container may be started again
    outputs: dict[str, File | Stdout] = {}
    if plan.file:
        outputs[f"{name}_file"] = File(Path(plan.file), plan.rotate_bytes, plan.file_mode)
    if plan.stdout:
        outputs[f"{name}_stdout"] = Stdout()
    streams = {stream: judge.Stream(plan.run, stream) for stream in outputs}
    tell(plan, "note", {"started": pod})
    write_all(plan, stop, [(streams[stream], output) for stream, output in outputs.items()])
    if plan.stays:
        tell(plan, "note", {"wrote": {name: one.count for name, one in streams.items()}})
        stop.wait()
    for stream, output in outputs.items():
        last = streams[stream].line(size=90)
        # Who is started again writes on in the same file, and its first line behind this one.
        goes_on = plan.exit_status or plan.takes_memory
        output.write(last if goes_on else last.removesuffix(b"\n"))
    tell(plan, "written", {name: one.count for name, one in streams.items()})
    taken = []
    while plan.takes_memory:
        taken.append(os.urandom(1 << 20))
    sys.exit(plan.exit_status)


def write_all(
    plan: Plan, stop: threading.Event, pairs: list[tuple[judge.Stream, File | Stdout]]
) -> None:
    began = time.monotonic()
    number = 0
    while not stop.is_set() and (plan.lines == 0 or number < plan.lines):
        for stream, output in pairs:
            # Some are long, some are short, none is alike.
            output.write(stream.line(size=60 + number * 37 % 190))
        number += 1
        ahead = number / plan.rate - (time.monotonic() - began) if plan.rate else 0.0
        if ahead > 0.005:
            stop.wait(ahead)


def tell(plan: Plan, what: str, body: object) -> None:
    """Send `body` to the collector; without it there is no verdict, so it is tried for a while."""
    request = urllib.request.Request(
        f"{plan.collector}/{what}?namespace={plan.namespace}",
        json.dumps(body).encode(),
        method="POST",
    )
    for attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except OSError:
            if attempt == 19:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
