"""Kafka against brokers that refuse, lie, move and break off: what is stored, and how often."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.backends.answers import Answer, Delivered, Hold, Partly, Refused, Retry
from tests.batches import batch, facts, open_backend, pick
from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.sidecar_process import eventually

pytest.importorskip("kafka", reason="the extra kafka is not installed")

from sidecar.backends import kafka_cluster
from sidecar.backends.kafka_producer import partition_of
from tests.fakes.kafka_brokers import (
    INVALID_RECORD,
    NOT_LEADER,
    OUT_OF_ORDER,
    TOO_LARGE,
    Brokers,
    Offer,
    Reply,
)

TOPIC_AUTHORIZATION_FAILED, UNKNOWN_TOPIC, REQUEST_TIMED_OUT, DUPLICATE = 29, 3, 7, 46
NOT_ENOUGH_REPLICAS, INVALID_TIMESTAMP = 19, 32


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    """Three brokers with three partitions."""
    with Brokers(nodes=3) as made:
        yield made
    assert made.violations == []


class Client:
    """A backend with one sender."""

    def __init__(self, url: str, **options: Any) -> None:
        self.backend = open_backend("kafka", url, **options)
        self.sender = self.backend.sender()

    def attempt(self, made: Any, *, seconds: float = 30) -> Answer:
        return self.sender.attempt(made, seconds=seconds)

    def batch(self, *texts: bytes) -> Any:
        return batch(self.backend, *((text, facts(file=f"f{n}")) for n, text in enumerate(texts)))


@pytest.fixture
def client(brokers: Brokers) -> Iterator[Client]:
    made = Client(brokers.url)
    yield made
    made.sender.close()


def _messages(values: list[bytes]) -> list[str]:
    return [json.loads(value)["message"] for value in values]


def _numbered(count: int, *, size: int = 0) -> bytes:
    return b"".join(b"%d%s\n" % (number, b"x" * size) for number in range(count))


class Script:
    """Replies in turn, then the last one for good."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)

    def __call__(self, offer: Offer) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def test_every_partition_goes_to_its_leader_and_a_file_to_one_partition(
    brokers: Brokers, client: Client
):
    texts = [b"".join(b"%d %d\n" % (file, line) for line in range(50)) for file in range(12)]

    assert client.attempt(client.batch(*texts)) == Delivered()

    assert len(brokers.stored) == 600
    assert {offer.node for offer in brokers.offers} == {0, 1, 2}
    for file in range(12):
        partition = partition_of(b"f%d" % file, 3)
        found = _messages(brokers.in_partition(partition))
        mine = [message for message in found if message.startswith(f"{file} ")]
        assert mine == [f"{file} {line}" for line in range(50)]
    assert {message.key for message in brokers.stored} == {b"f%d" % file for file in range(12)}
    assert client.sender.sent_bytes > sum(len(value) for value in brokers.texts)


def test_the_time_of_a_message_is_when_its_line_was_read(brokers: Brokers, client: Client):
    client.attempt(client.batch(b"a\n"))

    assert [message.time for message in brokers.stored] == [1_700_000_000_123]


def test_what_was_stored_before_the_answer_was_lost_is_not_stored_twice(
    brokers: Brokers, client: Client
):
    made = client.batch(_numbered(100))
    brokers.reply = Script("store-and-hang-up", 0)

    assert client.attempt(made) == Retry("connection")
    assert client.attempt(made) == Delivered()

    assert _messages(brokers.texts) == [str(number) for number in range(100)]
    assert brokers.duplicates == 1
    assert brokers.producers == 1


def test_an_answer_that_never_comes_is_not_waited_for_beyond_the_deadline(
    brokers: Brokers, client: Client
):
    made = client.batch(_numbered(100))
    brokers.reply = Script(0, "store-and-say-nothing", 0)
    assert client.attempt(client.batch(b"first\n")) == Delivered()

    assert client.attempt(made, seconds=1) == Retry("timeout")
    assert client.attempt(made) == Delivered()

    assert _messages(brokers.texts) == ["first", *(str(number) for number in range(100))]
    assert brokers.producers == 1


def test_what_is_not_known_never_lends_its_number_to_other_lines(brokers: Brokers, client: Client):
    brokers.reply = Script("store-and-hang-up", 0)
    whole = client.batch(_numbered(100))
    assert isinstance(client.attempt(whole), Retry)

    # As many lines as before, to the same partition: under the old number they would be taken
    # for the first ones and be thrown away.
    others = pick(client.backend, client.batch(_numbered(200)), range(100, 200))
    answers = [client.attempt(others), client.attempt(others)]

    assert answers == [Retry("kafka_new_producer"), Delivered()]
    assert _messages(brokers.texts) == [str(number) for number in range(200)]
    assert brokers.producers == 2


