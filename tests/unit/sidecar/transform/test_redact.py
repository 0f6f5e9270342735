import json

import pytest

from sidecar.transform.records import PARSED_APART, Records
from tests.unit.sidecar.transform.blocks import block, records, shipped, transform

EMAIL = ("email", r"[\w.+-]+@[\w-]+\.\w+")
CARD = ("credit-card", r"\b\d{16,20}\b")
BEARER = ("bearer", r"(?i)bearer\s+[\w./+=-]+")


def object_text(made: Records) -> bytes:
    columns = made.columns
    assert columns is not None
    assert columns.marks is not None
    assert columns.parsed_begins is not None
    assert columns.parsed_ends is not None
    text = made.parsed if columns.marks[0] & PARSED_APART else made.text
    return text[columns.parsed_begins[0] : columns.parsed_ends[0]]


def test_matches_become_a_mark():
    found = shipped(b"to joe@x.com and sue@y.org\nnone\n", redact=(EMAIL,))

    assert [record["message"] for record in found] == ["to [redacted] and [redacted]", "none"]


def test_offsets_and_ids_are_those_of_the_lines_as_they_stand_in_the_file():
    found = shipped(b"joe@x.com\nnext\n", redact=(EMAIL,))

    assert [(record["offset"], record["id"]) for record in found] == [(0, "f0-0"), (10, "f0-10")]


def test_patterns_are_applied_one_after_the_other():
    found = shipped(b"Bearer abc joe@x.com 4111111111111111\n", redact=(EMAIL, BEARER, CARD))

    assert found[0]["message"] == "[redacted] [redacted] [redacted]"


def test_a_match_never_goes_over_lines():
    data = b"Bearer\nabc\nBearer x\n"

    assert [r["message"] for r in shipped(data, redact=(BEARER,))] == [
        "Bearer",
        "abc",
        "[redacted]",
    ]


def test_a_match_in_a_joined_record_may_go_over_its_lines():
    data = b"Bearer\n abc\nnext\n"

    found = shipped(data, redact=(BEARER,), multiline="indented")
    assert [record["message"] for record in found] == ["[redacted]", "next"]


def test_the_bytes_of_a_redacted_line_are_never_sent():
    found = shipped(b"joe@x.com \xff\nplain \xff\n", redact=(EMAIL,))

    assert found[0]["message"] == "[redacted] \ufffd"
    assert "message.raw" not in found[0]
    assert found[1]["message.raw"] == "cGxhaW4g/w=="


def test_an_empty_match_is_none():
    assert shipped(b"ab\n", redact=(("x", "x*"),))[0]["message"] == "ab"


def test_a_block_without_a_match_stays_the_bytes_that_were_read():
    assert records(b"a\nb\n", redact=(EMAIL,)).columns is None


def test_keep_sees_the_line_as_it_was_written():
    found = shipped(b"joe@x.com\nsue@y.org\n", redact=(EMAIL,), keep="joe")

    assert [record["message"] for record in found] == ["[redacted]"]


def test_a_secret_leaves_neither_in_the_message_nor_in_the_object():
    line = b'{"to":"joe@x.com","n":1.50,"level":"warn","time":"2024-01-02T03:04:05Z"}'
    record = shipped(line + b"\n", redact=(EMAIL,), format="json")[0]

    assert record["message"] == line.decode().replace("joe@x.com", "[redacted]")
    assert record["parsed"]["to"] == "[redacted]"
    assert record["parsed"]["n"] == 1.5
    assert (record["severity"], record["time"]) == ("warn", "2024-01-02T03:04:05.000000000Z")


@pytest.mark.parametrize("name", ["json", "auto"])
@pytest.mark.parametrize(
    "line",
    [
        r'{"to":"joe\u0040x.com"}',
        r'{"joe\u0040x.com":1}',
        r'{"a":[{"b":"x joe\u0040x.com y"}]}',
        r'{"to":"\u006aoe@x.com"}',
    ],
)
def test_a_secret_that_is_written_with_escapes_is_found(line: str, name: str):
    record = shipped(line.encode() + b"\n", redact=(EMAIL,), format=name)[0]

    assert "[redacted]" in json.dumps(record["parsed"])
    assert "oe" not in record["message"]
    assert "x.com" not in json.dumps(record)
    assert "0040" not in json.dumps(record)


def test_a_secret_that_goes_on_behind_an_escape_is_found_whole():
    line = rb'{"a":"Bearer abc\/def"}'
    record = shipped(line + b"\n", redact=(BEARER,), format="json")[0]

    assert record["parsed"] == {"a": "[redacted]"}
    assert "def" not in record["message"]


