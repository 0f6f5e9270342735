"""Stop, threads, signals, atomic files and the own log: what every process of ours relies on."""

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.atomic import write_atomically
from runtime.logs import JsonFormatter, PipeHandler, Seldom
from runtime.stop import Stop
from runtime.workers import Worker


def test_a_second_request_to_stop_means_at_once():
    stop = Stop()
    assert not stop.wait(0)
    stop.request()
    assert (stop.asked, stop.at_once, stop.wait(0)) == (True, False, True)
    stop.request()

    assert stop.at_once
    assert stop.asked_at is not None


def test_a_request_ends_a_wait():
    stop = Stop()
    threading.Timer(0.05, stop.request).start()

    assert stop.wait(30)


def test_a_failing_thread_is_seen(caplog: pytest.LogCaptureFixture):
    seen: list[Exception] = []
    error = RuntimeError("on purpose")

    def fail() -> None:
        raise error

    worker = Worker("failing", fail, on_crash=seen.append).start()

    assert worker.join(10)
    assert (worker.error, seen) == (error, [error])
    assert "a thread of ours failed" in caplog.text


_SIGNALLED = """
import os, signal, sys, threading
from runtime.signals import Signals
signals = Signals((signal.SIGTERM, signal.SIGUSR1))
threading.Timer(0.05, signals.wake).start()
print("woken", signals.wait(20), flush=True)
os.kill(os.getpid(), signal.SIGUSR1)
print("signal", signals.wait(20) == [signal.SIGUSR1], flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("signal", signals.wait(None) == [signal.SIGTERM], flush=True)
print("quiet", signals.wait(0.01), flush=True)
signals.close()
"""


def test_signals_and_wake_ups_are_waited_for():
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.splitlines() == ["woken []", "signal True", "signal True", "quiet []"]


def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path):
    path = tmp_path / "state"
    write_atomically(path, b"one")
    write_atomically(path, b"two", mode=0o644)

    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path):
    path = tmp_path / "state"
    path.mkdir()

    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"one")

    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_a_temporary_file_that_is_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / ".state.tmp").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError):  # noqa: PT011 - ELOOP, whose text is the system's
        write_atomically(tmp_path / "state", b"one")

    assert (tmp_path / "elsewhere").read_bytes() == b"kept"


def _record(message: str, /, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("sidecar.x", logging.WARNING, "f", 1, message, None, None)
    record.fields = fields
    return record


def test_a_log_line_is_one_line_of_ascii_json_whatever_is_in_it():
    text = JsonFormatter().format(_record("said", path="a\nb\x1b[31m\u202e", error=OSError("x")))

    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["path"] == "a\nb\x1b[31m\u202e"
    assert json.loads(text)["level"] == "warning"


def test_a_field_cannot_replace_what_a_line_always_has():
    line = json.loads(JsonFormatter().format(_record("said", message="forged", level="debug")))

    assert (line["message"], line["level"]) == ("said", "warning")


def test_a_full_pipe_never_holds_up_who_logs():
    reader, writer = os.pipe()
    handler = PipeHandler(writer)
    handler.setFormatter(JsonFormatter())
    for _ in range(2000):
        handler.emit(_record("said", padding="x" * 200))

    assert handler.left_out > 0
    os.close(reader)
    handler.emit(_record("said"))
    os.close(writer)


def test_a_trouble_is_said_once_a_minute_and_again_when_it_comes_back():
    now = 0.0
    seldom = Seldom(clock=lambda: now)
    said = [seldom.due("full", "/state"), seldom.due("full", "/state"), seldom.due("full", "/b")]
    now = 61.0
    said.append(seldom.due("full", "/state"))

    assert said == [True, False, True, True]
    assert seldom.over("full", "/state")
    assert not seldom.over("full", "/state")
    assert seldom.due("full", "/state")