def test_a_lost_request_is_sent_again_under_its_number(brokers: Brokers, client: Client):
    made = client.batch(_numbered(10))
    brokers.reply = Script("lose", 0)

    assert client.attempt(made) == Retry("connection")
    assert client.attempt(made) == Delivered()

    assert [offer.sequence for offer in brokers.offers] == [0, 0]
    assert len(brokers.stored) == 10


def test_numbers_go_on_from_batch_to_batch(brokers: Brokers, client: Client):
    for _ in range(7):
        assert client.attempt(client.batch(_numbered(10))) == Delivered()

    assert [offer.sequence for offer in brokers.offers] == [0, 10, 20, 30, 40, 50, 60]


def test_a_producer_that_the_broker_does_not_know_is_replaced(brokers: Brokers, client: Client):
    made = client.batch(_numbered(10))
    brokers.reply = Script(OUT_OF_ORDER, 0)

    assert client.attempt(made) == Retry("kafka_out_of_order_sequence_number")
    assert client.attempt(made) == Delivered()

    assert brokers.producers == 2
    assert len(brokers.stored) == 10


@pytest.mark.parametrize("reply", ["garbage", "flood", "empty"])
def test_an_answer_that_is_none_is_a_retry(brokers: Brokers, client: Client, reply: Reply):
    made = client.batch(b"a\n")
    brokers.reply = Script(reply, 0)

    assert client.attempt(made) == Retry("protocol")
    assert client.attempt(made) == Delivered()


def test_a_leader_that_moved_is_looked_for(brokers: Brokers, client: Client):
    made = client.batch(b"a\n")
    partition = partition_of(b"f0", 3)
    assert client.attempt(made) == Delivered()
    brokers.leaders[partition] = (brokers.leaders[partition] + 1) % 3

    assert client.attempt(client.batch(b"b\n")) == Retry("kafka_not_leader_for_partition")
    assert client.attempt(client.batch(b"b\n")) == Delivered()

    assert _messages(brokers.texts) == ["a", "b"]


def test_a_broker_that_died_is_done_without_when_its_partitions_have_moved(
    brokers: Brokers, client: Client
):
    texts = [_numbered(5)] * 12
    assert client.attempt(client.batch(*texts)) == Delivered()
    brokers.servers[0].down()

    answer = client.attempt(client.batch(*texts))
    assert isinstance(answer, Partly)
    assert {offer.node for offer in brokers.offers[3:]} == {1, 2}, "the others go on"
    assert answer.rejected == ()

    brokers.leaders = {each: 1 + each % 2 for each in range(3)}
    again = batch(client.backend, (_numbered(5), facts(file=_in_partition(0))))
    assert client.attempt(again) == Delivered()


def _in_partition(partition: int) -> str:
    return next(f"f{n}" for n in range(100) if partition_of(b"f%d" % n, 3) == partition)


def test_a_partition_without_a_leader_waits_and_the_others_do_not(brokers: Brokers, client: Client):
    brokers.leaders[1] = -1
    names = [_in_partition(partition) for partition in range(3)]
    made = batch(client.backend, *((_numbered(4), facts(file=name)) for name in names))

    assert client.attempt(made) == Partly(retry=(4, 5, 6, 7), rejected=())
    alone = batch(client.backend, (_numbered(4), facts(file=names[1])))
    assert client.attempt(alone) == Retry("kafka_leader_not_available")


def test_what_a_broker_takes_at_a_time_is_learnt_and_lines_keep_their_order(
    brokers: Brokers, client: Client
):
    brokers.max_batch_bytes = 30_000
    text = _numbered(1000, size=300)

    assert client.attempt(client.batch(text)) == Delivered()

    assert [message.rstrip("x") for message in _messages(brokers.texts)] == [
        str(number) for number in range(1000)
    ]
    refused = [offer for offer in brokers.offers if offer.size > 30_000]
    assert len(refused) <= 6
    before = len(brokers.offers)
    assert client.attempt(client.batch(text)) == Delivered()
    assert all(offer.size <= 30_000 for offer in brokers.offers[before:]), "it is remembered"


def test_a_line_that_no_broker_takes_is_rejected_alone_and_leaves_the_limit_as_it_is(
    brokers: Brokers, client: Client
):
    text = _numbered(500) + b"z" * 2_000_000 + b"\n" + _numbered(500)

    assert client.attempt(client.batch(text)) == Partly(retry=(), rejected=((500, "too_large"),))

    assert len(brokers.stored) == 1000
    assert len(brokers.offers) == 3


