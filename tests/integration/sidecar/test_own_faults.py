"""What becomes of the process when something of its own fails: no thread ends for good."""

import pytest

from tests.fakes.files import append
from tests.integration.sidecar.stage import Stage, with_code

NO_THREAD = """
import threading

start, left = threading.Thread.start, [%d]

def start_or_not(thread):
    if left[0]:
        left[0] -= 1
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = start_or_not
"""
FAILING_SCAN = """
from sidecar.discovery import Discovery

look, looks = Discovery.look_everywhere, []

def look_or_not(discovery):
    looks.append(None)
    if len(looks) == 4:
        raise ZeroDivisionError
    return look(discovery)

Discovery.look_everywhere = look_or_not
"""
FAILING_TRANSFORM = """
from sidecar.pipeline import Shipper

transform = Shipper._transform

def transform_or_not(shipper, block):
    if b"poison" in block.data:
        raise ZeroDivisionError
    return transform(shipper, block)

Shipper._transform = transform_or_not
"""


def test_a_look_at_the_files_that_fails_is_followed_by_others(stage: Stage):
    sidecar = stage.started(environ=with_code(stage.folder, FAILING_SCAN))
    log = stage.log()
    log.write(3)
    stage.settle()
    sidecar.wait_for_metric(lambda _: sidecar.said("thread of ours failed"), "the fault")
    stage.log("later.log").write(3)

    stage.verdict().assert_exact()


@pytest.mark.parametrize("refusals", [1, 2, 3, 4, 5])
def test_threads_that_cannot_be_had_at_first_cost_time_and_no_line(stage: Stage, refusals: int):
    environ = with_code(stage.folder, NO_THREAD % refusals)
    for name in ("a.log", "b.log"):
        stage.log(name).write(2000)
    sidecar = stage.sidecar(environ=environ, limits={"batch_bytes": 20_000}, metrics=None).start()
    stage.settle()
    stage.log("later.log").write(3)
    stage.settle()
    assert sidecar.stop() == 0

    stage.verdict().assert_exact()


def test_a_file_that_no_worker_survives_holds_up_no_other(stage: Stage):
    append(stage.logs / "bad.log", b"poison\n")
    log = stage.log()
    log.write(300)
    limits = {"batch_bytes": 20_000}
    sidecar = stage.started(environ=with_code(stage.folder, FAILING_TRANSFORM), limits=limits)
    stage.settle()
    log.write(300)
    stage.settle()
    assert sidecar.stop() == 1

    assert sidecar.said("left behind")[0]["lines_left"] == {"main": 1}
    stage.judge.verdict().assert_exact()


def test_until_eof_ends_though_no_worker_survives_a_file(stage: Stage):
    append(stage.logs / "bad.log", b"poison\n")
    environ = with_code(stage.folder, FAILING_TRANSFORM)
    sidecar = stage.sidecar(environ=environ, flags=("--until-eof",), metrics=None)

    assert sidecar.run() == 1
    assert sidecar.said("left behind")[0]["lines_left"] == {"main": 1}


def test_metrics_for_which_there_is_no_thread_are_said_and_lines_flow(stage: Stage):
    stage.log().write(3)
    sidecar = stage.sidecar(environ=with_code(stage.folder, NO_THREAD % 3)).start()
    stage.settle()
    assert sidecar.stop() == 0

    assert sidecar.said("metrics port cannot be opened")
    stage.verdict().assert_exact()
