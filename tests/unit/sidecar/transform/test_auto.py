from tests.unit.sidecar.transform.blocks import records, shipped


def test_a_line_that_begins_with_a_brace_is_json_klog_gives_a_severity_and_the_rest_is_text():
    data = (
        b'{"level":"warn","a":1}\n'
        b"E0102 03:04:05.678901       1 main.go:1] failed\n"
        b"plain level=error\n"
        b"{not json\n"
        b"Evening\n"
    )
    found = shipped(data, format="auto")

    assert [record.get("severity") for record in found] == ["warn", "error", None, None, None]
    assert [record.get("parsed") for record in found] == [
        {"level": "warn", "a": 1},
        None,
        None,
        None,
        None,
    ]
    assert [record.get("parse_error") for record in found] == [
        None,
        None,
        None,
        "not a JSON object",
        None,
    ]


def test_a_block_without_json_and_klog_stays_the_bytes_that_were_read():
    assert records(b"plain\nINFO x\n", format="auto").columns is None


def test_klog_s_letters():
    data = b"".join(b"%c0102 03:04:05.678901 1 x] y\n" % letter for letter in b"IWEF")

    assert [record["severity"] for record in shipped(data, format="auto")] == [
        "info",
        "warn",
        "error",
        "fatal",
    ]


def test_json_in_a_container_s_lines_is_found():
    data = b'2024-05-01T00:00:00Z stdout F {"level":"warn"}\n'

    assert shipped(data, stream="stdout", format="auto")[0]["severity"] == "warn"