@pytest.mark.parametrize("number", ["4111111111111111", "41111111111111111111"])
def test_a_number_that_is_secret_is_redacted_to_the_last_digit(number: str):
    record = shipped(f'{{"card":{number},"n":12}}\n'.encode(), redact=(CARD,), format="json")[0]

    assert record["parsed"] == {"card": "[redacted]", "n": 12}
    assert record["message"] == '{"card":[redacted],"n":12}'
    assert "4111" not in json.dumps(record)


def test_other_numbers_keep_their_digits():
    line = b'{"to":"joe@x.com","big":123456789012345678901234567890,"f":1.10}'
    made = records(line + b"\n", redact=(EMAIL,), format="json")

    assert b'"big":123456789012345678901234567890,"f":1.10' in object_text(made)


def test_a_match_that_goes_through_the_structure_leaves_no_object():
    pattern = ("password", r'"password":"[^"]*"')
    line = b'{"password":"hunter2","a":1}'
    record = shipped(line + b"\n", redact=(pattern,), format="json")[0]

    assert record["message"] == '{[redacted],"a":1}'
    assert "parsed" not in record
    assert record["parse_error"] == "a redaction went through its structure"
    assert "hunter2" not in json.dumps(record)


def test_secrets_in_logfmt_are_found():
    found = shipped(
        b'to=joe@x.com\nto="joe\\u0040x.com" level=warn\n', redact=(EMAIL,), format="logfmt"
    )

    assert [record["parsed"]["to"] for record in found] == ["[redacted]", "[redacted]"]
    assert found[1]["severity"] == "warn"
    assert "x.com" not in json.dumps(found)


def test_text_with_a_backslash_is_left_as_it_is():
    line = rb'{"a":"C:\\dir","b":"x\ny"}'
    made = records(line + b"\n", redact=(EMAIL,), format="json")

    assert shipped(line + b"\n", redact=(EMAIL,), format="json")[0]["message"] == line.decode()
    assert made.parsed == b""


def test_a_line_that_is_no_object_is_redacted_as_text():
    record = shipped(b'{"to":"joe@x.com"\n', redact=(EMAIL,), format="json")[0]

    assert record["message"] == '{"to":"[redacted]"'
    assert record["parse_error"] == "not a JSON object"


def test_redaction_goes_on_where_lines_are_not_utf8():
    data = b"\xff joe@x.com\nsue@y.org\n"

    assert [r["message"] for r in shipped(data, redact=(EMAIL,))] == [
        "\ufffd [redacted]",
        "[redacted]",
    ]


def test_a_cut_line_is_redacted():
    made = transform(redact=(EMAIL,))(block(b"joe@x.com and", truncated=9))

    assert made.message(0) == b"[redacted] and"
    assert made.end == 22


def test_an_object_keeps_its_own_text_where_only_values_are_secret():
    line = rb'{"to" : "joe@x.com", "n": 1.50, "text": "two\nlines \u20ac"}'
    made = records(line + b"\n", redact=(EMAIL,), format="json")
    redacted = line.replace(b"joe@x.com", b"[redacted]")

    assert object_text(made) == redacted
    assert made.message(0) == redacted


def test_two_keys_that_become_alike_are_not_sent_as_one_text():
    line = b'{"joe@x.com":1,"sue@y.org":2}'
    made = records(line + b"\n", redact=(EMAIL,), format="json")

    assert json.loads(object_text(made)) == {"[redacted]": 2}
    assert object_text(made).count(b"[redacted]") == 1


def test_a_redacted_time_or_level_still_says_the_record_s():
    line = b'{"time":"2024-01-02T03:04:05Z","level":"warn"}'
    patterns = (("date", r"\d{4}-\d\d-\d\d"), ("level", "warn"))
    record = shipped(line + b"\n", redact=patterns, format="json")[0]

    assert (record["severity"], record["time"]) == ("warn", "2024-01-02T03:04:05.000000000Z")
    assert record["parsed"] == {"time": "[redacted]T03:04:05Z", "level": "[redacted]"}


def test_a_pattern_that_sees_ends_is_asked_about_each_string_of_a_line_with_another_secret():
    patterns = (EMAIL, ("name", "^joe$"))
    record = shipped(b'{"to":"sue@y.org","by":"joe"}\n', redact=patterns, format="json")[0]

    assert record["parsed"] == {"to": "[redacted]", "by": "[redacted]"}


def test_a_secret_in_a_quoted_value_of_logfmt_is_found():
    line = b'msg="mail to joe@x.com sent" level=warn n=12\n'
    record = shipped(line, redact=(EMAIL,), format="logfmt")[0]

    assert record["parsed"] == {"msg": "mail to [redacted] sent", "level": "warn", "n": "12"}
    assert record["message"] == 'msg="mail to [redacted] sent" level=warn n=12'


def test_an_object_is_not_made_by_a_redaction():
    record = shipped(b'"joe"=b\n', redact=(("quoted", '"joe"'),), format="logfmt")[0]

    assert record["message"] == "[redacted]=b"
    assert "parsed" not in record
