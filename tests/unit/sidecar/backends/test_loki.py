"""Loki: labels, times that increase and stay, and what its refusals mean."""

import orjson
import pytest

from runtime.settings import ValueProblem
from sidecar.backends.answers import Answer, Delivered, Hold, LeftOut, Refused, Retry
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.loki import LokiBackend, parse_tenant
from sidecar.backends.loki_labels import parse_labels
from sidecar.backends.loki_refusals import classify_refusal
from sidecar.batch import Batch
from tests.batches import READ_AT, batch, facts, open_backend, pick

URL = "http://loki:3100"


def _entries(made: Batch) -> list[list[object]]:
    pieces = b"".join(bytes(piece) for piece in made.pieces())
    found: list[list[object]] = orjson.loads(b"[" + pieces[:-2] + b"]")
    return found


def _times(made: Batch) -> list[int]:
    return [int(str(entry[0])) for entry in _entries(made)]


def _backend(**options: object) -> LokiBackend:
    made = open_backend("loki", URL, **options)
    assert isinstance(made, LokiBackend)
    return made


def test_lines_without_a_time_of_their_own_are_a_nanosecond_apart(way: str):
    made = batch(_backend(), (b"a\nb\nb\n", facts()))

    assert _times(made) == [READ_AT, READ_AT + 1, READ_AT + 2]


def test_times_of_their_own_that_stand_still_are_moved_a_nanosecond(way: str):
    cri = b"2024-05-01T12:00:00.5Z stdout F x\n" * 3
    made = batch(_backend(), (cri, facts(format="cri")))

    first = 1714564800_500000000
    assert _times(made) == [first, first + 1, first + 2]


def test_a_time_that_goes_far_back_is_left_as_it_is(way: str):
    cri = b"2024-05-01T12:00:00Z stdout F x\n2024-05-01T11:00:00Z stdout F x\n"

    first, second = _times(batch(_backend(), (cri, facts(format="cri"))))

    assert first - second == 3600_000000000


def test_blocks_of_one_stream_follow_each_other_whatever_the_clock_says(way: str):
    one, other = facts(file="a"), facts(file="b")
    backend = _backend(labels=["k8s.pod.name"])

    made = batch(backend, (b"x\n" * 1000, one), (b"x\n" * 1000, other), (b"x\n", one))

    times = _times(made)
    assert len(set(times)) == 2001
    assert times == sorted(times)


def test_each_file_is_a_stream_of_its_own_unless_the_operator_says_otherwise():
    backend, one, other = _backend(), facts(path="/a"), facts(path="/b")

    assert backend.stream(one) != backend.stream(other)
    assert _backend(labels=["service.name"]).stream(one) == b'"service_name":"orders"'


def test_a_stream_without_any_of_the_labels_is_an_unknown_service():
    backend = _backend(labels=["no.such"])

    assert backend.stream(facts()) == b'"service_name":"unknown_service"'


def test_what_is_no_label_is_structured_metadata(way: str):
    of = facts(
        fields={"team": "shop"},
        attributes={"k8s.pod.name": "p", "k8s.node.name": "n", "k8s.pod.label.a/b": "c"},
    )
    backend = _backend()

    ((_, line, metadata),) = _entries(batch(backend, (b"hello\n", of)))

    assert backend.stream(of) == b'"log_file_path":"/logs/a.log","k8s_pod_name":"p"'
    assert line == "hello"
    assert metadata == {
        "k8s_node_name": "n",
        "k8s_pod_label_a_b": "c",
        "fields_team": "shop",
        "id": "f1-0",
        "offset": "0",
    }


def test_an_attribute_cannot_forge_a_fact_of_ours(way: str):
    of = facts(attributes={"id": "forged", "log_file_path": "/forged", "offset": "7"})

    ((_, _, metadata),) = _entries(batch(_backend(), (b"x\n", of)))

    assert metadata == {"id": "f1-0", "offset": "0"}


def test_a_field_can_be_a_label():
    backend = _backend(labels=["fields.team"])

    assert backend.stream(facts(fields={"team": "shop"})) == b'"fields_team":"shop"'


def test_a_label_is_cut_to_what_loki_takes():
    labels = orjson.loads(b"{" + _backend().stream(facts(path="/" + "é" * 3000)) + b"}")

    assert len(labels["log_file_path"].encode()) in (2047, 2048)


