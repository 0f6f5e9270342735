import json

import pytest

from tests.unit.sidecar.transform.blocks import READ_TIME, messages, records, shipped


def test_the_object_stands_under_parsed_and_the_line_is_the_message():
    line = '{"msg":"hallo","n":1.50,"deep":{"a":[1,null,true,"é\\u00e9"]}}'
    record = shipped(line.encode() + b"\n", format="json")[0]

    assert record["message"] == line
    assert record["parsed"] == {
        "msg": "hallo",
        "n": 1.5,
        "deep": {"a": [1, None, True, "éé"]},
    }


def test_a_line_cannot_forge_a_key_of_ours():
    line = b'{"id":"x","time":"2020-01-01T00:00:00Z","offset":9,"log.file.path":"/etc","fields":{}}'
    record = shipped(line + b"\n", format="json")[0]

    assert (record["id"], record["offset"], record["log.file.path"]) == (
        "f0-0",
        0,
        "/var/log/a.log",
    )
    assert "fields" not in record


@pytest.mark.parametrize(
    ("member", "time"),
    [
        ('"time":"2024-01-02T03:04:05.6Z"', "2024-01-02T03:04:05.600000000Z"),
        ('"timestamp":"2024-01-02T03:04:05+01:00"', "2024-01-02T02:04:05.000000000Z"),
        ('"ts":1704164645.123456789', "2024-01-02T03:04:05.123456789Z"),
        ('"ts":1704164645', "2024-01-02T03:04:05.000000000Z"),
        ('"@timestamp":"2024-01-02T03:04:05Z"', "2024-01-02T03:04:05.000000000Z"),
        ('"time":1704164645123', "2024-01-02T03:04:05.123000000Z"),
        ('"time":1704164645123456789', "2024-01-02T03:04:05.123456789Z"),
        ('"time":"1704164645.5"', "2024-01-02T03:04:05.500000000Z"),
        ('"time":"noon","ts":1704164645', "2024-01-02T03:04:05.000000000Z"),
        ('"ts":1704164645,"time":"2020-01-01T00:00:00Z"', "2020-01-01T00:00:00.000000000Z"),
        ('"t\\u0069me":"2020-01-01T00:00:00Z"', "2020-01-01T00:00:00.000000000Z"),
        ('"time":"2020-01-01T00\\u003a00:00Z"', "2020-01-01T00:00:00.000000000Z"),
        ('"time":"2999-01-02T03:04:05.123456789Z"', "2999-01-02T03:04:05.123456789Z"),
        ('"time":null', READ_TIME),
        ('"time":true', READ_TIME),
        ('"time":12.5', READ_TIME),
        ('"time":1.704164645e9', READ_TIME),
        ('"time":17041646451234567890123', READ_TIME),
        ('"time":["2024-01-02T03:04:05Z"]', READ_TIME),
        ('"deep":{"time":"2020-01-01T00:00:00Z"}', READ_TIME),
    ],
)
def test_the_time_is_the_line_s_own_where_it_says_one(member: str, time: str):
    assert shipped(f'{{"a":1,{member}}}\n'.encode(), format="json")[0]["time"] == time


@pytest.mark.parametrize(
    ("member", "severity"),
    [
        ('"level":"WARNING"', "warn"),
        ('"severity":"critical"', "fatal"),
        ('"level":30', "info"),
        ('"level":"30"', "info"),
        ('"level":"odd","severity":"debug"', "debug"),
        ('"severity":"debug","level":"error"', "error"),
        ('"l\\u0065vel":"\\u0065rror"', "error"),
        ('"level":"odd"', None),
        ('"level":35', None),
        ('"level":30.0', None),
        ('"level":true', None),
        ('"deep":{"level":"error"}', None),
        ('"LEVEL":"error"', None),
    ],
)
def test_the_severity_is_the_line_s_own_where_it_says_one(member: str, severity: str | None):
    assert shipped(f'{{"a":1,{member}}}\n'.encode(), format="json")[0].get("severity") == severity


