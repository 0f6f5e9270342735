"""Builds `preload.c` and gives the environment under which a process meets its faults."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("preload.c")


def _built(folder: Path) -> str:
    """Return the library, built in `folder`; skip without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the library that plays these faults cannot be built")
    made = folder / "preload.so"
    if not made.exists():
        command = [
            compiler,
            "-O1",
            "-Wall",
            "-shared",
            "-fPIC",
            "-o",
            str(made),
            str(SOURCE),
            "-ldl",
        ]
        subprocess.run(command, check=True, timeout=120)
    return str(made)


class Clock:
    """A wall clock that a test sets, for processes started with `environ`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(struct.pack("d", 0.0))
        self.environ = {"LD_PRELOAD": _built(folder), "FAKE_CLOCK": str(self._file)}

    def shift(self, seconds: float) -> None:
        """Let the wall clock be wrong by `seconds` from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("d", seconds))


def killed_at(folder: Path, when: str, call: str, part: str, number: int) -> dict[str, str]:
    """Return the environment of a process that dies before or after its Nth call.

    `call` is `write`, `fsync` or `rename`; only files whose path contains `part` count.
    The library is built in `folder`.
    """
    return {"LD_PRELOAD": _built(folder), "FAKE_KILL": f"{when}:{call}:{part}:{number}"}
