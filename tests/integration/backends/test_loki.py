"""Loki over real sockets: what is stored, what is dropped and counted, what comes again."""

from typing import Any

from sidecar.backends.answers import Delivered, LeftOut, Partly, Refused, Retry, Sender
from sidecar.batch import Batch
from tests.batches import READ_AT, batch, facts, open_backend, pick
from tests.fakes import backend as fake
from tests.fakes.backend import Backend
from tests.fakes.loki import SECOND, Loki
from tests.integration.backends.scene import Scene


def _one(server: Backend, *parts: Any, **options: Any) -> tuple[Sender, Batch]:
    backend = open_backend("loki", server.url, **options)
    return backend.sender(), batch(backend, *parts)


def test_each_stream_travels_in_a_request_of_its_own(server: Backend):
    loki = Loki()
    server.answers(loki)
    parts = [(b"a\nb\n", facts(file="a", path="/a")), (b"c\n", facts(file="b", path="/b"))]
    sender, made = _one(server, *parts, (b"d\n", parts[0][1]))

    assert sender.attempt(made, seconds=20) == Delivered()
    sender.close()

    assert loki.violations == []
    assert len(server.requests) == 2
    assert server.connections == 1
    assert {
        dict(labels)["log_file_path"]: [entry.line for entry in entries]
        for labels, entries in loki.streams.items()
    } == {"/a": ["a", "b", "d"], "/b": ["c"]}


def test_nothing_is_lost_behind_the_answer_for_another_stream(server: Backend):
    loki = Loki(oldest=READ_AT - 5 * SECOND)
    server.answers(loki)
    old = facts(file="a", path="/a")
    backend = open_backend("loki", server.url)
    made = batch(backend, (b"a\nb\n", old), read_at=READ_AT - 10 * SECOND)
    for part in batch(backend, (b"c\n", facts(file="b", path="/b"))).parts:
        made.add(part.block, part.records, part.body)

    sender = backend.sender()
    answer = sender.attempt(made, seconds=20)
    sender.close()

    # One request with both streams would have been answered with 204.
    assert answer == Delivered(LeftOut(2, "too_old"))
    assert [entry.line for entry in loki.entries] == ["c"]


def test_a_retry_is_the_same_entry_for_loki(server: Backend):
    loki = Loki()
    lost = iter([True])

    def answer(request: fake.Request) -> fake.Answer:
        stored = loki(request)
        return fake.status(503) if next(lost, False) else stored

    server.answers(answer)
    sender, made = _one(server, (b"same\n" * 50, facts()))

    assert sender.attempt(made, seconds=20) == Retry("status_503")
    assert sender.attempt(made, seconds=20) == Delivered()
    sender.close()

    assert len(loki.entries) == 50
    assert loki.duplicates == 50


def test_a_line_that_is_too_long_is_bisected_without_storing_the_others_twice(server: Backend):
    loki = Loki(max_line_bytes=1000)
    server.answers(loki)
    backend = open_backend("loki", server.url)
    sender = backend.sender()
    made = batch(backend, (b"a\nb\n" + b"x" * 2000 + b"\nc\n", facts()))

    assert sender.attempt(made, seconds=20) == Refused("status_400")
    assert sender.attempt(pick(backend, made, [0, 1]), seconds=20) == Delivered()
    assert sender.attempt(pick(backend, made, [2]), seconds=20) == Refused("status_400")
    assert sender.attempt(pick(backend, made, [3]), seconds=20) == Delivered()
    sender.close()

    assert [entry.line for entry in loki.entries] == ["a", "b", "c"]


def test_streams_after_a_failing_one_come_again_and_the_ones_before_do_not(server: Backend):
    loki = Loki()

    def answer(request: fake.Request) -> fake.Answer:
        return fake.status(429) if b"/b" in request.text else loki(request)

    server.answers(answer)
    parts = [(b"x\n", facts(file=name, path=f"/{name}")) for name in "abc"]
    sender, made = _one(server, *parts)

    assert sender.attempt(made, seconds=20) == Partly(retry=(1, 2), rejected=())
    sender.close()

    assert len(server.requests) == 2


def test_tenant_and_own_headers_and_credentials_go_along(server: Backend, tmp_path):
    loki = Loki(tenant="shop")
    server.answers(loki)
    (tmp_path / "token").write_text("t0ken")
    sender, made = _one(
        server,
        (b"x\n", facts()),
        tenant="shop",
        headers={"X-Route": "logs"},
        credentials_dir=str(tmp_path),
        compression="gzip",
    )

    assert sender.attempt(made, seconds=20) == Delivered()
    sender.close()

    assert loki.violations == []
    (request,) = server.requests
    assert request.header("authorization") == "Bearer t0ken"
    assert request.header("x-route") == "logs"
    assert request.header("content-encoding") == "gzip"


def test_row_108_lines_too_far_behind_are_counted_and_the_stream_goes_on(
    server: Backend, scene: Scene
):
    loki = Loki(window_seconds=3600)
    server.answers(loki)
    times = ["12:00:00", "15:00:00", *["12:30:00"] * 30, "15:00:01"]
    lines = [f"2024-05-01T{time}Z stdout F line {number}" for number, time in enumerate(times)]
    (scene.logs / "a.log").write_text("".join(f"{line}\n" for line in lines))

    sidecar = scene.sidecar(
        {"type": "loki", "url": server.url},
        sources=[{"path": f"{scene.logs}/*.log", "container": "app", "format": "cri"}],
    ).start()
    found = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_dropped_total", reason="too_old") == 30
    )

    assert found.total("sidetail_lines_acknowledged_total") == 3
    (scene.logs / "b.log").write_text("2024-05-01T15:00:02Z stdout F more\n")
    sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 4)
    assert sidecar.stop() == 0
    assert [entry.line for entry in loki.entries] == ["line 0", "line 1", "line 32", "more"]
    assert loki.violations == []


def test_poisoned_lines_are_dropped_alone_and_counted(server: Backend, scene: Scene):
    loki = Loki(max_line_bytes=1000)
    server.answers(loki)
    good = scene.write("a.log", 300)
    with open(scene.logs / "a.log", "a") as file:
        file.write("y" * 5000 + "\n")
    good += scene.write("a.log", 300, first=300)

    sidecar = scene.sidecar({"type": "loki", "url": server.url}).start()
    sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 600)

    assert sidecar.metric("sidetail_lines_dropped_total", reason="rejected") == 1
    assert sidecar.stop() == 0
    assert [entry.line for entry in loki.entries] == good
    assert "yyyy" in (scene.folder / "state" / "quarantine").read_text()
