"""Tail scenarios 7.6: records of several lines, CRI and docker parts rejoined."""

import json
from typing import Any

import pytest

from tests.fakes.files import append, numbered
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, stays

JAVA = """2026-01-02 10:00:00 INFO  starting
java.lang.IllegalStateException: no connection
\tat com.shop.Orders.open(Orders.java:17)
\tat com.shop.Main.main(Main.java:5)
Caused by: java.net.ConnectException: refused
\tat com.shop.Socket.connect(Socket.java:99)
\t... 3 more
2026-01-02 10:00:01 INFO  going on
"""
PYTHON = """INFO ready
Traceback (most recent call last):
  File "/app/shop.py", line 3, in <module>
    main()
  File "/app/shop.py", line 2, in main
    raise ValueError("no")
ValueError: no
INFO going on
"""
GO = """ready
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.main()
\t/app/main.go:8 +0x1d
exit status 2
going on
"""


def records_of(stage: Stage, text: str, mode: str, **changes: Any) -> list[str]:
    (stage.logs / "a.log").write_text(text)
    stage.run_to_end(source={"multiline": mode}, **changes)
    return stage.backend.messages


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("java", JAVA),
        ("auto", JAVA),
        ("python", PYTHON),
        ("auto", PYTHON),
        ("go", GO),
        ("auto", GO),
    ],
    ids=["java", "java by auto", "python", "python by auto", "go", "go by auto"],
)
def test_rows_85_and_86_a_trace_between_two_info_lines_is_one_record(
    stage: Stage, mode: str, text: str
):
    lines = text.splitlines()

    assert records_of(stage, text, mode) == [lines[0], "\n".join(lines[1:-1]), lines[-1]]


@pytest.mark.parametrize("level", ["WARN", "ERROR", "FATAL"])
def test_row_85_a_trace_directly_after_a_line_of_warn_or_above_belongs_to_it(
    stage: Stage, level: str
):
    text = JAVA.replace("INFO  starting", f"{level} failed")
    lines = text.splitlines()

    assert records_of(stage, text, "java") == ["\n".join(lines[:-1]), lines[-1]]


def test_indented_lines_belong_to_the_one_before(stage: Stage):
    text = "one\n  two\n\tthree\nfour\n five\n"

    assert records_of(stage, text, "indented") == ["one\n  two\n\tthree", "four\n five"]


def test_a_pattern_says_where_a_record_begins(stage: Stage):
    text = "rest\n[1] a\nb\nc\n[2] d\n[3] e\nf\n"
    expected = ["rest", "[1] a\nb\nc", "[2] d", "[3] e\nf"]

    assert records_of(stage, text, r"/^\[\d+\]/") == expected


def test_a_record_s_offset_is_that_of_its_first_line_and_the_lines_are_counted(stage: Stage):
    path = stage.logs / "a.log"
    path.write_text("one\n  two\nthree\n")
    sidecar = stage.started(source={"multiline": "indented"})
    eventually(lambda: len(stage.backend.records) == 2)
    stage.settled_in_sidecar(sidecar)

    assert [record["offset"] for record in stage.backend.records] == [0, 10]
    assert sidecar.metric("sidetail_lines_acknowledged_total", backend="main") == 3


