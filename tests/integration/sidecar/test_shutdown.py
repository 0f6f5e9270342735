"""Tail scenario 111, faults S18-S20, S39 and the flags: how the process begins and ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.backend import OK, Answer, status
from tests.fakes.files import append
from tests.integration.sidecar.stage import Stage, with_code
from tests.sidecar_process import ROOT, eventually, stays


def test_row_111a_on_sigterm_everything_written_before_it_is_sent(stage: Stage):
    log = stage.log()
    log.write(500)
    sidecar = stage.started(limits={"partial_seconds": 100}, scan_seconds=30)
    stage.settle()
    # No scan falls between these and the signal; only the last pass can find the new file.
    log.write(1000)
    stage.log("new.log").write(1000)
    append(stage.logs / "c.log", b"unterminated")
    assert sidecar.stop() == 0, sidecar.tail()

    assert stage.judge.owed() == 0
    assert "unterminated" in stage.backend.messages
    assert not sidecar.said("lines_left")


@pytest.mark.parametrize("mode", ["refused", "503", "hang"])
def test_rows_111b_111c_and_s18_a_dead_backend_does_not_hold_the_exit(stage: Stage, mode: str):
    log = stage.log()
    log.write(5)
    limits = {"drain_seconds": 1.5, "request_seconds": 60}
    sidecar = stage.started(limits=limits)
    stage.settle()
    if mode == "refused":
        stage.backend.down()
    else:
        stage.backend.answers(Answer(hang=True) if mode == "hang" else status(503))
    log.write(300)
    append(stage.logs / "a.log", b"unterminated")
    began = time.monotonic()
    code = sidecar.stop()
    took = time.monotonic() - began

    assert code == 1
    assert took < 1.5 + 20
    said = sidecar.said("lines_left", level="error")
    assert len(said) == 1
    assert said[0]["lines_left"] == {"main": 301}
    stage.backend.up()
    stage.backend.answers(OK)
    log.write_raw(b"\n")
    log.write(5)
    stage.judge_by(foreign=True)
    for request in stage.backend.stored:
        stage.judge.take(request)
    sidecar.start()
    stage.verdict().assert_exact()


def test_s18_fifty_thousand_lines_of_backlog_at_the_signal(stage: Stage):
    log = stage.log()
    sidecar = stage.started(limits={"drain_seconds": 60})
    log.write(50_000)
    assert sidecar.stop(seconds=100) == 0, sidecar.tail()

    stage.judge.verdict().assert_exact()


def test_s18_only_one_of_two_backends_is_dead(stage: Stage):
    other, seen = stage.another_backend()
    stage.backend.answers(status(503))
    backends = [
        {"name": "dead", "type": "http", "url": stage.backend.url},
        {"name": "well", "type": "http", "url": other.url},
    ]
    log = stage.log()
    sidecar = stage.started(backends=backends, limits={"drain_seconds": 1})
    log.write(200)
    assert sidecar.stop() == 1

    seen.verdict().assert_exact()
    assert sidecar.said("lines_left")[0]["lines_left"] == {"dead": 200}


def test_s19_state_is_saved_at_once_and_one_attempt_made_even_while_it_waits(stage: Stage):
    log = stage.log()
    log.write(10)
    stage.backend.answers(Answer(status=503, headers=(("Retry-After", "300"),)))
    sidecar = stage.started(limits={"drain_seconds": 20})
    eventually(lambda: len(stage.backend.requests) == 1)
    time.sleep(0.3)
    assert len(stage.backend.requests) == 1
    stage.backend.answers(OK)
    assert sidecar.stop() == 0, sidecar.tail()

    stage.judge.verdict().assert_exact()


SEEN_SYNCS = """
import os
from sidecar.checkpoint import Checkpoint

Checkpoint.__init__.__kwdefaults__["sync_seconds"] = 3600
fsync = os.fsync

def noted_fsync(descriptor):
    fsync(descriptor)
    with open(%r, "a") as file:
        file.write(os.readlink(f"/proc/self/fd/{descriptor}") + "\\n")

