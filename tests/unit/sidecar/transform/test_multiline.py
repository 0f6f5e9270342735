import pytest

from tests.unit.sidecar.transform.blocks import block, decoded, messages, records, transform

INFO = "2024-05-01 12:00:00.000 INFO  [main] com.shop.Orders - going on"

JAVA = """java.lang.IllegalStateException: no connection
\tat com.shop.Orders.open(Orders.java:17) ~[shop.jar:1.0]
\tat java.base/java.lang.Thread.run(Thread.java:833)
\tSuppressed: java.io.IOException: closed
\t\tat com.shop.Orders.close(Orders.java:20)
\t\t... 2 more
Caused by: java.net.ConnectException: refused
\tat com.shop.Socket.connect(Socket.java:99)
\t... 3 common frames omitted"""
JAVA_MAIN = """Exception in thread "main" java.lang.NullPointerException
    at com.shop.Main.main(Main.java:5)"""
JAVA_WITHOUT_MESSAGE = """com.shop.Orders$BrokenException
\tat com.shop.Orders.open(Orders.java:17)"""
PYTHON = """Traceback (most recent call last):
  File "/app/shop.py", line 3, in <module>
    main()
    ~~~~^^
  File "/app/shop.py", line 2, in main
    raise ValueError("no")
ValueError: no"""
PYTHON_CHAINED = (
    PYTHON
    + """

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/shop.py", line 9, in <module>
    other()
shop.errors.BrokenError: also no
    with a second line

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/shop.py", line 11, in <module>
    third()
KeyboardInterrupt"""
)
PYTHON_GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/app/shop.py", line 1, in <module>
  |     raise ExceptionGroup("two", [ValueError(1), TypeError(2)])
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +---------------- 2 ----------------
    | TypeError: 2
    +------------------------------------"""
PYTHON_SYNTAX = """Traceback (most recent call last):
  File "<string>", line 1
    foo bar
        ^^^
SyntaxError: invalid syntax"""
GO = """panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.main()
\t/app/main.go:8 +0x1d
exit status 2"""
GO_MANY = """panic: assignment to entry in nil map [recovered]
\tpanic: assignment to entry in nil map

goroutine 19 [running]:
testing.tRunner.func1.2({0x50f3e0, 0x5534b0})
\t/usr/lib/go/src/testing/testing.go:1396 +0x24e
panic({0x50f3e0, 0x5534b0})
\t/usr/lib/go/src/runtime/panic.go:890 +0x262
main.(*Shop).open(0xc0000a0000, {0x0, 0x0, 0x0})
\t/app/shop.go:9 +0x1d
created by main.main in goroutine 1
\t/app/main.go:3 +0x1d

goroutine 1 [chan receive, 3 minutes, locked to thread]:
main.main()
\t/app/main.go:8 +0x1d
...additional frames elided...
exit status 2"""
GO_SIGNAL = """fatal error: unexpected signal during runtime execution
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x7f]

runtime stack:
runtime.throw({0x50f3e0, 0x2a})
\t/usr/lib/go/src/runtime/panic.go:1047 +0x5d

goroutine 1 [syscall]:
main.main()
\t/app/main.go:8 +0x1d

