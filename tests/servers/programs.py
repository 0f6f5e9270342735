"""Real servers: found on this machine, started on free ports, ended by their ids."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 180.0
"""Seconds that a server may take to listen: a JVM on a busy machine."""


def program(name: str, variable: str | None = None) -> str:
    """Return the path of a program, from `$variable` or the usual folders; skip without it."""
    named = os.environ.get(variable or "")
    found = named or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found or not os.access(found, os.X_OK):
        pytest.skip(f"{name} is not here" + (f" (set {variable})" if variable else ""))
    return found


def version(*command: str) -> str:
    """Return the first words of what a program says of itself."""
    run = subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)
    return (run.stdout or run.stderr).strip().split("\n")[0].partition(" (aka")[0]


@contextlib.contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    *,
    ports: Sequence[int] = (),
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; wait until it listens on its ports."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd or folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
        try:
            for port in ports:
                _wait_for(port, process, log)
            yield process
        finally:
            _end(process)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        said = log.read_text(errors="replace")[-3000:]
        assert process.poll() is None, f"it ended with {process.returncode}\n{said}"
        assert time.monotonic() < until, f"it does not listen\n{said}"
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask(url: str, body: bytes | None = None, **headers: str) -> Any:
    """Return the body of an HTTP answer, raising on anything but success."""
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()