os.fsync = noted_fsync
"""


def test_s19_state_outlives_the_node_from_the_signal_on_while_a_backend_hangs(stage: Stage):
    synced = stage.folder / "synced"
    synced.touch()
    log = stage.log()
    log.write(5)
    environ = with_code(stage.folder, SEEN_SYNCS % str(synced))
    sidecar = stage.started(environ=environ, limits={"drain_seconds": 3600})
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    stage.backend.answers(Answer(hang=True))
    log.write(5)
    eventually(lambda: sidecar.metric("sidetail_lines_in_flight") == 5, "it hangs")
    before = synced.read_text().count("/journal\n")
    sidecar.send_signal(signal.SIGTERM)
    eventually(lambda: synced.read_text().count("/journal\n") > before, "the journal is synced")

    assert sidecar.running
    stage.backend.answers(OK)
    sidecar.kill()
    sidecar.start()

    stage.verdict().assert_exact()


def test_s19_killed_two_seconds_after_the_signal(stage: Stage):
    log = stage.log()
    log.write(100)
    sidecar = stage.started(limits={"drain_seconds": 30})
    stage.settle()
    stage.backend.answers(Answer(hang=True))
    log.write(100)
    sidecar.send_signal(signal.SIGTERM)
    eventually(lambda: len(stage.backend.requests) > len(stage.backend.stored))
    sidecar.kill()
    stage.backend.answers(OK)
    sidecar.start()

    stage.verdict().assert_exact()


def test_a_second_signal_ends_at_once_and_saves(stage: Stage):
    log = stage.log()
    log.write(100)
    sidecar = stage.started(limits={"drain_seconds": 120, "request_seconds": 120})
    stage.settle()
    stage.backend.answers(Answer(hang=True))
    log.write(100)
    eventually(lambda: len(stage.backend.requests) > len(stage.backend.stored))
    sidecar.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert sidecar.running
    sidecar.send_signal(signal.SIGTERM)
    assert sidecar.wait(seconds=60) == 1
    stage.backend.answers(OK)
    sidecar.start()

    stage.verdict().assert_exact()


def test_sigint_stops_as_sigterm_does(stage: Stage):
    stage.log().write(5)
    sidecar = stage.started()
    stage.settle()
    sidecar.send_signal(signal.SIGINT)

    assert sidecar.wait() == 0


def test_a_signal_right_after_the_start_is_not_lost(stage: Stage):
    log = stage.log()
    log.write(50)
    for pause in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        sidecar = stage.sidecar(metrics=None)
        sidecar.start()
        time.sleep(pause)
        # Before its handlers stand the signal's own action holds: that is no failure.
        sidecar.send_signal(signal.SIGTERM)
        assert sidecar.wait() in {0, -15}, sidecar.tail()
    stage.sidecar().start()

    stage.verdict().assert_exact()


LAST_WORDS = """
import os, sys
sys.path.insert(0, {root!r})
from tests.judge import Stream
stream = Stream({run!r}, {name!r})
os.write(os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.lines(100))
os._exit(0)
"""


def test_s20_last_words_of_an_app_that_exits_at_once(stage: Stage):
    for number in range(4):
        sidecar = stage.started()
        name = f"job{number}"
        script = LAST_WORDS.format(
            root=str(ROOT), run=stage.ledger.run, name=name, path=str(stage.logs / f"{name}.log")
        )
        stage.ledger.stream(name).count = 100
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        assert sidecar.stop() == 0, sidecar.tail()
        assert stage.judge.arrived(name) == 100

    stage.judge.verdict().assert_exact()


def test_s39_a_black_holed_backend_does_not_delay_the_start(stage: Stage):
    stage.backend.silent = True
    witness, seen = stage.another_backend()
    backends = [
        {"name": "main", "type": "http", "url": stage.backend.url},
        {"name": "unreachable", "type": "http", "url": "http://192.0.2.1:9"},
        {"name": "witness", "type": "http", "url": witness.url},
    ]
    stage.log().write(5)
    stage.started(backends=backends)
    stage.settle(seen)

    seen.verdict().assert_exact()


# --- flags ------------------------------------------------------------------------------------


def test_until_eof_ships_what_is_there_and_exits_0(stage: Stage):
    stage.log().write(3000)
    append(stage.logs / "b.log", b"unterminated")
    stage.judge_by(foreign=True)
    stage.run_to_end()

    stage.judge.verdict().assert_exact()
    assert [record["message"] for record in stage.judge.strangers] == ["unterminated"]


def test_until_eof_with_nothing_there_exits_0(stage: Stage):
    stage.run_to_end()

    assert stage.backend.requests == []


def test_until_eof_gives_up_on_a_dead_backend_and_says_what_is_left(stage: Stage):
    other, seen = stage.another_backend()
    stage.log().write(50)
    stage.backend.answers(status(503))
    backends = [
        {"name": "dead", "type": "http", "url": stage.backend.url},
        {"name": "well", "type": "http", "url": other.url},
    ]
    sidecar = stage.sidecar(
        backends=backends, flags=("--until-eof",), metrics=None, limits={"drain_seconds": 1}
    )
    assert sidecar.run() == 1, sidecar.tail()

    seen.verdict().assert_exact()
    assert sidecar.said("lines_left")[0]["lines_left"] == {"dead": 50}
    assert len(stage.backend.requests) >= 3


def test_until_eof_survives_an_outage_shorter_than_its_patience(stage: Stage):
    stage.log().write(50)
    stage.backend.answers(status(503))
    sidecar = stage.sidecar(flags=("--until-eof",), metrics=None, limits={"drain_seconds": 60})
    sidecar.start()
    eventually(lambda: len(stage.backend.requests) >= 3)
    stage.backend.answers(OK)

    assert sidecar.wait() == 0, sidecar.tail()
    stage.judge.verdict().assert_exact()


def test_until_eof_twice_sends_nothing_twice(stage: Stage):
    log = stage.log()
    log.write(50)
    stage.run_to_end()
    stage.run_to_end()
    log.write(5)
    stage.run_to_end()

    stage.judge.verdict().assert_exact()


BAD_DOCUMENTS: dict[str, dict[str, Any]] = {
    "unknown key": {"colour": 1},
    "unknown limit": {"limits": {"batch_byte": 1}},
    "wrong size": {"limits": {"batch_bytes": "many"}},
    "wrong time": {"limits": {"partial_seconds": -1}},
    "wrong format": {"sources": [{"path": "/x/*.log", "format": "xml"}]},
    "no path": {"sources": [{}]},
    "wrong glob": {"sources": [{"path": "/x/[a.log"}]},
    "wrong exclude": {"sources": [{"path": "/x/*.log", "exclude": ["{a"]}]},
    "wrong pattern": {"sources": [{"path": "/x/*.log", "keep": "(?=look)"}]},
    "unknown redaction": {"sources": [{"path": "/x/*.log", "redact": ["nothing"]}]},
    "wrong backend": {"backends": [{"name": "x", "type": "carrier-pigeon"}]},
    "no url": {"backends": [{"name": "x", "type": "http"}]},
    "wrong url": {"backends": [{"name": "x", "type": "http", "url": "file:///etc/passwd"}]},
    "no backend": {"backends": []},
    "no state": {"state_dir": None},
}


@pytest.mark.parametrize("change", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_s39_a_wrong_configuration_is_exit_2_that_names_the_key(
    stage: Stage, change: dict[str, Any]
):
    config = stage.config(metrics=None, **change)
    key = next(iter(change))
    for flags in ((), ("--check",), ("--check", "--keep-running")):
        sidecar = stage.sidecar(config, flags=flags)

        assert sidecar.run() == 2, (flags, sidecar.tail())
        assert key in sidecar.stderr.decode()
        assert b"Traceback" not in sidecar.stderr
    assert not list(stage.state.iterdir())


def test_check_of_a_right_configuration_is_exit_0_and_touches_nothing(stage: Stage):
    stage.log().write(5)
    sidecar = stage.sidecar(flags=("--check",))

    assert sidecar.run() == 0, sidecar.tail()
    assert stage.backend.requests == []
    assert not list(stage.state.iterdir())


def test_all_problems_are_said_at_once(stage: Stage):
    wrong = stage.config(colour=1, limits={"batch_bytes": "many", "in_flight": -1}, metrics=None)
    sidecar = stage.sidecar(wrong, flags=("--check",))
    assert sidecar.run() == 2

    said = sidecar.stderr.decode()
    assert all(key in said for key in ("colour", "limits.batch_bytes", "limits.in_flight"))


def test_keep_running_leaves_out_what_is_wrong_and_works_with_the_rest(stage: Stage):
    log = stage.log()
    log.write(5)
    append(stage.folder / "secret.txt", b"must not be shipped\n")
    good = stage.config()
    config = good | {
        "colour": 1,
        "sources": [
            {"path": f"{stage.folder}/*.txt", "keep": "("},
            *good["sources"],
            {"path": f"{stage.folder}/*.txt", "redact": ["unknown"]},
            {"path": "relative/*.log"},
            {"path": f"{stage.folder}/[*.txt"},
        ],
        "backends": [
            {"name": "bad", "type": "http", "url": "nonsense"},
            *good["backends"],
        ],
        "limits": good["limits"] | {"in_flight": "several", "new_limit": 3},
    }
    sidecar = stage.sidecar(config, flags=("--keep-running",))
    stage.wait_until_up(sidecar.start())
    stage.settle()

    stage.verdict().assert_exact()
    text = sidecar.stderr.decode()
    for part in ("colour", "sources[0]", "sources[2]", "sources[3]", "backends[0]", "new_limit"):
        assert part in text, part
    assert sidecar.stop() == 0, sidecar.tail()


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "null", "{}", '{"backends": 5}', "\x01", "a: b: c"],
    ids=["empty", "cut", "list", "null", "nothing", "wrong type", "control character", "bad YAML"],
)
def test_keep_running_idles_when_nothing_is_right(stage: Stage, document: str):
    environ = {"SIDETAIL_CONFIG": document}
    sidecar = stage.sidecar({}, flags=("--keep-running",), environ=environ)
    sidecar.start(without_file=True)
    eventually(lambda: sidecar.log, "it says what is wrong")
    stays(lambda: sidecar.running, 0.5)

    assert sidecar.stop() == 0, sidecar.tail()
    assert b"Traceback" not in sidecar.stderr


def test_keep_running_survives_a_state_folder_that_cannot_be_used(stage: Stage):
    log = stage.log()
    log.write(5)
    for state in ("/proc/nowhere", str(stage.logs / "a.log"), "/dev/null"):
        sidecar = stage.sidecar(state_dir=state, flags=("--keep-running",))
        stage.wait_until_up(sidecar.start())
        stage.settle()
        assert sidecar.stop() == 0, sidecar.tail()


def test_the_document_may_come_by_the_environment_and_in_yaml(stage: Stage):
    stage.log().write(5)
    document = f"""
