"""A real Kafka broker in KRaft mode: lines written = messages in the topic, kills included."""

import base64
import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Partly, Retry
from sidecar.batch import Batch
from tests.batches import batch, facts, open_backend
from tests.fakes.kafka import read_topic
from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.servers.jvm import class_path, java
from tests.servers.programs import running
from tests.sidecar_process import Sidecar, free_port

kafka = pytest.importorskip("kafka", reason="the extra kafka is not installed")
pytest.importorskip("confluent_kafka", reason="the consumer is not installed")

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/server.pem
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_us="right";
listener.name.secure.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
log.dirs={folder}/data
offsets.topic.replication.factor=1
num.partitions=3
message.max.bytes=200000
"""
LOGIN = "org.apache.kafka.common.security"
SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


class Broker:
    """A broker that takes 200 kB at most at a time; it can be killed, and comes back."""

    def __init__(self, folder: Path, jars: str, trust: Trust) -> None:
        self._folder = folder
        self._ports = free_port(), free_port()
        self.address = f"127.0.0.1:{self._ports[0]}"
        self.secure_address = f"127.0.0.1:{self._ports[1]}"
        self._properties = folder / "server.properties"
        self._properties.write_text(
            PROPERTIES.format(
                port=self._ports[0],
                secure=self._ports[1],
                controller=free_port(),
                folder=folder,
                login=LOGIN,
            )
        )
        (folder / "server.pem").write_bytes(
            trust.key.read_bytes() + trust.certificate.read_bytes() + trust.ca.read_bytes()
        )
        self._java = [java(), "-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", jars]
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = contextlib.ExitStack()

    def format(self) -> None:
        """Make the folder of its data, and the users of SCRAM."""
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        users = [f"--add-scram={name}=[name=us,password=right]" for name in SCRAM]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        subprocess.run([*self._java, *tool, *users], check=True, capture_output=True, timeout=120)

    def start(self) -> None:
        """Run it until `close`."""
        command = [*self._java, "kafka.Kafka", str(self._properties)]
        self._process = self._stack.enter_context(running(command, self._folder, ports=self._ports))

    def kill(self) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it."""
        self._stack.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, trust: Trust) -> Iterator[Broker]:
    """A broker that runs."""
    folder = tmp_path_factory.mktemp("kafka")
    with class_path("kafka", folder) as jars:
        made = Broker(folder, jars, trust)
        try:
            made.format()
            made.start()
            yield made
        finally:
            made.close()


@pytest.fixture
def address(broker: Broker) -> str:
    """Where it listens."""
    return broker.address


def _version() -> str:
    return f"Kafka 4.0.0 (KRaft), kafka-python {kafka.__version__}"


def _answer(backend: Backend, made: Batch) -> Answer:
    """Return what a batch comes to at last: a broker that has just started wants patience."""
    until = time.monotonic() + 60
    sender = backend.sender()
    try:
        while True:
            answer = sender.attempt(made, seconds=60)
            if not isinstance(answer, Retry) or time.monotonic() > until:
                return answer
            time.sleep(0.1)
    finally:
        sender.close()


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


def test_what_the_broker_takes_at_a_time_is_learnt_and_what_it_never_takes_is_rejected(
    address: str,
):
    backend = open_backend("kafka", f"kafka://{address}", topic="sizes", request_seconds=60)
    lines = (b"y" * 900 + b"\n") * 600

    answer = _answer(backend, batch(backend, (lines + b"z" * 300_000 + b"\n" + lines, facts())))

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


def _wait_for_acknowledged(sidecar: Sidecar, lines: int) -> None:
    sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") >= lines, seconds=180
    )


def test_a_broker_that_is_killed_and_comes_back_has_every_line_once_and_in_order(
    broker: Broker, scene: Scene
):
    written = {name: scene.write(name, 6000) for name in ("a.log", "b.log")}
    row = {"type": "kafka", "url": f"kafka://{broker.address}", "topic": "broken"}
    limits = {"batch_bytes": "30KiB", "request_seconds": 60, "max_rate": "1MiB"}
    sidecar = scene.sidecar(row, limits=limits).start()
    for turn in range(2):
        _wait_for_acknowledged(sidecar, 1000 + 3000 * turn)
        broker.kill()
        broker.start()
    _wait_for_acknowledged(sidecar, 12_000)
    assert sidecar.stop() == 0

    found = read_topic(broker.address, "broken", 12_000)
    messages = [json.loads(value)["message"] for _, _, value in found]
    for name, lines in written.items():
        assert [message for message in messages if message.startswith(f"{name} ")] == lines
    print(f"{_version()}, broker killed twice: 12000 lines written, {len(found)} stored")


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_who_knows_the_password_is_let_in_over_tls(
    broker: Broker, trust: Trust, tmp_path: Path, mechanism: str, compression: str
):
    url = f"tls://{broker.secure_address}"
    topic = f"secure-{mechanism}-{compression}"
    secret = trust.secret(tmp_path / "secret", username="us", password="right")
    backend = open_backend(
        "kafka", url, topic=topic, sasl_mechanism=mechanism, credentials_dir=secret,
        compression=compression, request_seconds=60,
    )  # fmt: skip

    assert _answer(backend, batch(backend, (b"a\nb\n" * 500, facts()))) == Delivered()

    assert len(read_topic(broker.address, topic, 1000)) == 1000


@pytest.mark.parametrize("mechanism", ["PLAIN", *SCRAM])
def test_who_does_not_know_it_is_held(broker: Broker, trust: Trust, tmp_path: Path, mechanism: str):
    secret = trust.secret(tmp_path / "secret", username="us", password="wrong")
    backend = open_backend(
        "kafka", f"tls://{broker.secure_address}", sasl_mechanism=mechanism, credentials_dir=secret
    )

    answer = _answer(backend, batch(backend, (b"a\n", facts())))

    assert answer == Hold("kafka_sasl_authentication_failed")
