"""OTLP over real sockets: whole requests, partial success, refusals."""

from sidecar.backends.answers import Delivered, LeftOut
from tests.batches import batch, facts, open_backend
from tests.fakes.backend import Backend
from tests.fakes.otlp import Collector
from tests.integration.backends.scene import Scene


def test_a_request_of_several_sources_is_taken_whole(server: Backend, tmp_path):
    collector = Collector()
    server.answers(collector)
    (tmp_path / "api-key").write_text("k3y")
    backend = open_backend(
        "otlp",
        server.url + "/v1/logs",
        compression="gzip",
        key_header="DD-API-KEY",
        credentials_dir=str(tmp_path),
    )
    sender = backend.sender()
    other = facts(file="b", attributes={"service.name": "other"})
    parts = ((b"1\n2\n", facts()), (b"3\n", other), (b"4\n", facts(file="c")))

    assert sender.attempt(batch(backend, *parts), seconds=20) == Delivered()
    sender.close()

    assert collector.violations == []
    assert sorted(record.body for record in collector.records) == ["1", "2", "3", "4"]
    assert server.requests[0].header("dd-api-key") == "k3y"


def test_a_partial_success_is_counted_and_not_sent_again(server: Backend):
    collector = Collector(takes=lambda record: record.body != "no")
    server.answers(collector)
    backend = open_backend("otlp", server.url)
    sender = backend.sender()

    answer = sender.attempt(batch(backend, (b"a\nno\nno\nb\n", facts())), seconds=20)
    sender.close()

    assert answer == Delivered(LeftOut(2, "partial_success"))


def test_row_108_what_a_collector_leaves_out_stands_in_the_books(server: Backend, scene: Scene):
    collector = Collector(takes=lambda record: not record.body.startswith("a.log 1"))
    server.answers(collector)
    messages = scene.write("a.log", 100)

    sidecar = scene.sidecar({"type": "otlp", "url": server.url}).start()
    taken = [message for message in messages if not message.startswith("a.log 1")]
    found = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == len(taken)
    )

    dropped = found.total("sidetail_lines_dropped_total", reason="partial_success")
    assert dropped == len(messages) - len(taken) == 11
    assert sidecar.said("left lines out", level="error")
    assert sidecar.stop() == 0
    assert [record.body for record in collector.records] == taken
    assert collector.violations == []
