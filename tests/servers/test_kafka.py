"""A real Kafka broker in KRaft mode: lines written = messages in the topic, kills included."""

import base64
import json
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from sidecar.backends.answers import Partly
from tests.batches import batch, facts, open_backend
from tests.fakes.kafka import read_topic
from tests.integration.backends.scene import Scene
from tests.servers.jvm import class_path, java
from tests.servers.programs import running
from tests.sidecar_process import free_port

pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
num.partitions=3
message.max.bytes=200000
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a broker listens; it takes 200 kB at most at a time."""
    folder = tmp_path_factory.mktemp("kafka")
    jvm, port, controller = java(), free_port(), free_port()
    properties = folder / "server.properties"
    properties.write_text(PROPERTIES.format(port=port, controller=controller, folder=folder))
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    with class_path("kafka", folder) as jars:
        options = ["-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", jars]
        subprocess.run(
            [jvm, *options, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", properties],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with running([jvm, *options, "kafka.Kafka", str(properties)], folder, ports=(port,)):
            yield f"127.0.0.1:{port}"


def _version() -> str:
    import confluent_kafka

    return f"Kafka 4.0.0 (KRaft), librdkafka {confluent_kafka.libversion()[0]}"


def test_lines_written_are_messages_stored(address: str, scene: Scene):
    written = {name: scene.write(name, 5000) for name in ("a.log", "b.log", "c.log")}

    scene.ship({"type": "kafka", "url": f"kafka://{address}", "topic": "plain"})

    found = read_topic(address, "plain", 15_000)
    messages = [json.loads(value)["message"] for _, _, value in found]
    assert len(messages) == 15_000
    for name, lines in written.items():
        mine = [message for message in messages if message.startswith(f"{name} ")]
        assert mine == lines, "a file's lines lie in one partition, in their order"
    print(f"{_version()}: 15000 lines written, {len(messages)} stored")


def test_no_line_is_missing_through_kills(address: str, scene: Scene):
    row = {"type": "kafka", "url": f"kafka://{address}", "topic": "killed", "compression": "gzip"}
    sidecar = scene.sidecar(row, limits={"batch_bytes": "50KiB", "drain_seconds": 120})
    written = scene.write("a.log", 4000)
    for turn in range(3):
        sidecar.start()
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") >= 100, seconds=120
        )
        sidecar.kill()
        written += scene.write("a.log", 400, first=4000 + 400 * turn)
    sidecar.flags = ["--until-eof"]
    assert sidecar.run(seconds=300) == 0, sidecar.tail()

    found = read_topic(address, "killed", len(written))
    records = [json.loads(value) for _, _, value in found]
    assert sorted({record["message"] for record in records}) == sorted(written)
    assert len({record["id"] for record in records}) == len(written)
    print(
        f"{_version()}, 3 kills: {len(written)} lines written, {len(records)} stored, "
        f"{len(written)} ids"
    )


def test_what_the_broker_takes_at_a_time_is_asked_before_anything_is_sent(address: str):
    backend = open_backend("kafka", f"kafka://{address}", topic="sizes", request_seconds=60)
    sender = backend.sender()
    lines = (b"y" * 900 + b"\n") * 600
    made = batch(backend, (lines + b"z" * 300_000 + b"\n" + lines, facts()))

    answer = sender.attempt(made, seconds=60)
    sender.close()

    assert answer == Partly(retry=(), rejected=((600, "too_large"),))
    assert len(read_topic(address, "sizes", 1200)) == 1200


def test_lines_of_any_size_go_through_a_broker_that_takes_little_at_a_time(
    address: str, scene: Scene
):
    written = scene.write("a.log", 3000)
    with open(scene.logs / "a.log", "a") as file:
        file.write("z" * 300_000 + "\n")
    written += scene.write("a.log", 100, first=3000)

    sidecar = scene.sidecar(
        {"type": "kafka", "url": f"kafka://{address}", "topic": "little"},
        limits={"request_seconds": 60},
    ).start()
    found = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 3100, seconds=120
    )

    assert found.total("sidetail_lines_dropped_total", reason="too_large") == 1
    assert sidecar.stop() == 0
    stored = [json.loads(value)["message"] for _, _, value in read_topic(address, "little", 3100)]
    assert stored == written
