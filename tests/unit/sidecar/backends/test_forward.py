"""Forward: entries as msgpack, and what a tag is made of."""

import io
from typing import Any

import msgpack
import pytest

from runtime.settings import ValueProblem
from sidecar.backends.forward import parse_tag
from sidecar.batch import Batch
from sidecar.transform.records import PARSE_ERRORS
from tests.batches import READ_AT, batch, facts, open_backend, records

URL = "forward://fluentd"


def _entries(made: Batch) -> list[tuple[int, dict[str, Any]]]:
    packed = b"".join(bytes(piece) for piece in made.pieces())
    found = []
    for time, record in msgpack.Unpacker(io.BytesIO(packed), strict_map_key=True):
        assert time.code == 0
        seconds, rest = int.from_bytes(time.data[:4], "big"), int.from_bytes(time.data[4:], "big")
        found.append((seconds * 1_000_000_000 + rest, record))
    return found


def _one(text: bytes, **of: Any) -> tuple[int, dict[str, Any]]:
    (entry,) = _entries(batch(open_backend("forward", URL), (text, facts(**of))))
    return entry


def test_a_plain_line_is_an_entry_with_its_nanoseconds(way: str):
    time, record = _one(b"hello\n", attributes={"k8s.pod.name": "p"}, fields={"team": "shop"})

    assert time == READ_AT
    assert record == {
        "k8s.pod.name": "p",
        "fields": {"team": "shop"},
        "log.file.path": "/logs/a.log",
        "id": "f1-0",
        "offset": 0,
        "message": "hello",
    }


def test_every_fact_that_a_line_may_have_is_there(way: str):
    of = facts(format="json", attributes={})
    text = b'{"level":"warn","time":"2024-05-01T12:00:00Z","n":[1,-2,2.5,null,true,{}]}\nno\n\xff\n'

    first, second, third = _entries(batch(open_backend("forward", URL), (text, of)))

    assert first[0] == 1714564800_000000000
    assert first[1]["severity"] == "warn"
    assert first[1]["parsed"]["n"] == [1, -2, 2.5, None, True, {}]
    assert second[1]["parse_error"] == PARSE_ERRORS[0]
    assert (third[1]["message"], third[1]["message.raw"]) == ("�", "/w==")


def test_the_stream_of_a_cri_line_is_told(way: str):
    _, record = _one(b"2024-05-01T12:00:00Z stderr F x\n", format="cri")

    assert (record["log.iostream"], record["message"]) == ("stderr", "x")


def test_what_was_left_out_of_a_line_is_told(way: str):
    backend = open_backend("forward", URL)
    packed = backend.encode(records(b"cut", truncated=70_000))

    (entry,) = msgpack.Unpacker(io.BytesIO(packed))

    assert entry[1]["truncated"] == 70_000


def test_ids_of_any_length_are_whole(way: str):
    backend = open_backend("forward", URL)
    of = facts(file="x" * 60, attributes={})

    for start in (0, 9, 10, 2**62):
        (entry,) = msgpack.Unpacker(io.BytesIO(backend.encode(records(b"a\n", of, start=start))))
        assert entry[1]["id"] == "x" * 60 + f"-{start}"
        assert entry[1]["offset"] == start


def test_attributes_that_are_no_text_for_utf8_do_not_break_an_entry(way: str):
    _, record = _one(b"x\n", attributes={"a": "\ud800"})

    assert record["a"] == "?"


@pytest.mark.parametrize("tag", ["app", "kube.{k8s.namespace.name}.{k8s.pod.name}", "a.**"])
def test_a_tag_may_hold_places_for_attributes(tag: str):
    assert parse_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", "a b", "a{b", "a}b", "{{a}}", "a\n", "é", 3, "x" * 257])
def test_anything_else_is_no_tag(tag: object):
    with pytest.raises(ValueProblem):
        parse_tag(tag)
