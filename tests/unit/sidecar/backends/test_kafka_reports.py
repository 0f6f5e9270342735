"""What a Kafka client's reports come to, told by the client's own errors."""

import pytest

from sidecar.backends.answers import Answer, Hold, Partly, Retry, TooLarge
from sidecar.backends.kafka_reports import Failure, classify_failures, is_lasting

kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")


def _error(name: str):
    return kafka.KafkaError(getattr(kafka.KafkaError, name))


def _failures(**by_place: str) -> list[Failure]:
    return [Failure(int(place[1:]), _error(name)) for place, name in by_place.items()]


@pytest.mark.parametrize(
    ("failures", "count", "trouble", "expected"),
    [
        ({}, 3, None, Retry("kafka_timeout")),
        ({}, 3, "_ALL_BROKERS_DOWN", Retry("kafka_all_brokers_down")),
        ({}, 3, "_AUTHENTICATION", Hold("kafka_authentication")),
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
    answer = classify_failures(_failures(**failures), count, _error(trouble) if trouble else None)

    assert answer == expected


def test_some_complaints_are_not_worth_waiting_on():
    assert is_lasting(_error("_ALL_BROKERS_DOWN"))
    assert is_lasting(_error("_SSL"))
    assert not is_lasting(_error("_TRANSPORT"))
    assert not is_lasting(None)
