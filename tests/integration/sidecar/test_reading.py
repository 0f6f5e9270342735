"""Tail scenarios 7.1: what stands in a file, and what comes while it is followed."""

import time
from functools import partial

import pytest

from tests.fakes.backend import Answer, Request
from tests.fakes.files import append
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually


def test_row_1_lines_that_are_there_at_the_start_arrive(stage: Stage):
    stage.log().write(10)
    stage.started()

    stage.verdict().assert_exact()


def test_rows_2_and_5_a_file_made_after_the_start_arrives_from_its_first_line(stage: Stage):
    stage.started()
    stage.log().write(10)

    stage.verdict().assert_exact()


def test_row_3_lines_appended_after_the_start_follow_the_old_ones(stage: Stage):
    log = stage.log()
    log.write(3)
    stage.started()
    stage.settle()
    log.write(3)

    stage.verdict().assert_exact()


def test_row_6_an_empty_file_gives_nothing_until_its_first_line(stage: Stage):
    log = stage.log()
    sidecar = stage.started()
    marker = stage.log("marker.log")
    marker.write()
    stage.settle()
    assert len(stage.backend.records) == 1

    log.write()

    stage.verdict().assert_exact()
    assert sidecar.metric("sidetail_lines_acknowledged_total", backend="main") == 2


@pytest.mark.parametrize("skip", [False, True], ids=["kept", "skipped"])
def test_rows_7_and_8_empty_lines_are_records_or_left_out_as_asked(stage: Stage, skip: bool):
    path = stage.logs / "a.log"
    append(path, b"\n")
    sidecar = stage.started(source={"skip_empty": skip})
    for line in (b"a\n", b"\n", b"b\n"):
        append(path, line)
        stage.arrives(line.decode().strip()) if line != b"\n" else time.sleep(0.1)

    expected = ["a", "b"] if skip else ["", "a", "", "b"]
    eventually(lambda: len(stage.backend.messages) >= len(expected))
    assert stage.backend.messages == expected
    if skip:
        dropped = sidecar.metric("sidetail_lines_dropped_total", backend="main", reason="empty")
        assert dropped == 2


