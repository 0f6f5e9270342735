"""Kills (SIGKILL) processes of a pod, from the node: `python kill.py POD_UID sidecar|sandbox`.

`sidecar` is our process; `sandbox` is the one that holds the pod's namespaces, and without it the
kubelet starts every container again, as after a restart of the node. Needs the node's process list
(hostPID) and all rights: a process cannot send this signal to the first process of its own
container. Exit status 0 if one was killed, 1 if none was found.
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


def is_sandbox(process: Path, pod_uid: str) -> bool:
    """Return whether it is the pause process, as most runtimes have one."""
    try:
        groups = (process / "cgroup").read_text("utf-8").replace("_", "-")
        program = (process / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return pod_uid in groups and program.rpartition(b"/")[2] == b"pause"


def main(pod_uid: str, which: str) -> int:
    is_wanted = {"sidecar": is_sidecar, "sandbox": is_sandbox}[which]
    killed = 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_wanted(process, pod_uid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
    return 0 if killed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
