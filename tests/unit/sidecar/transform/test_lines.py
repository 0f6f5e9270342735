from sidecar.transform.compile import compile_transform
from tests.unit.sidecar.transform.blocks import (
    LIMITS,
    READ_TIME,
    block,
    decoded,
    messages,
    records,
    shipped,
    source,
    transform,
)


def test_a_block_of_text_stays_the_bytes_that_were_read():
    data = b"one\ntwo\n"
    made = records(data)

    assert made.columns is None
    assert made.text is data
    assert (made.count, made.line_count, made.start, made.end) == (2, 2, 0, 8)


def test_a_line_has_its_offset_its_id_and_the_time_of_reading():
    made = transform()(block(b"one\ntwo\n", start=100))

    assert decoded(made) == [
        {
            "message": message,
            "offset": offset,
            "id": f"f0-{offset}",
            "time": READ_TIME,
            "log.file.path": "/var/log/a.log",
        }
        for message, offset in [("one", 100), ("two", 104)]
    ]


def test_one_cr_before_a_newline_is_left_out_and_no_other():
    data = b"a\r\n\r\nb\r\r\nc\rd\n\r\n"

    assert messages(data) == ["a", "", "b\r", "c\rd", ""]


def test_a_cr_at_the_end_of_an_unterminated_line_stays():
    assert messages(b"one\r\ntwo\r") == ["one", "two\r"]


def test_an_unterminated_last_line_is_a_record():
    made = records(b"one\ntwo")

    assert made.count == 2
    assert [record["message"] for record in decoded(made)] == ["one", "two"]


def test_empty_lines_are_records():
    assert [record["offset"] for record in shipped(b"\n\na\n\n")] == [0, 1, 2, 4]


def test_bytes_that_are_not_utf8_are_replaced_and_kept_in_base64():
    record = shipped(b"a\xff\xc3\xa9\xe2\x82\n")[0]

    assert record["message"] == "a\ufffdé\ufffd"
    assert record["message.raw"] == "Yf/DqeKC"


def test_a_line_that_is_utf8_has_no_raw_bytes():
    assert "message.raw" not in shipped("é\u2028😀\n".encode())[0]


def test_every_byte_comes_back():
    line = bytes(set(range(256)) - {10, 13})
    record = shipped(line[1:] + line[:1] + b"\r\n")[0]

    assert record["message"] == (line[1:] + line[:1]).decode("utf-8", "replace")


def test_a_cut_line_says_how_much_was_left_out():
    made = transform()(block(b"abc", start=7, truncated=1000))

    assert made.end == 1010
    assert decoded(made)[0]["truncated"] == 1000
    assert decoded(made)[0]["offset"] == 7


def test_nuls_at_the_head_of_a_line_are_a_hole_and_the_offset_is_the_first_byte_s():
    made = transform()(block(b"\0\0\0one\nt\0wo\n\0three\n", start=10))

    assert [(r["message"], r["offset"]) for r in decoded(made)] == [
        ("one", 13),
        ("t\0wo", 17),
        ("three", 23),
    ]
    assert made.nul_bytes == 4


def test_nuls_without_anything_behind_them_are_no_record():
    made = records(b"one\n\0\0\0")

    assert [record["message"] for record in decoded(made)] == ["one"]
    assert made.end == 7
    assert made.nul_bytes == 3


def test_a_hole_that_ends_in_a_newline_is_an_empty_line():
    assert messages(b"\0\0\r\nx\n") == ["", "x"]


def test_empty_lines_can_be_skipped_and_are_counted():
    made = records(b"\na\n\r\n\nb\n\n", skip_empty=True)

    assert [(r["message"], r["offset"]) for r in decoded(made)] == [("a", 1), ("b", 6)]
    assert made.dropped == {"empty": 4}
    assert made.line_count == 2


def test_skipping_empty_lines_leaves_a_block_without_any_as_it_was_read():
    assert records(b"a\nb\r\nc\n", skip_empty=True).columns is None


def test_a_block_of_nothing_but_empty_lines_comes_to_nothing_and_is_used_up():
    made = records(b"\n\n\n", skip_empty=True)

    assert (made.count, made.end) == (0, 3)
    assert made.dropped == {"empty": 3}


def test_fields_and_attributes_stand_on_every_record():
    of = source(fields={"team": "shop", 'a"b': "é"}, attributes={"k8s.pod.name": "orders-1"})
    made = compile_transform(of, LIMITS)(block(b"x\n", of=of))

    assert decoded(made)[0]["fields"] == {"team": "shop", 'a"b': "é"}
    assert decoded(made)[0]["k8s.pod.name"] == "orders-1"


def test_an_attribute_cannot_stand_in_the_place_of_a_key_of_ours():
    of = source(attributes={"message": "forged", "id": "forged", "k8s.pod.uid": "u"})
    record = decoded(compile_transform(of, LIMITS)(block(b"x\n", of=of)))[0]

    assert (record["message"], record["id"], record["k8s.pod.uid"]) == ("x", "f0-0", "u")


def test_a_transform_keeps_nothing_between_blocks():
    of = transform(multiline="auto", format="json")
    first = block(b'{"a":1}\n\tat x\n')

    assert decoded(of(first)) == decoded(of(first))
