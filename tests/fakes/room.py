"""A room of its own for a process: mounts, and if asked a network, that nobody else sees.

Made with user namespaces, so that it needs no root; where there are none a test is skipped.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

import pytest


class Room:
    """Lives until `close`; processes enter it with `wrapper`, files are reached by `path`."""

    def __init__(self, *, network: bool = False) -> None:
        missing = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
        if missing:
            pytest.skip(f"no {', '.join(missing)}: a namespace cannot be made")
        kinds = "-Urmn" if network else "-Urm"
        self._flags = ["-U", "-m", *(["-n"] if network else []), "--preserve-credentials"]
        self._holder = subprocess.Popen(
            ["unshare", kinds, "--", "sh", "-c", "echo in && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"in\n":
            self.close()
            pytest.skip("user namespaces are not allowed here")
        if network:
            self.run("ip", "link", "set", "lo", "up")

    @property
    def wrapper(self) -> tuple[str, ...]:
        """The command that runs its arguments in the room, in its own place."""
        return ("nsenter", "-t", str(self._holder.pid), *self._flags, "--")

    def run(self, *command: str) -> None:
        """Run a command in the room to its end; raise where it fails."""
        done = subprocess.run(
            [*self.wrapper, *command], check=False, capture_output=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stderr)

    def mount_tmpfs(self, folder: Path, size: str) -> None:
        """Put an empty file system of this size over `folder`, in the room only."""
        self.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder))

    def path(self, path: Path) -> Path:
        """Return where `path`, as the room has it, is reached from outside."""
        return Path(f"/proc/{self._holder.pid}/root") / str(path).lstrip("/")

    def close(self) -> None:
        """End the room; what is mounted in it goes when its last process has ended."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(20)
        self._holder.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def fill(folder: Path) -> Path:
    """Write a file into `folder` until its file system is full, and return it."""
    filler = folder / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    os.write(descriptor, b"f" * size)
            except OSError:
                continue
    finally:
        os.close(descriptor)
    return filler