def test_a_broker_that_takes_nothing_is_not_asked_for_ever(brokers: Brokers, client: Client):
    brokers.max_batch_bytes = 1

    answer = client.attempt(client.batch(_numbered(3000)))

    assert isinstance(answer, Partly)
    assert len(answer.rejected) == 20
    assert len(brokers.offers) < 50


def test_records_that_the_broker_names_are_rejected_and_the_others_come_again(
    brokers: Brokers, client: Client
):
    brokers.reply = Script(INVALID_RECORD, 0)
    brokers.blame = [1, 3, 99]
    whole = client.batch(_numbered(5))

    assert client.attempt(whole) == Partly(
        retry=(0, 2, 4), rejected=((1, "rejected"), (3, "rejected"))
    )
    assert client.attempt(pick(client.backend, whole, [0, 2, 4])) == Delivered()

    assert _messages(brokers.texts) == ["0", "2", "4"]
    assert brokers.producers == 1, "it is certain that the first ones are not there"


def test_a_batch_that_is_refused_without_a_word_is_to_be_halved(brokers: Brokers, client: Client):
    brokers.reply = Script(INVALID_RECORD)

    assert client.attempt(client.batch(_numbered(5))) == Refused("rejected")
    assert client.attempt(client.batch(b"a\n")) == Partly(retry=(), rejected=((0, "rejected"),))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (TOPIC_AUTHORIZATION_FAILED, Hold("kafka_topic_authorization_failed")),
        (REQUEST_TIMED_OUT, Retry("kafka_request_timed_out")),
        (NOT_ENOUGH_REPLICAS, Retry("kafka_not_enough_replicas")),
        (NOT_LEADER, Retry("kafka_not_leader_for_partition")),
        (9999, Retry("kafka_error_9999")),
        (DUPLICATE, Delivered()),
        (INVALID_TIMESTAMP, Partly(retry=(), rejected=((0, "rejected"),))),
        (TOO_LARGE, Partly(retry=(), rejected=((0, "too_large"),))),
    ],
)
def test_an_errors_code_says_what_becomes_of_a_line(
    brokers: Brokers, client: Client, code: int, expected: Answer
):
    brokers.reply = Script(code)

    assert client.attempt(client.batch(b"a\n")) == expected


def test_a_topic_that_is_not_there_holds_after_a_while(
    brokers: Brokers, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kafka_cluster, "_CREATION_SECONDS", 0.5)
    brokers.topic_error = UNKNOWN_TOPIC

    assert client.attempt(client.batch(b"a\n")) == Hold("kafka_unknown_topic_or_partition")
    assert brokers.asked_metadata > 1, "it may just be being made"


def test_a_topic_without_partitions_is_a_retry_after_a_while(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kafka_cluster, "_CREATION_SECONDS", 0.5)
    with Brokers(partitions=0) as brokers:
        client = Client(brokers.url)
        assert client.attempt(client.batch(b"a\n")) == Retry("kafka_leader_not_available")
        client.sender.close()


def test_another_of_the_first_brokers_is_asked_if_one_is_down(brokers: Brokers):
    brokers.servers[0].down()
    second = f"127.0.0.1:{brokers.servers[1].port}"
    client = Client(brokers.url, brokers=[second])
    brokers.leaders = dict.fromkeys(range(3), 1)

    assert client.attempt(client.batch(b"a\n")) == Delivered()
    client.sender.close()


def test_a_broker_of_a_link_local_name_is_not_connected_to():
    with Brokers(named_host="169.254.169.254") as brokers:
        client = Client(brokers.url)
        assert client.attempt(client.batch(b"a\n")) == Retry("link_local")
        client.sender.close()


def test_brokers_that_share_an_address_are_asked_at_once():
    with Brokers(nodes=3, one_address=True) as brokers:
        client = Client(brokers.url)
        assert client.attempt(client.batch(*[_numbered(5)] * 12)) == Delivered()
        client.sender.close()
    assert len(brokers.stored) == 60


@pytest.mark.parametrize("newest", range(3, 8))
def test_older_brokers_are_spoken_to_as_they_understand_it(newest: int):
    with Brokers(produce_versions=(0, newest)) as brokers:
        client = Client(brokers.url)
        assert client.attempt(client.batch(b"a\n")) == Delivered()
        brokers.reply = Script(INVALID_RECORD)
        assert client.attempt(client.batch(b"a\nb\n")) == Refused("rejected")
        client.sender.close()
    assert brokers.violations == []


