"""What applications and rotation tools do to log files, done on purpose.

In: paths. Out: files that grow, are renamed, copied and truncated, replaced, or full of holes.
As a program (`python -m tests.fakes.files`) it writes lines at a rate until it is told to stop.
"""

import argparse
import contextlib
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.judge import Stream


def append(path: Path, content: bytes) -> None:
    """Append `content` with one write, as loggers do; the file is made where it is missing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`; a write is cut short only by a full disk or a signal."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def rotate_by_rename(path: Path, keep: int = 10) -> None:
    """Shift `path`, `path.1`, … by one, as logrotate's `nocreate` does; the oldest is deleted."""
    with contextlib.suppress(FileNotFoundError):
        numbered(path, keep).unlink()
    for number in range(keep - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            numbered(path, number).rename(numbered(path, number + 1))
    path.rename(numbered(path, 1))


def numbered(path: Path, number: int) -> Path:
    """Return `path.number`."""
    return path.with_name(f"{path.name}.{number}")


def copy_and_truncate(path: Path, copy: Path) -> None:
    """Rotate as logrotate's `copytruncate` does: what is written in between is the app's loss."""
    shutil.copyfile(path, copy)
    os.truncate(path, 0)


def replace(path: Path, content: bytes) -> None:
    """Put a new file with `content` in the place of `path`, by rename."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.rename(path)


def rewrite_in_place(path: Path, content: bytes) -> None:
    """Truncate and write in one go, without another open: no scan falls in between."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, 0)
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def sparse(path: Path, hole: int, content: bytes = b"") -> None:
    """Make a file that begins with a hole of `hole` bytes, and then has `content`."""
    with path.open("wb") as file:
        file.truncate(hole)
        file.seek(hole)
        file.write(content)


class Log:
    """An open log file, as an application holds it; lines come from a `Stream`."""

    def __init__(self, path: Path, stream: Stream, *, appending: bool = True) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if appending else 0)
        self.path = path
        self.stream = stream
        self.descriptor = os.open(path, flags, 0o644)

    def write(self, count: int = 1, *, size: int = 100) -> None:
        """Write `count` whole lines in one write."""
        write_all(self.descriptor, self.stream.lines(count, size=size))

    def write_raw(self, content: bytes) -> None:
        """Write bytes of no stream: noise, or a part of a line."""
        write_all(self.descriptor, content)

    def reopen(self) -> None:
        """Open `path` anew, as applications do after a rotation."""
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


class Background:
    """Runs `step` in a thread again and again until it is stopped; a failure shows at the end."""

    def __init__(self, step: Callable[[], None], *, every_seconds: float = 0.0) -> None:
        self.rounds = 0
        self._step = step
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread after its current step; raise what it raised."""
        self._stop.set()
        self._thread.join(30)
        if self._thread.is_alive():
            raise RuntimeError("a background step did not end")
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._step()
                self.rounds += 1
                if self._every_seconds:
                    self._stop.wait(self._every_seconds)
        except BaseException as error:  # it is raised again by stop()
            self._error = error


def paced(per_second: float, *, tick_seconds: float = 0.01) -> Iterator[int]:
    """Yield, tick by tick, how many lines are due; the rate holds over time, not per tick."""
    began, done = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * per_second)
        if due > done:
            yield due - done
            done = due
        time.sleep(tick_seconds)


def main() -> int:
    """Write lines of one stream until stdin is closed; print how many were written."""
    parser = argparse.ArgumentParser(description="An application that logs.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--run", required=True)
    parser.add_argument("--stream", required=True)
    parser.add_argument("--per-second", type=float, default=1000.0)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--count", type=int, default=0, help="stop after so many lines; 0: never")
    parser.add_argument("--reopen", action="store_true", help="reopen when the name is gone")
    options = parser.parse_args()
    stream = Stream(options.run, options.stream)
    with Log(options.path, stream) as log:
        for due in paced(options.per_second):
            left = options.count - stream.count if options.count else due
            log.write(min(due, left), size=options.size)
            if options.count and stream.count >= options.count:
                break
            if options.reopen and not options.path.exists():
                log.reopen()
            if select.select([sys.stdin], [], [], 0)[0] and not sys.stdin.read(1):
                break
    print(stream.count, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