sources:
  - path: {stage.logs}/*.log
backends:
  - {{name: main, type: http, url: "{stage.backend.url}"}}
state_dir: {stage.state}
limits: {{batch_bytes: 64KiB, batch_seconds: 0.05}}
"""
    sidecar = stage.sidecar({}, flags=("--until-eof",), environ={"SIDETAIL_CONFIG": document})
    sidecar.start(without_file=True)

    assert sidecar.wait() == 0, sidecar.tail()
    stage.judge.verdict().assert_exact()


def test_the_least_configuration_has_a_default_for_everything_else(stage: Stage):
    stage.log().write(5)
    config = {
        "sources": [{"path": f"{stage.logs}/*.log"}],
        "backends": [{"name": "main", "type": "http", "url": stage.backend.url}],
        "state_dir": str(stage.state),
    }
    sidecar = stage.sidecar(config)
    sidecar.start()
    stage.settle()

    assert sidecar.stop() == 0, sidecar.tail()
    stage.judge.verdict().assert_exact()


def test_the_state_folder_is_made_where_it_is_missing(stage: Stage):
    stage.log().write(5)
    state = stage.folder / "deep" / "state"
    stage.run_to_end(state_dir=str(state))

    assert os.listdir(state)
    assert state.stat().st_mode & 0o077 == 0


def test_nothing_is_written_to_stdout_and_stderr_is_json_lines(stage: Stage):
    log = stage.log()
    log.write(5)
    stage.backend.answers(status(503))
    sidecar = stage.started(log_level="debug")
    eventually(lambda: len(stage.backend.requests) >= 3)
    stage.backend.answers(OK)
    stage.settle()
    assert sidecar.stop() == 0

    assert sidecar.stdout == b""
    for line in sidecar.log:
        assert {"time", "level", "message"} <= set(line)
        assert stage.ledger.run not in json.dumps(line), "the text of a line in our own log"


def test_the_last_word_of_the_same_trouble_is_a_minute_old(stage: Stage):
    stage.backend.answers(status(503))
    log = stage.log()
    sidecar = stage.started()
    for _ in range(10):
        log.write(5)
        time.sleep(0.3)
    lines = [json.dumps([line["message"], line.get("backend")]) for line in sidecar.log]

    assert len(lines) == len(set(lines)), lines


def test_no_process_is_ever_started_by_the_sidecar(stage: Stage):
    stage.log().write(50)
    sidecar = stage.started()
    stage.settle()
    tasks = Path(f"/proc/{sidecar.pid}/task")

    assert not [
        child for task in tasks.iterdir() for child in (task / "children").read_text().split()
    ]