@pytest.mark.parametrize("versions", [(0, 2), (9, 12)])
def test_brokers_too_old_or_too_new_for_us_hold(versions: tuple[int, int]):
    with Brokers(produce_versions=versions) as brokers:
        client = Client(brokers.url)
        assert client.attempt(client.batch(b"a\n")) == Hold("kafka_incompatible_broker")
        client.sender.close()


@pytest.mark.parametrize(
    ("password", "mechanisms", "expected"),
    [
        ("right", ("PLAIN",), Delivered()),
        ("wrong", ("PLAIN",), Hold("kafka_sasl_authentication_failed")),
        ("right", ("GSSAPI",), Hold("kafka_unsupported_sasl_mechanism")),
    ],
)
def test_who_logs_in_is_let_in(
    trust: Trust, tmp_path: Path, password: str, mechanisms: tuple[str, ...], expected: Answer
):
    secret = trust.secret(tmp_path / "secret", username="us", password=password)
    with Brokers(users={"us": "right"}, mechanisms=mechanisms, tls=trust.server()) as brokers:
        client = Client(brokers.url, credentials_dir=secret)
        assert client.attempt(client.batch(b"a\n")) == expected
        client.sender.close()
    assert brokers.violations == []


def test_a_password_that_was_put_right_is_used(trust: Trust, tmp_path: Path):
    secret = trust.secret(tmp_path / "secret", username="us", password="wrong")
    with Brokers(users={"us": "right"}) as brokers:
        client = Client(brokers.url, credentials_dir=secret)
        made = client.batch(b"a\n")
        assert isinstance(client.attempt(made), Hold)
        (tmp_path / "secret" / "password").write_text("right\n")
        assert client.attempt(made) == Delivered()
        client.sender.close()


def test_a_certificate_of_somebody_else_is_not_sent_to(
    other_trust: Trust, trust: Trust, tmp_path: Path
):
    with Brokers(tls=other_trust.server()) as brokers:
        client = Client(brokers.url, credentials_dir=trust.secret(tmp_path / "secret"))
        assert client.attempt(client.batch(b"a\n")) == Retry("tls")
        client.sender.close()
    assert brokers.asked_metadata == 0


def test_a_client_certificate_is_shown(trust: Trust, tmp_path: Path):
    with Brokers(tls=trust.server(asks_client=True)) as brokers:
        client = Client(brokers.url, credentials_dir=trust.client_secret(tmp_path / "secret"))
        assert client.attempt(client.batch(b"a\n")) == Delivered()
        client.sender.close()


def test_whatever_brokers_do_every_line_is_there_in_order_and_once(scene: Scene):
    written = {name: scene.write(name, 3000) for name in ("a.log", "b.log", "c.log")}
    turn = iter(range(10**6))
    trouble: list[Reply] = [
        0, "store-and-hang-up", 0, NOT_LEADER, "lose", 0, NOT_ENOUGH_REPLICAS, 0, "garbage",
    ]  # fmt: skip

    def reply(offer: Offer) -> Reply:
        place = next(turn)
        return trouble[place % len(trouble)] if place < 60 else 0

    with Brokers(nodes=3, max_batch_bytes=50_000, reply=reply) as brokers:
        scene.ship(
            {"type": "kafka", "url": brokers.url, "compression": "gzip"},
            limits={"batch_bytes": "200KiB", "drain_seconds": 120},
        )

    assert brokers.violations == []
    stored = _messages(brokers.texts)
    for name, lines in written.items():
        assert [message for message in stored if message.startswith(f"{name} ")] == lines


def test_without_compression_and_with_it_the_messages_are_the_same(brokers: Brokers):
    for compression in ("none", "gzip"):
        client = Client(brokers.url, compression=compression)
        assert client.attempt(client.batch(_numbered(1000))) == Delivered()
        client.sender.close()

    assert [offer.compressed for offer in brokers.offers] == [False, True]
    assert brokers.offers[0].texts == brokers.offers[1].texts
    assert brokers.offers[1].size < brokers.offers[0].size / 4


def test_a_batch_given_up_for_want_of_brokers_is_said_and_nothing_is_dropped(scene: Scene):
    scene.write("a.log", 10)
    with Brokers(topic_error=TOPIC_AUTHORIZATION_FAILED) as brokers:
        sidecar = scene.sidecar({"type": "kafka", "url": brokers.url}).start()
        eventually(lambda: sidecar.said("a backend is held", "kafka_topic_authorization_failed"))
        assert sidecar.metric("sidetail_lines_dropped_total") == 0
        brokers.topic_error = 0
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 10
        )
        assert sidecar.stop() == 0
