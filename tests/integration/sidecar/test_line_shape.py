"""Tail scenarios 7.5, faults S28, S29, S38, bad inputs 57-59, 65-69, T5, T21: bytes in lines."""

import base64
import gzip
import json
import random
import time
from datetime import datetime
from typing import Any

import pytest

from tests.fakes.files import append, sparse
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, stays


def shipped(stage: Stage, content: bytes, count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return the records of one file with `content`, after one run to its end."""
    (stage.logs / "a.log").write_bytes(content)
    stage.run_to_end(**changes)
    records = stage.backend.records
    assert len(records) == count, records[:20]
    return records


def test_rows_69_and_70_a_last_line_without_newline_is_sent_once_and_its_end_is_not_lost(
    stage: Stage,
):
    path = stage.logs / "a.log"
    append(path, b"one\ntwo")
    stage.started()
    stage.arrives("one", "two")
    stays(lambda: stage.backend.messages == ["one", "two"], 0.8)
    append(path, b"\nthree\n")
    stage.arrives("three")

    stays(lambda: stage.backend.messages == ["one", "two", "three"], 0.5)


def test_a_sent_partial_line_that_goes_on_sends_only_what_is_new(stage: Stage):
    path = stage.logs / "a.log"
    append(path, b"two")
    stage.started()
    stage.arrives("two")
    append(path, b" and a half\nthree\n")
    stage.arrives("three")

    assert stage.backend.messages == ["two", " and a half", "three"]
    assert [record["offset"] for record in stage.backend.records] == [0, 3, 15]


@pytest.mark.parametrize("sent", [False, True], ids=["not yet sent", "sent"])
def test_rows_72_and_s28_a_partial_line_over_a_restart(stage: Stage, sent: bool):
    path = stage.logs / "a.log"
    append(path, b"whole\nhalf a li")
    sidecar = stage.started(limits={"partial_seconds": 0.3 if sent else 100})
    stage.arrives("whole")
    if sent:
        stage.arrives("half a li")
    assert sidecar.stop() == 0
    append(path, b"ne\nlast\n")
    sidecar.start()
    stage.arrives("last")

    # At the stop an unterminated line is sent as it is.
    assert stage.backend.messages == ["whole", "half a li", "ne", "last"]


def test_a_partial_line_over_a_kill_is_whole_or_in_two_parts_that_fit(stage: Stage):
    path = stage.logs / "a.log"
    append(path, b"whole\nhalf a li")
    sidecar = stage.started(limits={"partial_seconds": 100})
    stage.arrives("whole")
    sidecar.kill()
    append(path, b"ne\nlast\n")
    sidecar.start()
    stage.arrives("last")

    assert [m for m in stage.backend.messages if m != "whole"] == ["half a line", "last"]


def test_row_73_a_line_of_40_kb_between_two_short_ones(stage: Stage):
    log = stage.log()
    log.write()
    stage.started()
    stage.settle()
    log.write(1, size=40_000)
    log.write()

    stage.verdict().assert_exact()


@pytest.mark.parametrize("size", [1 << 20, 10 << 20, 40 << 20], ids=["1 MiB", "10 MiB", "40 MiB"])
def test_rows_74_and_s29_a_line_over_the_limit_is_cut_counted_and_passed(stage: Stage, size: int):
    path = stage.logs / "a.log"
    append(path, b"before\n")
    limit = 256 * 1024
    sidecar = stage.started(limits={"max_line_bytes": limit})
    with path.open("ab") as file:
        file.write(b"y" * size + b"\nafter\n")
    stage.arrives("after")

    before, cut, after = stage.backend.records
    assert (before["message"], after["message"]) == ("before", "after")
    assert cut["message"] == "y" * limit
    assert cut["truncated"] == size - limit
    assert after["offset"] == 7 + size + 1
    assert sidecar.metric("sidetail_lines_truncated_total", backend="main") == 1
    assert sidecar.peak_mib < 96


def test_row_58_of_the_bad_inputs_a_line_over_the_limit_that_does_not_end(stage: Stage):
    path = stage.logs / "a.log"
    limit = 64 * 1024
    with path.open("wb") as file:
        for _ in range(256):
            file.write(b"a" * 65_536)
    sidecar = stage.started(limits={"max_line_bytes": limit})
    eventually(lambda: stage.backend.records, "it is sent after partial_seconds without growth")
    append(path, b"aaa\nafter\n")
    stage.arrives("after")

    first = stage.backend.records[0]
    assert first["message"] == "a" * limit
    assert first["truncated"] == 255 * 65_536
    assert sidecar.peak_mib < 96


LIMIT = 1000


@pytest.mark.parametrize(
    ("line", "message", "left_out"),
    [
        (b"x" * LIMIT, "x" * LIMIT, None),
        (b"x" * (LIMIT + 1), "x" * LIMIT, 1),
        (b"x" * (LIMIT - 1) + "ä".encode(), "x" * (LIMIT - 1), 2),
        (b"x" * (LIMIT - 2) + "€uro".encode(), "x" * (LIMIT - 2), 6),
        (b"x" * (LIMIT - 3) + "😀!".encode(), "x" * (LIMIT - 3), 5),
        (b"x" * (LIMIT - 2) + "ä".encode(), "x" * (LIMIT - 2) + "ä", None),
        (b"x" * (LIMIT - 2) + "äz".encode(), "x" * (LIMIT - 2) + "ä", 1),
    ],
    ids=["limit", "limit+1", "in ä", "in €", "in 😀", "ä fits", "after ä"],
)
def test_row_75_the_cut_is_at_a_character_s_border(
    stage: Stage, line: bytes, message: str, left_out: int | None
):
    records = shipped(stage, line + b"\nnext\n", 2, limits={"max_line_bytes": LIMIT})

    assert records[0]["message"] == message
    assert records[0].get("truncated") == left_out
    assert records[1]["message"] == "next"
    assert records[1]["offset"] == len(line) + 1


def test_row_76_crlf(stage: Stage):
    records = shipped(stage, b"a\r\n\r\nb\rc\r\n\r\r\nd\n", 5)

    assert [record["message"] for record in records] == ["a", "", "b\rc", "\r", "d"]
    assert [record["offset"] for record in records] == [0, 3, 5, 10, 13]


def test_row_78_what_json_must_escape(stage: Stage):
    line = 'tab\t quote" back\\slash \u2028\u2029\x85 😀 \x1b[31mred\x7f \x01 /slash \ufffd'
    records = shipped(stage, line.encode() + b"\nnul\x00in\x00\n", 2)

    assert records[0]["message"] == line
    assert records[1]["message"] == "nul\0in\0"
    assert "message.raw" not in records[0]


def test_row_79_a_byte_order_mark_is_taken_off_or_kept_but_the_line_is_whole(stage: Stage):
    records = shipped(stage, b"\xef\xbb\xbffirst\nsecond\n", 2)

    assert str(records[0]["message"]).removeprefix("\ufeff") == "first"
    assert records[1]["message"] == "second"


@pytest.mark.parametrize("text_encoding", ["utf-16-le", "utf-16-be", "latin-1"])
def test_row_80_and_s38_other_encodings_lose_no_byte(stage: Stage, text_encoding: str):
    content = "größe 1\ngröße 2\n".encode(text_encoding)
    (stage.logs / "a.log").write_bytes(content)
    stage.run_to_end()

    kept = {i for record in stage.backend.records for i in covered(record)}
    for position, byte in enumerate(content):
        # Left out by rule: newlines, and NULs at the head of a line.
        assert position in kept or byte in (0, 10), (position, byte)
    for record in stage.backend.records:
        start = record["offset"]
        assert raw(record) == content[start : start + len(raw(record))]


def raw(record: dict[str, Any]) -> bytes:
    if "message.raw" in record:
        return base64.b64decode(str(record["message.raw"]), validate=True)
    return str(record["message"]).encode()


def covered(record: dict[str, Any]) -> range:
    start = int(str(record["offset"]))
    return range(start, start + len(raw(record)))


def test_row_65_of_the_bad_inputs_and_t21_a_line_with_every_byte_is_one_record(stage: Stage):
    every = bytes(byte for byte in range(1, 256) if byte != 10) + b"\x00end"
    forged = b'{"k8s.namespace.name":"kube-system"}\r{"message":"forged"}'
    (stage.logs / "a.log").write_bytes(every + b"\n" + forged + b"\n")
    shown = stage.run_to_end()
    records = stage.backend.records
    headers = {header for request in stage.backend.requests for header in request.headers}

    assert len(records) == 2
    assert records[0]["message"] == every.decode("utf-8", "replace")
    assert raw(records[0]) == every
    assert records[1]["message"] == forged.decode()
    assert "k8s.namespace.name" not in records[1]
    for name, value in headers:
        assert (name + value).isprintable()
    # … and no byte of it in what we say ourselves.
    assert shown.stdout == b""
    assert b"forged" not in shown.stderr


def test_random_bytes_come_back_byte_by_byte(stage: Stage):
    source = random.Random(2)
    lines = [source.randbytes(source.randrange(1, 400)).replace(b"\n", b"") for _ in range(400)]
    lines = [line.lstrip(b"\0") or b"x" for line in lines]
    records = shipped(stage, b"".join(line + b"\n" for line in lines), 400)

    for record, line in zip(records, lines, strict=True):
        kept = line.removesuffix(b"\r")
        assert raw(record) == kept
        assert record["message"] == kept.decode("utf-8", "replace")


HARD_JSON = {
    "duplicate keys": b'{"a":1,"a":2}',
    "cut": b'{"a":',
    "no object": b"[1,2]",
    "text": b"plain text",
    "deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep list": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "huge number": b'{"a":1e999}',
    "long integer": b'{"a":' + b"9" * 5000 + b"}",
    "NaN": b'{"a":NaN}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "long key": b'{"' + b"k" * 1_000_000 + b'":1}',
    "not UTF-8": b'{"a":"\xff"}',
    "NUL": b'{"a":"\x00"}',
    "empty": b"{}",
    "two": b"{}{}",
    "trailing": b'{"a":1} x',
}


def test_row_82_and_row_66_of_the_bad_inputs_hard_json_arrives_as_text_at_least(stage: Stage):
    content = b"".join(line + b"\n" for line in HARD_JSON.values())
    source = {"format": "json"}
    records = shipped(
        stage, content, len(HARD_JSON), source=source, limits={"max_line_bytes": "2MiB"}
    )

    for (name, line), record in zip(HARD_JSON.items(), records, strict=True):
        assert record["message"] == line.decode("utf-8", "replace"), name
        assert ("parsed" in record) != ("parse_error" in record), name
        if "parsed" in record:
            assert isinstance(record["parsed"], dict), name
    errors = {
        name for name, record in zip(HARD_JSON, records, strict=True) if "parse_error" in record
    }
    assert {"cut", "no object", "text", "NaN", "two", "trailing"} <= errors
    assert not errors & {"empty", "long key"}


def test_row_67_of_the_bad_inputs_and_t15_a_line_cannot_forge_our_keys(stage: Stage):
    forged = {
        "message": "m",
        "namespace": "kube-system",
        "k8s.namespace.name": "kube-system",
        "@timestamp": "2020-01-01T00:00:00Z",
        "_id": "1",
        "__proto__": {"x": 1},
        "id": "f-0",
        "offset": 7,
        "log.file.path": "/etc/passwd",
        "fields": {"team": "evil"},
        "level": "error",
    }
    line = json.dumps(forged).encode()
    source = {"format": "json", "fields": {"team": "shop"}, "shown_as": "/l"}
    attributes = {"k8s.namespace.name": "shop"}
    record = shipped(stage, line + b"\n", 1, source=source, attributes=attributes)[0]

    assert record["parsed"] == forged
    assert record["message"] == line.decode()
    assert record["k8s.namespace.name"] == "shop"
    assert record["fields"] == {"team": "shop"}
    assert record["log.file.path"] == "/l/a.log"
    assert record["offset"] == 0
    assert str(record["id"]).endswith("-0")
    assert record["id"] != "f-0"
    assert record["severity"] == "error"
    assert str(record["time"]).startswith("2020-01-01T00:00:00")
    assert not {"_id", "__proto__", "@timestamp", "namespace"} & set(record)


@pytest.mark.parametrize(
    ("stamp", "time_begins"),
    [
        ("2010-01-02T03:04:05Z", "2010-01-02T03:04:05"),
        ("2999-01-02T03:04:05.123456789Z", "2999-01-02T03:04:05.123456789Z"),
        ("2024-02-29T12:00:00+02:00", "2024-02-29T10:00:00"),
        ("yesterday", "20"),
        ("2023-02-30T00:00:00Z", "20"),
    ],
)
def test_row_68_of_the_bad_inputs_times_far_away_or_missing(
    stage: Stage, stamp: str, time_begins: str
):
    line = json.dumps({"time": stamp, "msg": "x"}).encode()
    record = shipped(stage, line + b"\n", 1, source={"format": "json"})[0]

    assert str(record["time"]).startswith(time_begins)
    assert str(record["time"]).endswith("Z")
    if time_begins == "20":
        assert not str(record["time"]).startswith("2023-02-30")
        read_at = datetime.fromisoformat(str(record["time"])[:19] + "+00:00").timestamp()
        assert abs(time.time() - read_at) < 600


def test_row_69_of_the_bad_inputs_what_lines_say_is_never_a_label(stage: Stage):
    path = stage.logs / "a.log"
    content = b"".join(b'{"user":"u%d","level":"info"}\n' % number for number in range(5000))
    path.write_bytes(content)
    sidecar = stage.started(source={"format": "json"})
    eventually(lambda: len(stage.backend.records) == 5000)

    scrape = sidecar.scrape()
    assert len(scrape.values) < 200
    assert not any("u1" in value for _, labels in scrape.values for _, value in labels)


def test_row_83_empty_lines_make_no_empty_requests(stage: Stage):
    (stage.logs / "a.log").write_bytes(b"\n" * 50_000)
    sidecar = stage.started(source={"skip_empty": True})
    sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_dropped_total", reason="empty") == 50_000
    )

    assert stage.backend.requests == []
    stage.settled_in_sidecar(sidecar)


def test_row_83_empty_lines_that_are_kept_are_records(stage: Stage):
    (stage.logs / "a.log").write_bytes(b"\n" * 20_000)
    stage.started()
    eventually(lambda: len(stage.backend.records) == 20_000)

    assert set(stage.backend.messages) == {""}
    assert len({record["id"] for record in stage.backend.records}) == 20_000


def test_row_57_of_the_bad_inputs_and_t5_a_sparse_tebibyte(stage: Stage):
    live = stage.log("live.log")
    sparse(stage.logs / "hole.log", 1 << 40)
    sidecar = stage.started()
    for _ in range(10):
        live.write(10)
        stage.settle()
    before = sidecar.cpu_seconds
    time.sleep(1.5)
    spent = sidecar.cpu_seconds - before
    append(stage.logs / "hole.log", b"after the hole\n")
    stage.arrives("after the hole")

    assert sidecar.peak_mib < 96
    # A reader of holes would be busy all the time: half an hour at best for this one.
    assert spent < 0.75
    assert {
        record["offset"]
        for record in stage.backend.records
        if record["message"] == "after the hole"
    } == {1 << 40}


def test_a_hole_between_lines_is_left_out_and_the_lines_stay_whole(stage: Stage):
    path = stage.logs / "a.log"
    sparse(path, 3_000_001, b"one\n")
    with path.open("r+b") as file:
        file.seek(9_000_001)
        file.write(b"two\nthree\n")
    stage.started()
    stage.arrives("one", "two", "three")

    found = [(record["message"], record["offset"]) for record in stage.backend.records]
    assert found == [("one", 3_000_001), ("two", 9_000_001), ("three", 9_000_005)]


def test_row_59_of_the_bad_inputs_nothing_is_ever_unpacked(stage: Stage):
    packed = gzip.compress(b"secret inside\n" * 100_000)
    (stage.logs / "bomb.log").write_bytes(packed + b"\n")
    append(stage.logs / "live.log", b"live\n")
    sidecar = stage.started()
    stage.arrives("live")
    stage.settled_in_sidecar(sidecar)

    assert not any("secret" in message for message in stage.backend.messages)
    assert sidecar.peak_mib < 96
