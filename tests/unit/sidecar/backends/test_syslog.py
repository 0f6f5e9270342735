"""Syslog: messages as RFC 5424 has them, and cut to what a receiver takes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import ValueProblem
from sidecar.backends.syslog import parse_message_size, parse_sd_id
from sidecar.backends.syslog_form import shorten
from sidecar.batch import Batch
from tests.batches import batch, facts, open_backend, records
from tests.fakes.syslog import Message, SyslogServer

URL = "tcp://receiver:514"


def _messages(made: Batch) -> list[Message]:
    receiver = SyslogServer()
    rest = b"".join(bytes(piece) for piece in made.pieces())
    done = 0
    while frame := receiver._frame(rest, done):
        receiver._take(frame[0])
        done = frame[1]
    assert done == len(rest)
    assert receiver.violations == []
    return receiver.messages


def _one(text: bytes, options: dict[str, Any] | None = None, **of: Any) -> Message:
    backend = open_backend("syslog", URL, **(options or {}))
    (message,) = _messages(batch(backend, (text, facts(**of))))
    return message


def test_a_plain_line_is_informational_from_its_pod_and_service(way: str):
    message = _one(b"hello\n", fields={"team": "shop"})

    assert (message.priority, message.host, message.application) == (14, "orders-1", "orders")
    assert message.time == "2023-11-14T22:13:20.123456Z"
    assert message.text == "hello"
    assert message.parameters == {
        "log.file.path": "/logs/a.log",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "orders-1",
        "k8s.container.name": "app",
        "service.name": "orders",
        "fields.team": "shop",
        "id": "f1-0",
        "offset": "0",
    }


@pytest.mark.parametrize(
    ("level", "severity"),
    [("trace", 7), ("debug", 7), ("info", 6), ("warn", 4), ("error", 3), ("fatal", 2)],
)
def test_a_severity_and_the_facility_make_the_priority(way: str, level: str, severity: int):
    text = b'{"level":"%s"}\n' % level.encode()

    message = _one(text, {"facility": "local3"}, format="json")

    assert message.priority == 19 * 8 + severity


def test_lines_of_one_record_stay_one_message(way: str):
    text = b"Traceback (most recent call last):\n  File x\nE: y\n"

    message = _one(text, multiline="python")

    assert message.text == text.decode().rstrip("\n")


def test_quotes_brackets_and_backslashes_are_escaped_in_parameters(way: str):
    message = _one(b'"]\\ "] x\n', path='/a"]\\b é')

    assert message.parameters["log.file.path"] == '/a"]\\b é'
    assert message.text == '"]\\ "] x'


def test_a_line_of_every_byte_is_one_message(way: str):
    text = bytes(byte for byte in range(1, 256) if byte != 10)

    made = batch(open_backend("syslog", URL), (text + b"\n", facts()), (b"next\n", facts()))

    first, second = _messages(made)
    assert first.text == text.decode("utf-8", "replace")
    assert second.text == "next"


def test_names_become_fields_of_the_header_without_blanks_and_within_their_length(way: str):
    attributes = {"k8s.pod.name": "a b\tc\u00e9" + "x" * 300, "service.name": "s" * 60}

    message = _one(b"x\n", attributes=attributes)

    assert message.host == ("a_b_c_" + "x" * 300)[:255]
    assert message.application == "s" * 48


def test_without_names_the_header_says_nil(way: str):
    message = _one(b"x\n", attributes={})

    assert (message.host, message.application) == ("-", "-")


def test_long_names_of_parameters_keep_their_ends(way: str):
    attributes = {
        "k8s.pod.label.app.kubernetes.io/name": "a",
        "k8s.pod.label.app.kubernetes.io/part-of": "b",
        'odd="] name': "c",
    }

    parameters = _one(b"x\n", attributes=attributes).parameters

    assert parameters["pod.label.app.kubernetes.io/name"] == "a"
    assert parameters[".label.app.kubernetes.io/part-of"] == "b"
    assert parameters["odd____name"] == "c"


def test_an_attribute_cannot_forge_an_id(way: str):
    assert _one(b"x\n", attributes={"id": "forged"}).parameters["id"] == "f1-0"


def test_a_message_is_cut_to_the_limit_and_says_so(way: str):
    text = "ж".encode() * 10_000 + b"\nshort\n"

    made = batch(open_backend("syslog", URL, max_message_bytes="4KiB"), (text, facts()))

    long, short = _messages(made)
    assert 3000 < long.size <= 4096
    assert set(long.text) == {"ж"}
    assert int(long.parameters["truncated"]) == 20_000 - len(long.text.encode())
    assert short.text == "short"
    assert "truncated" not in short.parameters


def test_what_the_line_had_lost_already_is_added(way: str):
    backend = open_backend("syslog", URL, max_message_bytes="4KiB")
    made = Batch()
    some = records(b"x" * 9000, truncated=100)
    made.add(None, some, backend.encode(some))  # type: ignore[arg-type] # nobody looks at the block

    (message,) = _messages(made)

    assert int(message.parameters["truncated"]) == 100 + 9000 - len(message.text)


_LINES = st.lists(st.binary(max_size=600).filter(lambda line: b"\n" not in line), min_size=1)


@settings(max_examples=60, deadline=None)
@given(_LINES, st.integers(4096, 5000), st.booleans())
def test_no_message_is_longer_than_the_limit_whatever_stands_in_it(
    lines: list[bytes], limit: int, joined: bool
):
    of = facts(multiline="/^START/") if joined else facts()
    backend = open_backend("syslog", URL, max_message_bytes=limit)
    text = b"".join(b"%s%s\n" % (b"x" if joined else b"", line) for line in lines * 12)

    for message in _messages(batch(backend, (text, of))):
        assert message.size <= limit


def test_records_that_fit_are_left_as_they_are():
    some = records(b"short\n" * 100)

    assert shorten(some, 5 * len("short")) is some


@pytest.mark.parametrize("name", ["a@1", "side.tail_x-y@32473.1"])
def test_a_structured_data_id_is_a_name_and_a_number(name: str):
    assert parse_sd_id(name) == name


@pytest.mark.parametrize("name", ["a", "a@", "@1", "a b@1", 'a"@1', "a@b", 3])
def test_anything_else_is_no_structured_data_id(name: object):
    with pytest.raises(ValueProblem):
        parse_sd_id(name)


@pytest.mark.parametrize("size", [0, 4095, "1KiB", None])
def test_a_message_has_room_for_its_header(size: object):
    with pytest.raises(ValueProblem):
        parse_message_size(size)