def test_row_9_a_line_written_in_two_parts_is_one_record(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(limits={"partial_seconds": 30})
    append(path, b"he")
    time.sleep(0.3)
    append(path, b"llo\n")

    stage.arrives("hello")
    assert stage.backend.messages == ["hello"]


def test_row_10_a_line_written_byte_by_byte_is_one_record(stage: Stage):
    path = stage.logs / "a.log"
    line = bytes(range(65, 65 + 50))
    stage.started(limits={"partial_seconds": 30})
    for byte in line:
        append(path, bytes([byte]))
        time.sleep(0.02)
    append(path, b"\n")

    stage.arrives(line.decode())
    assert stage.backend.messages == [line.decode()]


def test_row_11_a_thousand_lines_in_one_write_arrive_in_order(stage: Stage):
    stage.started()
    stage.log().write(1000)

    stage.verdict().assert_exact()


@pytest.mark.parametrize("live", [False, True], ids=["row 12 existing", "row 13 live"])
def test_rows_12_and_13_ten_files_of_a_hundred_lines_each(stage: Stage, live: bool):
    logs = [stage.log(f"{number}.log") for number in range(10)]
    if live:
        stage.started()
        for _ in range(20):
            for log in logs:
                log.write(5)
    else:
        for log in logs:
            log.write(100)
        stage.started()

    stage.verdict().assert_exact()


def test_row_14_a_hundred_files_with_room_for_ten_descriptors_and_small_batches(stage: Stage):
    logs = [stage.log(f"{number}.log") for number in range(100)]
    for log in logs:
        log.write()
    stage.started(limits={"open_files": 10, "batch_bytes": 4000})
    stage.settle()
    for log in logs[::7]:
        log.write(2)

    stage.verdict().assert_exact()
    assert max(len(request.body) for request in stage.backend.stored) <= 4000


def test_row_15_a_trickle_is_not_held_up_by_a_flood(stage: Stage):
    flood, trickle = stage.log("flood.log"), stage.log("trickle.log")
    flood.write(50_000, size=400)
    arrivals: dict[int, int] = {}
    written: dict[int, int] = {}

    def note(request: Request) -> None:
        stage.judge.take(request)
        for seq in range(trickle.stream.count):
            if stage.judge.has("trickle_log", seq):
                arrivals.setdefault(seq, stage.judge.arrived("flood_log"))

    stage.backend._on_stored = note
    # A link that gives the flood something to wait for.
    stage.backend.answers(Answer(delay_seconds=0.02))
    stage.started(limits={"batch_bytes": 262_144})
    for seq in range(8):
        eventually(lambda: stage.judge.arrived("flood_log") > 2000)
        trickle.write()
        written[seq] = stage.judge.arrived("flood_log")
        eventually(partial(stage.judge.has, "trickle_log", seq))
        if written[seq] > 35_000:
            break

    stage.verdict().assert_exact()
    # 262,144 bytes are about 400 records of 630; a turn may wait for what is in flight, lingers
    # and was read before, but never for the rest of the flood.
    passed = [arrivals[seq] - written[seq] for seq in arrivals if written[seq] < 35_000]
    assert passed
    assert max(passed) <= 10_000, passed


def test_row_17_a_hundred_thousand_lines_that_are_there(stage: Stage):
    stage.log().write(100_000, size=200)
    stage.started(limits={"batch_seconds": 0})

    stage.verdict().assert_exact()


def test_row_18_newlines_on_and_around_the_borders_of_what_is_read_at_once(stage: Stage):
    log = stage.log()
    for border in (4096, 8192, 65_536, 131_072, 262_144):
        for size in range(border - 2, border + 3):
            log.write(1, size=size)
    # … and files whose only newline stands on the border.
    for border in (4096, 65_536):
        for shift in (-1, 0, 1):
            stage.log(f"{border}_{shift + 1}.log").write(1, size=border + shift)
    stage.started()

    stage.verdict().assert_exact()


def test_a_file_that_grows_while_it_is_read_keeps_its_order(stage: Stage):
    log = stage.log()
    log.write(20_000)
    stage.started(limits={"batch_seconds": 0})
    for _ in range(200):
        log.write(50)

    stage.verdict().assert_exact()


def test_every_record_tells_where_it_stands(stage: Stage):
    path = stage.logs / "app" / "a.log"
    path.parent.mkdir()
    lines = [b"one\n", b"two \xc3\xa4\n", b"\n", b"four\n"]
    append(path, b"".join(lines))
    stage.started(
        source={
            "path": f"{stage.logs}/app/*.log",
            "shown_as": "/var/log/app",
            "container": "web",
            "fields": {"team": "shop", "time": "mine"},
            "attributes": {"service.name": "orders", "k8s.cluster.name": "mine"},
        },
        attributes={"k8s.namespace.name": "shop", "k8s.cluster.name": "yours"},
    )
    eventually(lambda: len(stage.backend.records) == 4)

    starts = [sum(map(len, lines[:number])) for number in range(4)]
    assert [record["offset"] for record in stage.backend.records] == starts
    for record in stage.backend.records:
        assert record["log.file.path"] == "/var/log/app/a.log"
        assert record["fields"] == {"team": "shop", "time": "mine"}
        assert record["service.name"] == "orders"
        assert record["k8s.namespace.name"] == "shop"
        assert record["k8s.cluster.name"] == "mine"
        assert record["id"].endswith(f"-{record['offset']}")
        assert "k8s.pod.name" not in record
        assert "log.iostream" not in record


def test_pod_facts_come_from_the_environment_where_the_document_has_none(stage: Stage):
    append(stage.logs / "a.log", b"x\n")
    environ = {
        "POD_NAME": "web-0",
        "POD_NAMESPACE": "shop",
        "POD_UID": "1-2-3",
        "NODE_NAME": "node-a",
    }
    stage.started(environ=environ, attributes={"k8s.node.name": "other"})
    record = eventually(lambda: stage.backend.records)[0]

    assert record["k8s.pod.name"] == "web-0"
    assert record["k8s.namespace.name"] == "shop"
    assert record["k8s.pod.uid"] == "1-2-3"
    assert record["k8s.node.name"] == "other"


def test_gzip_bodies_say_the_same(stage: Stage):
    stage.log().write(3000)
    stage.started(backend={"compression": "gzip"})

    stage.verdict().assert_exact()
    assert {request.header("content-encoding") for request in stage.backend.stored} == {"gzip"}


def test_a_request_is_what_an_ndjson_endpoint_expects(stage: Stage):
    stage.log().write(3)
    stage.started()
    stage.settle()
    request = stage.backend.stored[0]

    assert (request.method, request.target, request.version) == ("POST", "/ingest", "HTTP/1.1")
    assert request.header("content-type") == "application/x-ndjson"
    assert request.header("host") == f"127.0.0.1:{stage.backend.port}"
    assert request.header("x-sidetail-batch-id")
    assert request.body.endswith(b"\n")
