"""OTLP: records, resources, values of every kind, and partial success."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import ValueProblem
from sidecar.backends.answers import Answer, Delivered, LeftOut
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.http_sender import HttpSender
from sidecar.backends.otlp import parse_header_name, to_any_value
from sidecar.batch import Batch
from tests.batches import READ_AT, batch, facts, open_backend
from tests.fakes.backend import Request
from tests.fakes.otlp import Collector, Record, _any

URL = "http://collector:4318"


def _sender() -> HttpSender:
    sender = open_backend("otlp", URL).sender()
    assert isinstance(sender, HttpSender)
    return sender


def _collect(made: Batch) -> Collector:
    wire = _sender()._wire
    body = b"".join(bytes(piece) for piece in wire.body(made))
    headers = (("content-type", "application/json"),)
    collector = Collector()
    collector(Request(0, 0, "POST", wire.target(), "1.1", headers, body, 0.0, 0.0))
    assert collector.violations == []
    return collector


def _one(text: bytes, **of: Any) -> Record:
    (record,) = _collect(batch(open_backend("otlp", URL), (text, facts(**of)))).records
    return record


def test_a_plain_line_is_a_record_with_its_file_and_id(way: str):
    record = _one(b"hello\n", fields={"team": "shop"})

    assert record.body == "hello"
    assert (record.time, record.observed) == (READ_AT, READ_AT)
    assert record.attributes == {
        "log.file.path": "/logs/a.log",
        "log.record.uid": "f1-0",
        "offset": 0,
    }
    assert record.resource["service.name"] == "orders"
    assert record.resource["fields.team"] == "shop"
    assert (record.severity, record.severity_number) == (None, 0)


def test_a_parsed_line_has_its_own_time_severity_and_structure(way: str):
    text = b'{"level":"warn","time":"2024-05-01T12:00:00Z","a":[1,2.5,null,{"b":true}],"c":"d"}\n'

    record = _one(text, format="json")

    assert record.time == 1714564800_000000000
    assert record.observed == READ_AT
    assert (record.severity, record.severity_number) == ("warn", 13)
    assert record.attributes["parsed"] == json.loads(text)


def test_the_bytes_of_a_line_that_is_not_utf8_are_kept(way: str):
    record = _one(b"a\xffb\n")

    assert record.body == "a�b"
    assert record.attributes["message.raw"] == b"a\xffb"


def test_each_resource_stands_once_in_a_request(way: str):
    one, other = facts(file="a"), facts(file="b", attributes={"service.name": "other"})
    parts = ((b"1\n", one), (b"2\n", other), (b"3\n", one), (b"4\n", other))

    collector = _collect(batch(open_backend("otlp", URL), *parts))

    assert collector.resources == 2
    assert [record.body for record in collector.records] == ["1", "3", "2", "4"]
    assert [record.resource["service.name"] for record in collector.records] == (
        ["orders"] * 2 + ["other"] * 2
    )


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_a_number_that_is_none_of_otlps_becomes_a_double():
    assert to_any_value(b"18446744073709551615") == b'{"doubleValue":1.8446744073709552e+19}'


@settings(max_examples=60, deadline=None)
@given(_JSON)
def test_any_json_value_comes_back_from_its_any_value(value: Any):
    try:
        text = orjson.dumps(value)
    except TypeError:  # a lone surrogate: no line of UTF-8 holds one
        return

    assert _any(orjson.loads(to_any_value(text))) == value


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Delivered()),
        (b"", Delivered()),
        (b"\n\x00protobuf", Delivered()),
        (b'{"partialSuccess":{}}', Delivered()),
        (b'{"partialSuccess":{"errorMessage":"only a warning"}}', Delivered()),
        (b'{"partialSuccess":{"rejectedLogRecords":0}}', Delivered()),
        (
            b'{"partialSuccess":{"rejectedLogRecords":"3"}}',
            Delivered(LeftOut(3, "partial_success")),
        ),
        (b'{"partialSuccess":{"rejectedLogRecords":3}}', Delivered(LeftOut(3, "partial_success"))),
        (b'{"partialSuccess":{"rejectedLogRecords":"many"}}', Delivered()),
        (b'{"partialSuccess":null}', Delivered()),
        (b'{"partialSuccess":{"rejectedLogRecords":-1}}', Delivered()),
        (b"[]", Delivered()),
    ],
)
def test_a_partial_success_is_counted(body: bytes, expected: Answer):
    assert _sender()._wire.classify(HttpAnswer(200, {}, body), Batch()) == expected


@pytest.mark.parametrize("name", ["", "a b", "a:b", "Content-Length", "Host", "a\r\nb", 3, "é"])
def test_a_keys_header_is_none_of_the_protocols(name: object):
    with pytest.raises(ValueProblem):
        parse_header_name(name)


@pytest.mark.parametrize("name", ["X-API-Key", "api-key", "Authorization", "dd_key"])
def test_other_names_of_headers_are_taken(name: str):
    assert parse_header_name(name) == name