DEEP = '{"a":' + "[" * 63 + "]" * 63 + "}"


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        " \t{ } ",
        '{"":""}',
        '{"a":{"b":1},"c":{"b":2},"d":[{"b":3},{"b":4}]}',
        '{"a" : 1 , "b" : [ ] }',
        '{"a":"\\":","b":"\\\\"}',
        '{"a":"\\":\\":"}',
        '{"a":-0.0,"b":1E2,"c":-12.5e-300,"d":18446744073709551616,"e":1e-999}',
        '{"a":"\\ud83d\\ude00\u2028\x7f\x85"}',
        DEEP,
        '{"a":"' + "[" * 1000 + '"}',
        '{"' + "k" * 100_000 + '":1}',
        "\ufeff{}",
        "{" + ",".join(f'"k{number}":{number}' for number in range(5000)) + "}",
    ],
)
def test_an_object_is_sent_as_one(line: str):
    record = shipped(line.encode() + b"\n", format="json")[0]

    assert record["parsed"] == json.loads(line.removeprefix("\ufeff"))
    assert record["message"] == line
    assert "parse_error" not in record


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not a JSON object"),
        ("text", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("1", "not a JSON object"),
        ("{", "not a JSON object"),
        ('{"a":1}x', "not a JSON object"),
        ('{"a":1},{"b":2}', "not a JSON object"),
        ('{"a":01}', "not a JSON object"),
        ('{"a":NaN}', "not a JSON object"),
        ('{"a":Infinity}', "not a JSON object"),
        ('{"a":"\t"}', "not a JSON object"),
        ('{"a":"\\ud800"}', "not a JSON object"),
        ("{'a':1}", "not a JSON object"),
        ('{"a":1,"a":2}', "a key stands twice in one object"),
        ('{"a":1,"\\u0061":2}', "a key stands twice in one object"),
        ('{"a":1,"a" :2}', "a key stands twice in one object"),
        ('{"x":[{"a" :1,"b":"\\":","b" :2}]}', "a key stands twice in one object"),
        ('{"a":{"b":{"c":1,"d":2,"c":3}}}', "a key stands twice in one object"),
        ('{"a":' + "[" * 64 + "]" * 64 + "}", "nested too deep"),
        ('{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "nested too deep"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "nested too deep"),
        ('{"a":1e999}', "a number is out of range"),
        ('{"a":[-1e999]}', "a number is out of range"),
        ('{"a":1' + "0" * 400 + "}", "a number is out of range"),
        ('{"a":1' + "0" * 5000 + "}", "a number is out of range"),
    ],
)
def test_what_is_no_object_is_sent_as_text_with_the_reason(line: str, why: str):
    record = shipped(line.encode() + b"\n", format="json")[0]

    assert (record["message"], record["parse_error"]) == (line, why)
    assert "parsed" not in record


def test_a_line_that_is_not_utf8_is_text():
    record = shipped(b'{"a":"\xff"}\n', format="json")[0]

    assert record["parse_error"] == "not a JSON object"
    assert record["message.raw"] == "eyJhIjoi/yJ9"


def test_lines_that_only_fit_together_are_not_put_together():
    data = b'{"a":1\n"b":2}\n{"c":[{}\n{}]}\n{},{}\n'

    found = shipped(data, format="json")
    assert [record.get("parsed") for record in found] == [None] * 5


def test_an_object_of_several_lines_is_written_anew_as_one():
    data = b'{\n  "level": "error",\n  "a": [\n    1\n  ]\n }\nnext\n'
    found = shipped(data, format="json", multiline="indented", keep="level")

    assert found[0]["message"] == '{\n  "level": "error",\n  "a": [\n    1\n  ]\n }'
    assert found[0]["parsed"] == {"level": "error", "a": [1]}
    assert found[0]["severity"] == "error"


@pytest.mark.parametrize(
    "line",
    [
        b'{"' + b"a" * 1_000_000 + b'":1}',
        b'{"a":"' + b'\\"' * 500_000,
        b'"\\' * 500_000,
        b"{" * 1_000_000,
        b'{"a":' + b"[]," * 300_000,
        b'{"a":[' + b"1e5," * 250_000 + b"1]}",
        b'{"a":"' + b'":' * 400_000,
        b"[" + b'{"a":1},' * 120_000,
    ],
)
def test_a_hostile_line_is_sent(line: bytes):
    assert messages(line + b"\n{}\n", format="json")[0] == line.decode()


def test_filters_see_the_line_as_it_was_written():
    made = records(b'{"level":"info"}\n{"level":"error"}\n', format="json", keep='"error"')

    assert made.count == 1
    assert made.dropped == {"filtered": 1}
