"""Kafka against librdkafka's mock broker, read by its consumer: every record, in its partition."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Retry
from tests.batches import batch, facts, open_backend
from tests.fakes.kafka import MockCluster
from tests.integration.backends.scene import Scene
from tests.sidecar_process import eventually, free_port

pytest.importorskip("kafka", reason="the extra kafka is not installed")
pytest.importorskip("confluent_kafka", reason="the mock broker is not installed")


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """One broker."""
    with MockCluster() as one:
        yield one


def _attempt(backend: Backend, *texts: bytes, seconds: float = 30, times: int = 1) -> list[Answer]:
    sender = backend.sender()
    parts = ((text, facts(file=f"f{index}")) for index, text in enumerate(texts))
    made = batch(backend, *parts)
    answers = [sender.attempt(made, seconds=seconds) for _ in range(times)]
    sender.close()
    return answers


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_record_is_a_message_in_the_partition_of_its_file(
    cluster: MockCluster, compression: str
):
    backend = open_backend("kafka", cluster.url, topic="logs", compression=compression)
    texts = [b"".join(b"%d %d\n" % (file, line) for line in range(500)) for file in range(8)]

    assert _attempt(backend, *texts) == [Delivered()]

    messages = cluster.messages("logs", 4000)
    assert len(messages) == 4000
    for file in range(8):
        mine = [(partition, value) for partition, key, value in messages if key == b"f%d" % file]
        assert len({partition for partition, _ in mine}) == 1
        assert [json.loads(value)["message"] for _, value in mine] == [
            f"{file} {line}" for line in range(500)
        ]
    assert len({partition for partition, _, _ in messages}) > 1


def test_one_producer_serves_many_batches(cluster: MockCluster):
    backend = open_backend("kafka", cluster.url)

    assert _attempt(backend, b"a\nb\n", times=5) == [Delivered()] * 5

    assert len(cluster.messages("sidetail", 10)) == 10


def test_a_broker_that_is_gone_is_a_retry_and_soon(cluster: MockCluster):
    cluster.stop()

    assert _attempt(open_backend("kafka", cluster.url), b"a\n") == [Retry("connection")]


def test_a_name_that_nobody_knows_is_a_retry():
    backend = open_backend("kafka", "kafka://no-such-host.invalid")

    assert _attempt(backend, b"a\n") == [Retry("dns")]


def test_a_link_local_address_is_refused_unless_the_operator_allows_it():
    backend = open_backend("kafka", "kafka://169.254.169.254")

    assert _attempt(backend, b"a\n") == [Retry("link_local")]


def test_a_secret_that_is_not_there_holds(tmp_path: Path):
    backend = open_backend("kafka", "kafka://127.0.0.1:1", credentials_dir=str(tmp_path))

    assert _attempt(backend, b"a\n") == [Hold("credentials_missing")]


def test_without_the_client_the_backend_holds(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("sidecar.backends.kafka_")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ["kafka", *(name for name in sys.modules if name.startswith("kafka."))]:
        monkeypatch.setitem(sys.modules, name, None)

    backend = open_backend("kafka", "kafka://127.0.0.1:1")

    assert _attempt(backend, b"a\n") == [Hold("kafka_client_not_installed")]


def test_every_line_arrives_and_our_log_stays_json(cluster: MockCluster, scene: Scene):
    messages = [message for name in "abc" for message in scene.write(f"{name}.log", 1000)]

    sidecar = scene.ship({"type": "kafka", "url": cluster.url}, limits={"batch_bytes": "50KiB"})

    found = cluster.messages("sidetail", len(messages))
    assert sorted(json.loads(value)["message"] for _, _, value in found) == sorted(messages)
    assert sidecar.log, "each line of it was parsed"


def test_a_dead_broker_is_said_and_nothing_is_dropped(scene: Scene):
    scene.write("a.log", 10)

    sidecar = scene.sidecar({"type": "kafka", "url": f"kafka://127.0.0.1:{free_port()}"}).start()
    eventually(lambda: sidecar.said("cannot be reached", "connection"))

    assert sidecar.metric("sidetail_lines_dropped_total") == 0
    assert sidecar.metric("sidetail_backend_failing") == 1
    assert sidecar.log, "each line of it was parsed"
