"""Lines per CPU-second of transform and encoding, by format and by way: `python -m bench.encode`.

One block after the other is transformed and encoded into a batch's body. With `--loop` the blocks
are read from a file before, and the bodies sent to another process behind: what a line costs
altogether, but for HTTP and the checkpoint. Take the ratios, not the figures.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sidecar import native
from sidecar.block import Block, FileFacts
from sidecar.encode import Body
from sidecar.ndjson import ndjson_template
from sidecar.settings import Limits, Source
from sidecar.transform.compile import compile_transform

Turn = Callable[[], int]
"""Handles all lines once; returns how many."""
DISCARD = (
    "import socket; s = socket.socket(fileno=0); b = bytearray(1 << 20)\nwhile s.recv_into(b): pass"
)
READ_AT = 1_714_564_800_123_456_789
BLOCK_BYTES = 64 * 1024
LIMITS = Limits(
    batch_bytes=1 << 20,
    batch_seconds=1.0,
    in_flight=2,
    max_line_bytes=1 << 20,
    open_files=256,
    files=100_000,
    deleted_bytes=1 << 28,
    partial_seconds=2.0,
    multiline_seconds=3.0,
    rotated_seconds=30.0,
    request_seconds=30.0,
    drain_seconds=25.0,
    max_rate=None,
    clean_above=None,
)
SOURCE = Source(
    index=0,
    path="/sidetail/logs/*.log",
    shown_as="/var/log/app",
    container="app",
    stream="file",
    exclude=(),
    format="text",
    multiline="none",
    fields={"team": "shop"},
    attributes={
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "orders-7d9f8b6c5-abcde",
        "k8s.pod.uid": "0f3c6a1e-5d1b-4f0a-9c57-2f6d1b8f7a10",
        "k8s.node.name": "node-1",
        "k8s.deployment.name": "orders",
        "k8s.container.name": "app",
        "service.name": "orders",
    },
    keep=None,
    drop=None,
    redact=(),
    skip_empty=False,
)


def text_line(number: int, size: int) -> bytes:
    level = (b"INFO ", b"INFO ", b"DEBUG", b"INFO ", b"WARN ", b"INFO ", b"ERROR")[number % 7]
    line = b"2024-05-01 12:00:00.%03d %s [worker-%d] com.shop.Orders - order %08x took %d ms" % (
        number % 1000,
        level,
        number % 9,
        number * 2_654_435_761 % 2**32,
        number % 977,
    )
    return (line + b" status=ok path=/api/v1/orders and so on until it is as long as asked" * 40)[
        :size
    ]


def json_line(number: int) -> bytes:
    return (
        b'{"level":"%s","ts":1714564800.%06d,"logger":"orders","msg":"order taken","order":"%08x",'
        b'"millis":%d,"ok":true}'
    ) % ((b"info", b"warn")[number % 7 == 0], number, number * 2_654_435_761 % 2**32, number % 977)


def escaped_line(number: int) -> bytes:
    return json_line(number).replace(b"order taken", b'order \\"taken\\"\\n')


def logfmt_line(number: int) -> bytes:
    return (
        b'time=2024-05-01T12:00:00.%03dZ level=%s logger=orders msg="order taken" order=%08x '
        b"millis=%d path=/api/v1/orders ok=true"
    ) % (
        number % 1000,
        (b"info", b"warn")[number % 7 == 0],
        number * 2_654_435_761 % 2**32,
        number % 977,
    )


def cri_line(number: int, text: bytes) -> bytes:
    stream = (b"stdout", b"stderr")[number % 5 == 0]
    return b"2024-05-01T12:00:00.%09dZ %s F %s" % (number * 1001, stream, text)


def docker_line(number: int, text: bytes) -> bytes:
    escaped = text.replace(b'"', b'\\"')
    return b'{"log":"%s\\n","stream":"stdout","time":"2024-05-01T12:00:00.%09dZ"}' % (
        escaped,
        number * 1001,
    )


def trace_lines(number: int) -> bytes:
    if number % 20:
        return text_line(number, 130)
    frames = b"".join(b"\n\tat com.shop.Orders.step%d(Orders.java:%d)" % (n, n) for n in range(20))
    return b"java.lang.IllegalStateException: no connection" + frames


@dataclass(frozen=True)
class Case:
    name: str
    line: Callable[[int], bytes]
    source: Source = SOURCE


def changed(**changes: object) -> Source:
    return replace(SOURCE, **changes)


REGEX = r"worker-\d+\].*took \d+ ms"
EMAIL = ("email", r"[\w.+-]+@[\w-]+\.\w+")
CARD = ("card", r"\b\d{16,20}\b")
BEARER = ("bearer", r"(?i)bearer\s+[\w./+=-]+")
ORDER = ("order", r"order [0-9a-f]{8}")
HEX = ("hex", r"\b[0-9a-f]{8}\b")

CASES = [
    Case("text, 130 bytes", lambda n: text_line(n, 130)),
    Case("text, 40 bytes", lambda n: text_line(n, 40)),
    Case("text, 200 bytes", lambda n: text_line(n, 200)),
    Case("text, 2,000 bytes", lambda n: text_line(n, 2000)),
    Case("text, CRLF", lambda n: text_line(n, 129) + b"\r"),
    Case("text, Cyrillic", lambda n: text_line(n, 60) + "заказ принят и оплачен, ".encode() * 2),
    Case("text, not UTF-8", lambda n: text_line(n, 129) + b"\xff"),
    Case(
        "text, skip_empty", lambda n: text_line(n, 130) if n % 10 else b"", changed(skip_empty=True)
    ),
    Case("cri", lambda n: cri_line(n, text_line(n, 130)), changed(format="cri")),
    Case(
        "stdout, json", lambda n: cri_line(n, json_line(n)), changed(stream="stdout", format="json")
    ),
    Case("docker", lambda n: docker_line(n, text_line(n, 130)), changed(format="docker")),
    Case("json", json_line, changed(format="json")),
    Case("logfmt", logfmt_line, changed(format="logfmt")),
    Case("auto, text", lambda n: text_line(n, 130), changed(format="auto")),
    Case("auto, json", json_line, changed(format="auto")),
    Case("java", trace_lines, changed(multiline="java")),
    Case("auto multi-line", trace_lines, changed(multiline="auto")),
    Case("indented", trace_lines, changed(multiline="indented")),
    Case("/^20../", trace_lines, changed(multiline=r"/^\d{4}-\d{2}-\d{2} /")),
    Case("keep 1 in 7", lambda n: text_line(n, 130), changed(keep="ERROR")),
    Case("keep most", lambda n: text_line(n, 130), changed(keep="INFO|ERROR|WARN")),
    Case("keep, any regex", lambda n: text_line(n, 130), changed(keep=REGEX)),
    Case("keep, json", json_line, changed(format="json", keep=r'"millis":\d+,.*(true|null)')),
    Case("drop 1 in 7", lambda n: text_line(n, 130), changed(drop="DEBUG")),
    Case("drop none", lambda n: text_line(n, 130), changed(drop=r"^GET /healthz")),
    Case("redact none", lambda n: text_line(n, 130), changed(redact=(EMAIL,))),
    Case("redact all", lambda n: text_line(n, 130), changed(redact=(ORDER,))),
    Case("redact, four", lambda n: text_line(n, 130), changed(redact=(EMAIL, CARD, BEARER, ORDER))),
    Case("redact none, json", json_line, changed(format="json", redact=(EMAIL,))),
    Case("redact all, json", json_line, changed(format="json", redact=(HEX,))),
    Case("redact escapes, json", escaped_line, changed(format="json", redact=(EMAIL,))),
    Case("redact none, logfmt", logfmt_line, changed(format="logfmt", redact=(EMAIL,))),
    Case("redact all, logfmt", logfmt_line, changed(format="logfmt", redact=(HEX,))),
]


def blocks_of(case: Case, facts: FileFacts) -> list[Block]:
    blocks, offset, number = [], 0, 0
    for _ in range(8):
        lines = []
        size = 0
        while size < BLOCK_BYTES:
            lines.append(case.line(number) + b"\n")
            size += len(lines[-1])
            number += 1
        data = b"".join(lines)
        blocks.append(Block(facts, offset, data, offset + len(data), READ_AT, flush=True))
        offset += len(data)
    return blocks


def lines_per_second(case: Case, seconds: float, turn: Callable[[Case], Turn]) -> float:
    """Return the best of many turns, each over the same lines."""
    run = turn(case)
    best = float("inf")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started = time.process_time()
        lines = run()
        best = min(best, (time.process_time() - started) / lines)
    return 1 / best


def in_memory(case: Case) -> Turn:
    """Return a turn that transforms and encodes blocks that are there."""
    facts = FileFacts("3f6d1b8f7a10c2e4d5f60718", "/var/log/app/app.log", case.source)
    blocks = blocks_of(case, facts)
    transform = compile_transform(case.source, LIMITS)
    template = ndjson_template(facts)
    lines = sum(block.data.count(b"\n") for block in blocks)
    body = Body(LIMITS.batch_bytes)

    def turn() -> int:
        for block in blocks:
            records = transform(block)
            if records.count:
                body.append(records, template, 1 << 40)
                body.clear()
        return lines

    return turn


def from_file_to_socket(case: Case) -> Turn:
    """Return a turn that reads a file, and sends a body whenever one is full."""
    facts = FileFacts("3f6d1b8f7a10c2e4d5f60718", "/var/log/app/app.log", case.source)
    content = b"".join(block.data for block in blocks_of(case, facts) * 4)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the turn
    file.write(content)
    file.flush()
    lines = content.count(b"\n")
    transform = compile_transform(case.source, LIMITS)
    template = ndjson_template(facts)
    body = Body(LIMITS.batch_bytes)
    ours, theirs = socket.socketpair()
    subprocess.Popen([sys.executable, "-c", DISCARD], stdin=theirs)
    theirs.close()

    def send() -> None:
        with body.view() as view:
            ours.sendall(view)
        body.clear()

    def turn() -> int:
        place = 0
        while place < len(content):
            data = os.pread(file.fileno(), BLOCK_BYTES, place)
            data = data[: data.rfind(b"\n") + 1]
            end = place + len(data)
            records = transform(Block(facts, place, data, end, READ_AT, flush=end == len(content)))
            taken = 0
            while taken < records.count:
                rest = records.slice(taken, records.count) if taken else records
                taken += body.append(rest, template, LIMITS.batch_bytes)
                if taken < records.count:
                    send()
            place = records.end
        send()
        return lines

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="a case and way")
    parser.add_argument("--loop", action="store_true", help="read before and send behind")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    options = parser.parse_args()
    turn = from_file_to_socket if options.loop else in_memory
    ways = ["c", "python"] if native.library() is not None else ["python"]
    print(f"{'thousand lines per CPU-second':30}", *(f"{way:>9}" for way in ways), "  of text")
    first: dict[str, float] = {}
    for case in CASES:
        if options.only not in case.name and case is not CASES[0]:
            continue
        print(f"{case.name:30}", end="")
        shares = []
        for way in ways:
            os.environ[native.ENCODER_ENV] = way
            native.library.cache_clear()
            figure = lines_per_second(case, options.seconds, turn)
            shares.append(figure / first.setdefault(way, figure))
            print(f" {figure / 1000:9,.0f}", end="")
            sys.stdout.flush()
        print("  ", " ".join(f"{share:5.2f}" for share in shares))


if __name__ == "__main__":
    main()