rax    0x0
rflags 0x10246
exit status 2"""

JAVA_TRACES = [JAVA, JAVA_MAIN, JAVA_WITHOUT_MESSAGE]
PYTHON_TRACES = [PYTHON, PYTHON_CHAINED, PYTHON_GROUP, PYTHON_SYNTAX]
GO_TRACES = [GO, GO_MANY, GO_SIGNAL]
TRACES = [
    *[("java", trace) for trace in JAVA_TRACES],
    *[("python", trace) for trace in PYTHON_TRACES],
    *[("go", trace) for trace in GO_TRACES],
    *[("auto", trace) for trace in JAVA_TRACES + PYTHON_TRACES + GO_TRACES],
]


def joined(mode: str, *lines: str) -> list[str]:
    return messages("\n".join([*lines, ""]).encode(), multiline=mode)


@pytest.mark.parametrize(("mode", "trace"), TRACES)
def test_a_trace_between_two_lines_is_one_record(mode: str, trace: str):
    assert joined(mode, INFO, trace, INFO) == [INFO, trace, INFO]


@pytest.mark.parametrize(("mode", "trace"), TRACES)
def test_a_trace_at_the_beginning_of_a_file_is_one_record(mode: str, trace: str):
    assert joined(mode, trace, INFO) == [trace, INFO]


@pytest.mark.parametrize(("mode", "trace"), TRACES)
def test_two_traces_in_a_row_are_two_records(mode: str, trace: str):
    assert joined(mode, INFO, trace, trace, INFO) == [INFO, trace, trace, INFO]


@pytest.mark.parametrize("trace", [JAVA, PYTHON, GO], ids=["java", "python", "go"])
@pytest.mark.parametrize(
    "line",
    [
        "2024-05-01 12:00:00 ERROR [main] failed",
        "WARN failed",
        "ERROR:root:failed",
        "SEVERE: failed",
        "12:00 FATAL failed",
        "level=error msg=failed",
        'time=x level="warning" msg=failed',
        '{"level":"error","msg":"failed"}',
        "[error] failed",
        "2024-05-01 [Warning] failed",
        "E0501 12:00:00.000000       1 main.go:1] failed",
        "CRITICAL failed",
        "2009/11/10 23:00:00 http: panic serving 127.0.0.1:1234: boom",
    ],
)
def test_a_trace_directly_after_a_line_of_warn_or_above_belongs_to_it(line: str, trace: str):
    assert joined("auto", INFO, line, trace, INFO) == [INFO, f"{line}\n{trace}", INFO]


@pytest.mark.parametrize("trace", [JAVA, PYTHON, GO], ids=["java", "python", "go"])
@pytest.mark.parametrize(
    "line",
    [
        INFO,
        "an error occurred",
        "INFO retrying after an ERROR",
        'level=info msg="error"',
        "I0501 12:00:00.000000       1 main.go:1] fine",
        "",
        "ERRORS none",
        "MY_ERROR is a name",
    ],
)
def test_a_trace_after_any_other_line_is_a_record_of_its_own(line: str, trace: str):
    assert joined("auto", line, trace, INFO) == [line, trace, INFO]


def test_a_line_between_the_error_and_the_trace_parts_them():
    found = joined("java", "ERROR failed", INFO, JAVA, INFO)

    assert found == ["ERROR failed", INFO, JAVA, INFO]


def test_frames_whose_head_is_in_the_line_before_belong_to_it():
    line = "INFO failed: java.lang.IllegalStateException: no"
    frames = "\tat com.shop.Main.main(Main.java:5)\nCaused by: a.b.CException\n\t... 3 more"

    assert joined("java", line, frames, INFO) == [f"{line}\n{frames}", INFO]


@pytest.mark.parametrize("mode", ["indented", "java", "python", "go", "auto"])
def test_an_indented_line_belongs_to_the_record_before_it(mode: str):
    assert joined(mode, "one", "  two", "\tthree", "", "four", " five") == [
        "one\n  two\n\tthree",
        "",
        "four\n five",
    ]


def test_javascript_and_names_without_a_package_are_heads_by_auto():
    trace = "TypeError: x is not a function\n    at main (/app/a.js:1:2)\n    at b (c.js:3:4)"

    assert joined("auto", INFO, trace, "ERROR failed", trace, INFO) == [
        INFO,
        trace,
        f"ERROR failed\n{trace}",
        INFO,
    ]


def test_an_empty_line_behind_a_traceback_is_a_record_of_its_own():
    assert joined("python", PYTHON, "", INFO) == [PYTHON, "", INFO]


def test_an_empty_line_behind_a_panic_is_a_record_of_its_own():
    assert joined("go", GO, "", INFO) == [GO, "", INFO]


@pytest.mark.parametrize("mode", ["java", "python", "go", "indented", "auto"])
def test_lines_of_a_mode_whose_traces_do_not_occur_are_records(mode: str):
    lines = [INFO, "", "plain", "a: b", "func(x)", "x.y.Z: not an error", "{", "}"]

    assert joined(mode, *lines) == lines


def test_a_pattern_says_where_a_record_begins():
    data = b"rest\n[1] a\nb\n\nc\n[2] d\n[3] e\nf\n"
    expected = ["rest", "[1] a\nb\n\nc", "[2] d", "[3] e\nf"]

    assert messages(data, multiline=r"/^\[\d+\]/") == expected


def test_a_pattern_that_matches_nothing_joins_all():
    assert messages(b"a\nb\nc\n", multiline="/^x/") == ["a\nb\nc"]


def test_the_cr_of_each_line_is_left_out():
    assert messages(b"a\r\n  b\r\nc\r\n", multiline="indented") == ["a\n  b", "c"]


def test_a_joined_record_counts_its_lines_and_has_the_first_one_s_offset():
    made = records(b"one\n  two\n  three\nfour\n", multiline="indented")

    assert [record["offset"] for record in decoded(made)] == [0, 18]
    assert [made.taken(count).lines for count in range(3)] == [0, 3, 4]
    assert [made.taken(count).end for count in range(3)] == [0, 18, 23]


@pytest.mark.parametrize("mode", ["java", "python", "go", "indented", "auto", "/^x/"])
def test_the_last_record_is_open_and_is_read_again(mode: str):
    of = transform(multiline=mode)

    made = of(block(b"x one\nx two\n", start=10, flush=False))
    assert ([r["message"] for r in decoded(made)], made.end) == (["x one"], 16)

    again = of(block(b"x two\n", start=16, flush=False))
    assert (again.count, again.end) == (0, 16)

    flushed = of(block(b"x two\n", start=16, flush=True))
    assert ([r["message"] for r in decoded(flushed)], flushed.end) == (["x two"], 22)


@pytest.mark.parametrize("trace", PYTHON_TRACES + GO_TRACES)
@pytest.mark.parametrize("mode", ["python", "go", "auto"])
def test_a_trace_that_is_cut_anywhere_is_held_until_it_is_whole(trace: str, mode: str):
    if mode != "auto" and (trace in PYTHON_TRACES) != (mode == "python"):
        pytest.skip("another language's")
    of = transform(multiline=mode)
    lines = [*trace.split("\n"), INFO]
    for count in range(1, len(lines)):
        data = "".join(line + "\n" for line in lines[:count]).encode()
        made = of(block(data, flush=False))

        assert (made.count, made.end) == (0, 0), lines[:count]


def test_a_record_that_reaches_the_limit_goes_on_as_another_and_is_counted():
    data = b"start\n" + b"".join(b" line %d\n" % number for number in range(10)) + b"end\n"
    made = records(data, multiline="indented", max_line_bytes=30)
    found = [record["message"] for record in decoded(made)]

    assert "\n".join(found).encode() + b"\n" == data
    assert max(map(len, found)) <= 30
    assert found[-1] == "end"
    assert len(made.splits) == len(found) - 2


def test_the_splits_of_a_part_are_those_within_it():
    data = b"a\n" + b" 345678\n" * 8 + b"b\n"
    made = records(data, multiline="indented", max_line_bytes=16)

    parts = [made.slice(index, index + 1) for index in range(made.count)]
    assert sum(len(part.splits) for part in parts) == len(made.splits) == 4


def cri(stream: str, text: str) -> bytes:
    return f"2024-05-01T00:00:00Z {stream} F {text}\n".encode()


def test_traces_on_both_streams_are_joined_each_by_itself():
    data = b"".join(
        cri("stderr", line) + cri("stdout", f"INFO {number}")
        for number, line in enumerate([*PYTHON.split("\n"), "INFO behind"])
    )
    made = records(data, stream="stdout", multiline="python")
    found = decoded(made)

    assert [r["message"] for r in found if r["log.iostream"] == "stderr"] == [
        PYTHON,
        "INFO behind",
    ]
    assert [r["message"] for r in found if r["log.iostream"] == "stdout"] == [
        f"INFO {number}" for number in range(8)
    ]
    assert [r["offset"] for r in found] == sorted(r["offset"] for r in found)


def test_a_stream_that_has_fallen_silent_does_not_hold_up_the_other_one():
    silent = cri("stderr", "the last one")
    flood = b"".join(cri("stdout", f"INFO {number}") for number in range(1000))
    made = transform(stream="stdout", multiline="java")(block(silent + flood, flush=False))

    assert made.count > 900
    assert decoded(made)[0]["message"] == "the last one"


def test_lines_that_the_other_stream_has_come_far_between_are_records_of_their_own():
    flood = b"".join(cri("stdout", f"INFO {number}") for number in range(1000))
    data = cri("stderr", "one") + flood + cri("stderr", "  two") + cri("stderr", "  three")
    found = decoded(transform(stream="stdout", multiline="indented")(block(data)))

    assert [r["message"] for r in found if r["log.iostream"] == "stderr"] == [
        "one",
        "  two\n  three",
    ]


@pytest.mark.parametrize("mode", ["java", "python", "go", "indented", "auto"])
@pytest.mark.parametrize(
    "line",
    [
        b"a" * 1_000_000,
        b"a." * 500_000,
        b"a.A" * 333_333,
        b"Exception" * 111_111,
        b" " * 1_000_000,
        b"goroutine 1 " + b"a " * 500_000,
        b"x" + b"(" * 1_000_000,
        b"error" * 200_000,
        b"[" * 1_000_000,
    ],
)
def test_a_hostile_line_is_a_record_like_any_other(mode: str, line: bytes):
    data = line + b"\npanic: x\n" + line + b"\n" + line + b"\n"

    assert "\n".join(messages(data, multiline=mode, max_line_bytes=1 << 21)).encode() == data[:-1]
