"""A Kafka cluster of one broker: the one that librdkafka brings for tests, in its own process.

As a program (`python -m tests.fakes.kafka`) it prints where it listens, and ends with its stdin.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parent.parent.parent


class MockCluster:
    """Takes produce requests like a broker, idempotent ones too, and keeps the messages."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.kafka"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the mock cluster did not start"
        return self

    def __exit__(self, *unused: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"kafka://{self.address}"

    def stop(self) -> None:
        """End the broker; its port refuses connections then."""
        self._process.kill()
        self._process.wait()

    def messages(
        self, topic: str, count: int, *, seconds: float = 30
    ) -> list[tuple[int, bytes, bytes]]:
        """Return (partition, key, value) of `count` messages, or of as many as there are."""
        return read_topic(self.address, topic, count, seconds=seconds)


def read_topic(
    address: str, topic: str, count: int, *, seconds: float = 30
) -> list[tuple[int, bytes, bytes]]:
    """Return (partition, key, value) of `count` messages, or of as many as come in time.

    A moment is spent on looking for more than `count`.
    """
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": "test", "enable.auto.commit": False}
    )
    found: list[tuple[int, bytes, bytes]] = []
    try:
        partitions = consumer.list_topics(topic, timeout=seconds).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for message in consumer.consume(1000, timeout=0.5):
                if message.error() is None:
                    found.append(_taken(message))
            if len(found) >= count:
                until = min(until, time.monotonic() + 0.5)
    finally:
        consumer.close()
    return found


def _taken(message: Any) -> tuple[int, bytes, bytes]:
    return message.partition(), message.key(), message.value()


def main() -> None:
    """Run the broker until stdin ends."""
    from confluent_kafka import Producer

    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused:1"})
    (broker,) = producer.list_topics(timeout=30).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
