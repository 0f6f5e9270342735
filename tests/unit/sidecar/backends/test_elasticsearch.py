"""Elasticsearch: documents in ECS names, and a bulk answer read item by item."""

from typing import Any

import orjson
import pytest

from runtime.settings import ValueProblem
from sidecar.backends.answers import Answer, Delivered, Hold, Partly, Retry
from sidecar.backends.bulk_answer import classify_items
from sidecar.backends.elasticsearch import ElasticsearchBackend, parse_index, parse_pipeline
from sidecar.backends.http_sender import HttpSender
from sidecar.batch import Batch
from tests.batches import ATTRIBUTES, batch, facts, open_backend

URL = "http://es:9200"


def _items(made: Batch) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    lines = b"".join(bytes(piece) for piece in made.pieces()).split(b"\n")
    assert lines.pop() == b""
    return [
        (orjson.loads(action), orjson.loads(document))
        for action, document in zip(lines[::2], lines[1::2], strict=True)
    ]


def _document(text: bytes, **of: Any) -> dict[str, Any]:
    ((_, document),) = _items(batch(open_backend("elasticsearch", URL), (text, facts(**of))))
    return document


def test_every_record_is_created_under_its_id(way: str):
    made = batch(open_backend("elasticsearch", URL), (b"a\nb\n", facts(file="abc")))

    assert [action for action, _ in _items(made)] == [
        {"create": {"_index": "logs-sidetail-default", "_id": "abc-0"}},
        {"create": {"_index": "logs-sidetail-default", "_id": "abc-2"}},
    ]


def test_facts_stand_under_the_names_of_the_common_schema(way: str):
    text = b'{"level":"error","a":1,"ts":"2024-05-01T12:00:00Z"}\n'
    attributes = {
        **ATTRIBUTES,
        "k8s.cluster.name": "prod",
        "k8s.pod.label.app.kubernetes.io/name": "x",
        "other.name": "kept",
    }

    document = _document(
        text, format="json", fields={"team.name": "shop"}, attributes=attributes, path="/v/a.log"
    )

    assert document == {
        "@timestamp": "2024-05-01T12:00:00.000000000Z",
        "ecs.version": "8.11.0",
        "log.file.path": "/v/a.log",
        "kubernetes.namespace": "shop",
        "kubernetes.pod.name": "orders-1",
        "kubernetes.container.name": "app",
        "kubernetes.labels": {"app_kubernetes_io/name": "x"},
        "orchestrator.cluster.name": "prod",
        "service.name": "orders",
        "other.name": "kept",
        "labels": {"team_name": "shop"},
        "log.offset": 0,
        "log.level": "error",
        "parsed": {"level": "error", "a": 1, "ts": "2024-05-01T12:00:00Z"},
        "message": text.decode().rstrip("\n"),
    }


def test_bytes_that_are_not_utf8_are_kept_beside_the_message(way: str):
    document = _document(b"a\xffb\n")

    assert (document["message"], document["message_raw"]) == ("a�b", "Yf9i")


def test_the_stream_of_a_cri_line_is_told(way: str):
    document = _document(b"2024-05-01T12:00:00Z stderr F x\n", format="cri")

    assert (document["log.iostream"], document["message"]) == ("stderr", "x")


@pytest.mark.parametrize(
    "name", ["@timestamp", "message", "message.x", "log.level", "parsed", "labels.x", "kubernetes"]
)
def test_an_attribute_cannot_take_the_place_of_a_fact(name: str):
    document = _document(b"x\n", attributes={name: "forged"})

    assert "forged" not in document.values()


