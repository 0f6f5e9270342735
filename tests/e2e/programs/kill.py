"""Kills (SIGKILL) the process of a pod's sidecar, from the node: `python kill.py POD_UID`.

Needs the node's process list (hostPID) and all rights: a process cannot send this signal to the
first process of its own container. Exit status 0 if one was killed, 1 if none was found.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path


def is_sidecar(process: Path, pod_uid: str) -> bool:
    """Return whether it is the sidecar, not a program that somebody runs beside it."""
    try:
        environ = (process / "environ").read_bytes().split(b"\0")
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    ours = f"POD_UID={pod_uid}".encode() in environ
    return ours and b"sidecar" in arguments and b"--keep-running" in arguments


def main(pod_uid: str) -> int:
    killed = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_sidecar(process, pod_uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return 0 if killed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
