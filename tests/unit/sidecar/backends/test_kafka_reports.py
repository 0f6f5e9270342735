"""What a Kafka client's reports come to, told by the client's own errors."""

import pytest

from sidecar.backends.answers import Answer, Hold, Partly, Retry, TooLarge
from sidecar.backends.kafka_client import set_bytes
from sidecar.backends.kafka_reports import (
    Failure,
    classify_failures,
    classify_trouble,
    is_lasting,
)

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


def _error(name: str):
    return kafka.KafkaError(getattr(kafka.KafkaError, name))


def _failures(**by_place: str) -> list[Failure]:
    return [Failure(int(place[1:]), _error(name), 1000) for place, name in by_place.items()]


@pytest.mark.parametrize(
    ("failures", "count", "trouble", "expected"),
    [
        ({"_1": "_MSG_TIMED_OUT"}, 3, None, Partly(retry=(1,), rejected=())),
        (
            {"_0": "_MSG_TIMED_OUT", "_1": "_MSG_TIMED_OUT"},
            2,
            None,
            Retry("kafka_msg_timed_out"),
        ),
        (
            {"_0": "_MSG_TIMED_OUT", "_1": "_MSG_TIMED_OUT"},
            2,
            "_AUTHENTICATION",
            Hold("kafka_authentication"),
        ),
        ({"_0": "TOPIC_AUTHORIZATION_FAILED"}, 1, None, Hold("kafka_topic_authorization_failed")),
        ({"_0": "MSG_SIZE_TOO_LARGE", "_1": "MSG_SIZE_TOO_LARGE"}, 2, None, TooLarge()),
        ({"_0": "MSG_SIZE_TOO_LARGE"}, 2, None, Partly(retry=(0,), rejected=())),
        ({"_0": "MSG_SIZE_TOO_LARGE"}, 1, None, Partly(retry=(), rejected=((0, "too_large"),))),
        (
            {"_0": "INVALID_RECORD", "_2": "_MSG_TIMED_OUT"},
            3,
            None,
            Partly(retry=(2,), rejected=((0, "rejected"),)),
        ),
    ],
)
def test_reports_are_looked_at_message_by_message(
    failures: dict[str, str], count: int, trouble: str | None, expected: Answer
):
    answer = classify_failures(
        _failures(**failures), count, _error(trouble) if trouble else None, None
    )

    assert answer == expected


def test_some_complaints_are_not_worth_waiting_on():
    assert is_lasting(_error("_ALL_BROKERS_DOWN"))
    assert is_lasting(_error("_SSL"))
    assert not is_lasting(_error("_TRANSPORT"))
    assert not is_lasting(None)


def test_a_message_over_the_brokers_limit_is_refused_for_good_and_others_come_again():
    failures = _failures(_0="MSG_SIZE_TOO_LARGE", _1="MSG_SIZE_TOO_LARGE")

    assert classify_failures(failures, 3, None, 999) == Partly(
        retry=(), rejected=((0, "too_large"), (1, "too_large"))
    )
    assert classify_failures(failures, 3, None, 1000) == Partly(retry=(0, 1), rejected=())


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (None, Retry("kafka_timeout")),
        ("_ALL_BROKERS_DOWN", Retry("kafka_all_brokers_down")),
        ("_AUTHENTICATION", Hold("kafka_authentication")),
        ("_SSL", Hold("kafka_ssl")),
        ("TOPIC_AUTHORIZATION_FAILED", Hold("kafka_topic_authorization_failed")),
    ],
)
def test_a_batch_that_nobody_knows_of_is_sent_again_or_held(trouble: str | None, expected: Answer):
    assert classify_trouble(_error(trouble) if trouble else None) == expected


def test_sets_of_messages_are_what_brokers_take():
    assert set_bytes(None) == 1_000_000
    assert set_bytes(200_000) == 200_000 - 1024
    assert set_bytes(2**31) == 1_000_000
    assert set_bytes(10) == 1