def _target(url: str, **options: Any) -> str:
    backend = open_backend("elasticsearch", url, **options)
    assert isinstance(backend, ElasticsearchBackend)
    sender = backend.sender()
    assert isinstance(sender, HttpSender)
    return sender._wire.target()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://es:9200", "/_bulk?"),
        ("http://es:9200/", "/_bulk?"),
        ("http://es:9200/_bulk", "/_bulk?"),
        ("http://es:9200/_bulk/", "/_bulk?"),
        ("http://proxy/es/", "/es/_bulk?"),
        ("http://es:9200/?a=b", "/_bulk?a=b&"),
    ],
)
def test_the_protocols_path_follows_the_base(url: str, path: str):
    assert _target(url) == path + "filter_path=errors,items.*.status"


def test_a_pipeline_is_asked_for_in_the_query():
    assert _target(URL, pipeline="a/b").endswith("&pipeline=a%2Fb")


def _answer(*statuses: int, **more: Any) -> bytes:
    items = [{"create": {"status": status}} for status in statuses]
    errors = any(status >= 400 for status in statuses)
    return orjson.dumps({"errors": errors, "items": items, **more})


@pytest.mark.parametrize(
    ("body", "count", "expected"),
    [
        (_answer(201, 201), 2, Delivered()),
        (_answer(200, 409), 2, Delivered()),
        (_answer(409, 409), 2, Delivered()),
        (b'{"took":3,' + _answer(201, 201)[1:], 2, Delivered()),
        (_answer(429, 201, 400), 3, Partly(retry=(0,), rejected=((2, "rejected"),))),
        (_answer(400, 400), 2, Partly(retry=(), rejected=((0, "rejected"), (1, "rejected")))),
        (_answer(201, 503, 500, 408), 4, Partly(retry=(1, 2, 3), rejected=())),
        (_answer(201, 403, 404, 401), 4, Partly(retry=(1, 2, 3), rejected=())),
        (_answer(429, 429), 2, Retry("item_status_429")),
        (_answer(503, 403), 2, Hold("item_status_403")),
        (_answer(403, 403), 2, Hold("item_status_403")),
        (_answer(400, 429), 2, Partly(retry=(1,), rejected=((0, "rejected"),))),
        (_answer(201), 2, Retry("answer_incomplete")),
        (_answer(201, 201, 201), 2, Retry("answer_incomplete")),
        (b'{"errors":false,"items":[]}', 2, Retry("answer_incomplete")),
        (b'{"errors":false}', 2, Hold("answer_not_understood")),
        (b"{}", 2, Hold("answer_not_understood")),
        (b"", 2, Hold("answer_not_understood")),
        (b"<html>sign in</html>", 2, Hold("answer_not_understood")),
        (b'{"errors":true,"items":[{"create":{"sta', 2, Hold("answer_not_understood")),
        (b'{"items":[1,2]}', 2, Hold("answer_not_understood")),
        (b'{"items":[{},{}]}', 2, Hold("answer_not_understood")),
        (b'{"items":[{"create":{"status":"201"}}]}', 1, Hold("answer_not_understood")),
        (b'{"items":{"a":1}}', 1, Hold("answer_not_understood")),
    ],
)
def test_each_item_is_looked_at(body: bytes, count: int, expected: Answer):
    assert classify_items(body, count) == expected


def test_the_flag_is_believed_where_the_number_of_items_is_right():
    body = _answer(201, 201, 400).replace(b'"errors":true', b'"errors":false')

    # The server's word for the whole is taken where the number of items is right.
    assert classify_items(body, 3) == Delivered()
    assert classify_items(body, 4) == Retry("answer_incomplete")


@pytest.mark.parametrize("name", ["logs-a-b", "a", "a.b_c-d", "журнал"])
def test_an_index_is_what_elasticsearch_takes(name: str):
    assert parse_index(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_a", "+a", ".a", "a b", "a/b", "a*", "a,b", "a#", "a:b", "é" * 200, 3]
)
def test_anything_else_is_no_index(name: object):
    with pytest.raises(ValueProblem):
        parse_index(name)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", 3])
def test_a_pipeline_is_a_printable_name(name: object):
    with pytest.raises(ValueProblem):
        parse_pipeline(name)
