import json

import pytest

from tests.unit.sidecar.transform.blocks import READ_TIME, block, decoded, shipped, transform


def docker(log: str, stream: str = "stdout", second: int = 0) -> bytes:
    time = f"2024-05-01T00:00:{second:02d}.5Z"
    return json.dumps({"log": log, "stream": stream, "time": time}).encode() + b"\n"


def test_a_line_is_undone():
    data = docker("one\n") + docker('tw"o\t\u00e9\r\n', "stderr", 1)

    assert [
        (r["message"], r["log.iostream"], r["time"], r["offset"])
        for r in shipped(data, format="docker")
    ] == [
        ("one", "stdout", "2024-05-01T00:00:00.500000000Z", 0),
        ('tw"o\té', "stderr", "2024-05-01T00:00:01.500000000Z", len(docker("one\n"))),
    ]


def test_parts_of_a_long_line_are_joined_each_stream_for_itself():
    data = docker("a") + docker("x\n", "stderr") + docker("b") + docker("c\n")

    assert [r["message"] for r in shipped(data, format="docker")] == ["abc", "x"]


def test_an_open_part_is_read_again():
    made = transform(format="docker")(block(docker("a\n") + docker("b"), flush=False))

    assert [r["message"] for r in decoded(made)] == ["a"]
    assert made.end == len(docker("a\n"))


@pytest.mark.parametrize(
    "line",
    [
        b"text",
        b"{}",
        b"[]",
        b"null",
        b'{"log":1,"stream":"stdout","time":"2024-05-01T00:00:00Z"}',
        b'{"log":"x\\n","stream":null,"time":"2024-05-01T00:00:00Z"}',
        b'{"log":"x\\n","stream":"stdout"}',
        b'{"log":"x\\n","stream":"stdout","time":7}',
        b'{"log":"\\ud800\\n","stream":"stdout","time":"2024-05-01T00:00:00Z"}',
    ],
)
def test_what_is_no_line_of_docker_s_is_a_record_as_it_stands(line: bytes):
    record = shipped(line + b"\n", format="docker")[0]

    assert (record["message"], record["time"]) == (line.decode(), READ_TIME)


def test_a_newline_inside_of_a_line_stays_in_its_record():
    data = docker("one\ntwo\n") + docker("three\n")

    found = shipped(data, format="docker", keep="^one|three$")
    assert [r["message"] for r in found] == ["one\ntwo", "three"]