def test_row_87_the_last_record_is_sent_when_nothing_follows(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(source={"multiline": "java"})
    append(path, JAVA.encode().rpartition(b"2026")[0])

    eventually(lambda: any("3 more" in message for message in stage.backend.messages))
    assert len(stage.backend.messages) == 2


def test_a_record_that_goes_on_within_the_time_stays_one(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(source={"multiline": "indented"}, limits={"multiline_seconds": 20})
    append(path, b"one\n")
    append(path, b"  two\n")
    append(stage.logs / "b.log", b"other\nmarker\n")
    stage.arrives("other")  # a pass over the files lies between
    append(path, b"  three\nnext\nlast\n")
    stage.arrives("one\n  two\n  three")

    assert "next" in eventually(lambda: [m for m in stage.backend.messages if m == "next"])


def test_row_89_a_record_that_crosses_a_rename_is_one(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(source={"multiline": "java"}, limits={"multiline_seconds": 20})
    head, _, tail = JAVA.partition("Caused by")
    append(path, head.encode())
    stage.arrives(JAVA.splitlines()[0])
    path.rename(numbered(path, 1))
    append(path, b"2026-01-02 10:00:02 INFO  the new file\n2026-01-02 10:00:03 INFO  x\n")
    append(numbered(path, 1), b"Caused by" + tail.encode())
    expected = "\n".join(JAVA.splitlines()[1:-1])
    stage.arrives(expected)

    stays(lambda: sum("Caused by" in message for message in stage.backend.messages) == 1, 0.3)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_open_record_is_not_lost_by_a_restart(stage: Stage, end: str):
    path = stage.logs / "a.log"
    append(path, b"zero\none\n  two\n")
    source = {"multiline": "indented"}
    sidecar = stage.started(source=source, limits={"multiline_seconds": 100})
    stage.arrives("zero")
    assert stage.backend.messages == ["zero"]
    if end == "stop":
        assert sidecar.stop() == 0
        assert stage.backend.messages == ["zero", "one\n  two"]
    else:
        sidecar.kill()
    append(path, b"three\nfour\n")
    sidecar.start()
    stage.arrives("three")

    assert stage.backend.messages.count("one\n  two") == 1
    assert "three" in stage.backend.messages


def test_row_91_a_runaway_record_is_split_at_the_limit_and_loses_nothing(stage: Stage):
    lines = [f" at frame {number}" for number in range(20_000)]
    text = "start\n" + "\n".join(lines) + "\nend\n"
    messages = records_of(stage, text, "indented", limits={"max_line_bytes": "64KiB"})

    assert "\n".join(messages) == text[:-1]
    assert messages[-1] == "end"
    assert 4 < len(messages) < 100
    assert max(map(len, messages)) <= 64 * 1024


def test_two_files_are_never_mixed_into_one_record(stage: Stage):
    sidecar = stage.started(source={"multiline": "indented"})
    for round_number in range(30):
        append(stage.logs / "a.log", f"a{round_number}\n".encode())
        append(stage.logs / "b.log", f" b{round_number}\n".encode())
    assert sidecar.stop() == 0

    assert not any("a" in message and "b" in message for message in stage.backend.messages)
    lines = "\n".join(stage.backend.messages).split("\n")
    assert sorted(lines) == sorted([f"a{n}" for n in range(30)] + [f" b{n}" for n in range(30)])


def cri(stream: str, flag: str, text: str, second: int = 0) -> bytes:
    return f"2026-01-02T03:04:{second:02d}.123456789Z {stream} {flag} {text}\n".encode()


MIXED = (
    cri("stdout", "P", "out one, ", 1)
    + cri("stderr", "F", "err whole", 2)
    + cri("stdout", "P", "out two, ", 3)
    + cri("stderr", "P", "err part, ", 4)
    + cri("stdout", "F", "out end", 5)
    + cri("stderr", "F", "err end", 6)
    + cri("stdout", "F", "", 7)
)


@pytest.mark.parametrize(
    "source", [{"stream": "stdout"}, {"format": "cri"}], ids=["mirrored stdout", "format cri"]
)
def test_row_93_cri_parts_are_rejoined_per_stream(stage: Stage, source: dict[str, str]):
    (stage.logs / "a.log").write_bytes(MIXED)
    stage.run_to_end(source=source)

    found = {(record["log.iostream"], record["message"]) for record in stage.backend.records}
    assert found == {
        ("stderr", "err whole"),
        ("stdout", "out one, out two, out end"),
        ("stderr", "err part, err end"),
        ("stdout", ""),
    }
    times = {record["message"]: record["time"] for record in stage.backend.records}
    assert times["err whole"] == "2026-01-02T03:04:02.123456789Z"


def test_row_93_parts_that_are_split_over_writes_are_one_record(stage: Stage):
    path = stage.logs / "a.log"
    stage.started(source={"stream": "stdout"}, limits={"partial_seconds": 30})
    append(path, cri("stdout", "P", "one, "))
    append(stage.logs / "b.log", cri("stdout", "F", "marker"))
    stage.arrives("marker")
    append(path, cri("stdout", "P", "two, "))
    append(path, cri("stderr", "F", "between"))
    append(path, cri("stdout", "F", "three"))

    stage.arrives("one, two, three", "between")
    assert sorted(stage.backend.messages) == ["between", "marker", "one, two, three"]


def test_stdout_is_undone_before_the_format_and_the_joining_speak(stage: Stage):
    lines = [
        cri("stdout", "F", '{"level":"warn","msg":"a"}'),
        cri("stdout", "P", '{"level":"err'),
        cri("stdout", "F", 'or","msg":"b"}'),
    ]
    (stage.logs / "a.log").write_bytes(b"".join(lines))
    source = {"stream": "stdout", "format": "json"}
    stage.run_to_end(source=source)

    found = [(record["severity"], record["parsed"]["msg"]) for record in stage.backend.records]
    assert found == [("warn", "a"), ("error", "b")]


def test_traces_on_both_streams_are_joined_each_by_itself(stage: Stage):
    content = b""
    for line in PYTHON.splitlines():
        content += cri("stderr", "F", line) + cri("stdout", "F", "INFO noise")
    (stage.logs / "a.log").write_bytes(content)
    source = {"stream": "stdout", "multiline": "python"}
    stage.run_to_end(source=source)

    errors = [r["message"] for r in stage.backend.records if r["log.iostream"] == "stderr"]
    assert errors == ["INFO ready", "\n".join(PYTHON.splitlines()[1:-1]), "INFO going on"]
    assert stage.backend.messages.count("INFO noise") == 8


def test_row_93_docker_s_json_files_are_rejoined_per_stream(stage: Stage):
    parts = [
        ("stdout", "a" * 16_384),
        ("stderr", "short\n"),
        ("stdout", "b" * 16_384),
        ("stdout", "end\n"),
        ("stderr", "x" * 16_384),
        ("stderr", "y\n"),
    ]
    lines = [
        json.dumps({"log": text, "stream": stream, "time": "2026-01-02T03:04:05.1Z"})
        for stream, text in parts
    ]
    (stage.logs / "a.log").write_text("\n".join(lines) + "\n")
    stage.run_to_end(source={"format": "docker"})

    assert set(stage.backend.messages) == {
        "a" * 16_384 + "b" * 16_384 + "end",
        "short",
        "x" * 16_384 + "y",
    }
    assert len(stage.backend.messages) == 3