def test_picked_entries_keep_the_times_that_they_were_sent_with(way: str):
    backend = _backend()
    whole = batch(backend, (b"same\n" * 10, facts()))
    times = _times(whole)
    batch(backend, (b"later\n", facts()))

    picked = pick(backend, whole, [2, 3, 7])
    again = pick(backend, picked, [1])

    assert _times(picked) == [times[2], times[3], times[7]]
    assert _times(again) == [times[3]]
    assert _entries(picked) == [_entries(whole)[index] for index in (2, 3, 7)]


def test_a_line_of_every_byte_is_one_entry(way: str):
    text = bytes(byte for byte in range(256) if byte != 10)

    entries = _entries(batch(_backend(), (text + b"\n", facts()), (b"next\n", facts())))

    assert len(entries) == 2
    assert entries[0][1] == text.lstrip(b"\0").decode("utf-8", "replace")


TOO_OLD = (
    "entry for stream '{a=\"b\"}' has timestamp too old: 2020-01-01T00:00:00Z, "
    "oldest acceptable timestamp is: 2024-01-01T00:00:00Z"
)
TOO_NEW = "entry for stream '{a=\"it's\"}' has timestamp too new: 2999-01-01T00:00:00Z"
TOO_LONG = (
    "max entry size '262144' bytes exceeded for stream '{a=\"b\"}' while adding an entry with "
    "length '300000' bytes"
)
BEHIND = (
    "entry with timestamp 2024-05-01 12:00:00 +0000 UTC ignored, reason: 'entry too far behind, "
    "entry timestamp is: 2024-05-01T12:00:00Z, oldest acceptable timestamp is: "
    "2024-05-01T13:00:00Z',\nuser 'fake', total ignored: 3 out of 10 for stream: {a=\"b\"}"
)
OUT_OF_ORDER = BEHIND.replace("entry too far behind", "entry out of order")
RATE = BEHIND.replace("entry too far behind", "Per stream rate limit exceeded")


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (400, BEHIND, Delivered(LeftOut(3, "too_old"))),
        (400, OUT_OF_ORDER, Delivered(LeftOut(3, "too_old"))),
        (400, TOO_OLD, Delivered(LeftOut(1, "too_old"))),
        (400, TOO_OLD + "\n", Delivered(LeftOut(1, "too_old"))),
        (400, TOO_NEW, Delivered(LeftOut(1, "too_new"))),
        (400, f"7 errors like: {TOO_OLD}", Delivered(LeftOut(7, "too_old"))),
        (
            400,
            f"7 errors like: {TOO_NEW}; 2 errors like: {TOO_OLD}",
            Delivered(LeftOut(9, "too_old")),
        ),
        (400, TOO_LONG, Refused("status_400")),
        (400, f"1 errors like: {TOO_OLD}; 1 errors like: {TOO_LONG}", Refused("status_400")),
        (400, f"1 errors like: {TOO_LONG}; 1 errors like: {TOO_OLD}", Refused("status_400")),
        (400, RATE, Refused("status_400")),
        (400, "entry too far behind", Refused("status_400")),
        (400, "", Refused("status_400")),
        (422, "error at least one valid stream is required", Refused("status_422")),
        (429, BEHIND, Retry("status_429")),
        (500, BEHIND, Retry("status_500")),
        (401, BEHIND, Hold("status_401")),
    ],
)
def test_only_refusals_for_times_are_an_acknowledgement(status: int, text: str, expected: Answer):
    assert classify_refusal(HttpAnswer(status, {}, text.encode()), 10) == expected


def test_an_answer_that_does_not_speak_of_every_line_is_not_enough():
    assert classify_refusal(HttpAnswer(400, {}, BEHIND.encode()), 11) == Refused("status_400")


@pytest.mark.parametrize("tenant", ["shop", "a.b_c-d*e'(f)!", "a" * 150])
def test_a_tenant_is_what_loki_takes_for_one(tenant: str):
    assert parse_tenant(tenant) == tenant


@pytest.mark.parametrize(
    "tenant", ["", "..", "a b", "$namespace", "a\r\nX: y", "a" * 151, 5, "a|b"]
)
def test_anything_else_is_no_tenant(tenant: object):
    with pytest.raises(ValueProblem):
        parse_tenant(tenant)


@pytest.mark.parametrize("labels", ["a", [""], [1], ["a"] * 16, {"a": "b"}])
def test_labels_are_a_list_of_at_most_fifteen_names(labels: object):
    with pytest.raises(ValueProblem):
        parse_labels(labels)
