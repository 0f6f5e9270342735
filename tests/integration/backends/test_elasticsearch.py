"""Elasticsearch over real sockets: partial failure, and exactly once through kills."""

import random
import threading
from functools import partial
from pathlib import Path

import pytest

from sidecar.backends.answers import Delivered, Hold, Partly, Retry
from tests.batches import batch, facts, open_backend
from tests.fakes import backend as fake
from tests.fakes.backend import Backend
from tests.fakes.elasticsearch import Cluster, Document
from tests.integration.backends.scene import Scene
from tests.sidecar_process import eventually


def _by_message(**statuses: int):
    def decide(document: Document) -> int:
        return statuses.get(document["message"], 201)

    return decide


def test_items_are_taken_retried_and_refused_each_for_itself(server: Backend):
    cluster = Cluster(decide=_by_message(busy=429, bad=400, broken=503))
    server.answers(cluster)
    backend = open_backend("elasticsearch", server.url)
    sender = backend.sender()
    made = batch(backend, (b"good\nbusy\nbad\nbroken\nfine\n", facts()))

    answer = sender.attempt(made, seconds=20)
    sender.close()

    assert answer == Partly(retry=(1, 3), rejected=((2, "rejected"),))
    assert cluster.violations == []
    assert cluster.messages == ["good", "fine"]


@pytest.mark.parametrize("honours_filter", [True, False], ids=["filtered", "unfiltered"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_what_is_there_already_is_taken_for_delivered(
    server: Backend, compression: str, honours_filter: bool
):
    cluster = Cluster(honours_filter=honours_filter)
    server.answers(cluster)
    backend = open_backend("elasticsearch", server.url, compression=compression)
    sender = backend.sender()
    made = batch(backend, (b"".join(b"line %d\n" % n for n in range(3000)), facts()))

    assert sender.attempt(made, seconds=20) == Delivered()
    assert sender.attempt(made, seconds=20) == Delivered()
    sender.close()

    assert len(cluster.documents) == 3000
    assert [code for _, code in cluster.offered] == [201] * 3000 + [409] * 3000
    assert server.connections == 1


def test_a_cluster_that_refuses_every_write_holds(server: Backend):
    server.answers(Cluster(decide=lambda _: 403))
    backend = open_backend("elasticsearch", server.url)
    sender = backend.sender()

    answer = sender.attempt(batch(backend, (b"a\nb\n", facts())), seconds=20)
    sender.close()

    assert answer == Hold("item_status_403")


def test_an_answer_that_ends_too_soon_is_no_acknowledgement(server: Backend):
    whole = b'{"errors":false,"items":[{"create":{"status":201}}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole)
    server.answers(fake.in_turn(fake.Answer(raw=head + whole[:-10])))
    backend = open_backend("elasticsearch", server.url)
    sender = backend.sender()

    answer = sender.attempt(batch(backend, (b"a\n", facts())), seconds=20)
    sender.close()

    assert isinstance(answer, Retry)


@pytest.mark.parametrize(
    ("files", "header"),
    [
        ({"api-key": "a2V5"}, "ApiKey a2V5"),
        ({"token": "t0ken"}, "Bearer t0ken"),
        ({"username": "ada", "password": "pw"}, "Basic YWRhOnB3"),
    ],
)
def test_each_kind_of_credential_is_its_header(
    server: Backend, tmp_path: Path, files: dict[str, str], header: str
):
    cluster = Cluster()
    server.answers(cluster)
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    backend = open_backend(
        "elasticsearch", server.url, credentials_dir=str(tmp_path), index="team-a", pipeline="p"
    )
    sender = backend.sender()

    assert sender.attempt(batch(backend, (b"a\n", facts())), seconds=20) == Delivered()
    sender.close()

    assert server.requests[0].header("authorization") == header
    assert list(cluster.indices) == ["team-a"]
    assert cluster.pipelines == ["p"]


def test_row_107_and_s8_only_failed_items_come_again_and_refused_ones_are_quarantined(
    server: Backend, scene: Scene
):
    seen: dict[str, int] = {}

    def decide(document: Document) -> int:
        number = int(document["message"].split()[1])
        seen[document["message"]] = seen.get(document["message"], 0) + 1
        if number % 7 == 3:
            return 400
        return 429 if number % 5 == 0 and seen[document["message"]] < 3 else 201

    cluster = Cluster(decide=decide)
    server.answers(cluster)
    messages = scene.write("a.log", 200)

    sidecar = scene.sidecar({"type": "elasticsearch", "url": server.url}).start()
    refused = [message for message in messages if int(message.split()[1]) % 7 == 3]
    taken = [message for message in messages if message not in refused]
    sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == len(taken)
    )

    assert sidecar.metric("sidetail_lines_dropped_total", reason="rejected") == len(refused)
    assert sidecar.stop() == 0
    assert sorted(cluster.messages) == sorted(taken)
    stored = [key for key, code in cluster.offered if code == 201]
    offered_again = [key for key, code in cluster.offered if code == 409]
    assert len(stored) == len(taken)
    assert offered_again == []
    assert all(seen[message] == 1 for message in refused)
    assert len((scene.folder / "state" / "quarantine").read_text().splitlines()) == len(refused)


def _has_offered(cluster: Cluster, count: int) -> bool:
    return len(cluster.offered) >= count


def test_every_line_is_one_document_through_kills_and_lost_answers(server: Backend, scene: Scene):
    cluster = Cluster()
    chance = random.Random(7)

    def answer(request: fake.Request) -> fake.Answer:
        stored = cluster(request)
        # Stored all the same: the sidecar cannot know, and sends it again.
        return fake.Answer(reset="before-answer") if chance.random() < 0.3 else stored

    server.answers(answer)
    written = [scene.write(f"{name}.log", 500) for name in "abc"]
    sidecar = scene.sidecar(
        {"type": "elasticsearch", "url": server.url}, limits={"batch_bytes": "20KiB"}
    )
    for turn in range(6):
        sidecar.start()
        enough = len(cluster.offered) + 60
        eventually(partial(_has_offered, cluster, enough), "something was sent")
        sidecar.kill()
        written += [scene.write(f"{name}.log", 100, first=500 + turn * 100) for name in "abc"]
    server.answers(cluster)
    sidecar.start()
    expected = sorted(message for messages in written for message in messages)
    eventually(lambda: len(cluster.documents) >= len(expected), "every line is there")
    assert sidecar.stop() == 0

    assert sorted(cluster.messages) == expected
    assert any(code == 409 for _, code in cluster.offered), "nothing came twice: no proof"
    assert cluster.violations == []


def test_a_read_only_cluster_costs_nothing(server: Backend, scene: Scene):
    blocked = threading.Event()
    blocked.set()
    cluster = Cluster(decide=lambda _: 403 if blocked.is_set() else 201)
    server.answers(cluster)
    messages = scene.write("a.log", 300)

    sidecar = scene.sidecar({"type": "elasticsearch", "url": server.url}).start()
    eventually(lambda: sidecar.said("a backend is held", "item_status_403"), "it says so")
    blocked.clear()
    sidecar.wait_for_metric(lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 300)

    assert sidecar.metric("sidetail_lines_dropped_total") == 0
    assert sidecar.stop() == 0
    assert sorted(cluster.messages) == sorted(messages)
