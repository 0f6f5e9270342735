"""Lines per CPU-second from a backlog on disk to HTTP, ours and others in turn."""

import os
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.measure import Cost, Sink, drain, sink
from bench.programs import Start, Work, fluent_bit, otelcol, sidetail
from bench.report import Report

LINES = int(os.environ.get("BENCH_LINES", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
_WORDS = [
    "order",
    "payment",
    "captured",
    "refused",
    "retry",
    "customer",
    "basket",
    "checkout",
    "shipped",
    "cancelled",
    "timeout",
    "connection",
    "pool",
    "worker",
    "queue",
    "latency",
    "upstream",
    "request",
    "response",
    "cache",
    "miss",
    "warm",
]

_MIN_COST = 1e-9
Kind = Callable[[random.Random, int], str]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One program in one configuration."""

    name: str
    start: Callable[[Work], Start]


def contestants() -> Iterator[Contestant]:
    """Yield ours, and each peer that an environment variable names."""
    yield Contestant("sidetail", sidetail)
    yield Contestant("sidetail, wheels only", lambda work: sidetail(work, encoder="python"))
    for name, variable, make in (
        ("fluent-bit", "FLUENT_BIT", fluent_bit),
        ("otelcol", "OTELCOL", otelcol),
    ):
        program = os.environ.get(variable)
        if program:
            for label, same in ((f"{name}, least record", False), (f"{name}, same facts", True)):
                yield Contestant(
                    label,
                    lambda work, make=make, program=program, same=same: make(
                        program, work, same_facts=same
                    ),
                )


def plain_line(chance: random.Random, size: int) -> str:
    """Return a log line of exactly `size` bytes, its newline included."""
    head = f"2026-11-20T10:15:{chance.randrange(60):02}.{chance.randrange(1000):03}Z INFO  "
    words = [chance.choice(_WORDS) for _ in range(size // 4)]
    return (head + " ".join(words))[: size - 1] + "\n"


def json_line(chance: random.Random, size: int) -> str:
    """Return a JSON line of about `size` bytes."""
    text = " ".join(chance.choice(_WORDS) for _ in range(size // 14))
    return (
        f'{{"time":"2026-11-20T10:15:{chance.randrange(60):02}Z","level":"info",'
        f'"order":{chance.randrange(10**6)},"msg":"{text}"}}\n'
    )


def cri_line(chance: random.Random, size: int) -> str:
    """Return a line as the kubelet (or the mirror) writes it."""
    head = f"2026-11-20T10:15:{chance.randrange(60):02}.{chance.randrange(10**9):09}Z stdout F "
    return head + plain_line(chance, max(40, size - len(head)))


def java_line(chance: random.Random, size: int) -> str:
    """Return a record: one line, or now and then one with a stack trace."""
    if chance.random() < 0.9:
        return plain_line(chance, size)
    frames = "".join(
        f"\tat shop.orders.Step{number}.run(Step{number}.java:{chance.randrange(400)})\n"
        for number in range(5)
    )
    return plain_line(chance, size).replace("INFO ", "ERROR") + frames


def write_backlog(path: Path, kind: Kind, size: int, lines: int) -> int:
    """Write at least `lines` lines, from a block that repeats; return how many there are."""
    chance = random.Random(size)
    block = "".join(kind(chance, size) for _ in range(2000)).encode()
    per_block = block.count(b"\n")
    written = 0
    with path.open("wb") as file:
        while written < lines:
            file.write(block)
            written += per_block
    return written


def run(report: Report) -> None:
    """Measure plain and gzip, sizes of lines, and formats."""
    everyone = list(contestants())
    ours = everyone[:1]
    cases = [
        ("130-byte lines, plain", plain_line, 130, False, {}, everyone),
        ("130-byte lines, gzip", plain_line, 130, True, {}, everyone),
        ("40-byte lines, plain", plain_line, 40, False, {}, everyone),
        ("200-byte lines, plain", plain_line, 200, False, {}, everyone),
        ("2,000-byte lines, plain", plain_line, 2000, False, {}, everyone),
        ("JSON lines", json_line, 130, False, {"format": "json"}, ours),
        ("CRI lines", cri_line, 170, False, {"stream": "stdout"}, ours),
        ("Java with stack traces", java_line, 130, False, {"multiline": "java"}, ours),
        ("keep and drop", plain_line, 130, False, {"keep": "INFO", "drop": "DEBUG"}, ours),
    ]
    for title, kind, size, gzip, source, who in cases:
        lines = LINES if size < 1000 else LINES // 10
        _case(
            report, title, kind, Work("", 0, Path(), gzip=gzip, source=source), who, (size, lines)
        )


def _case(
    report: Report,
    title: str,
    kind: Kind,
    work: Work,
    who: list[Contestant],
    extent: tuple[int, int],
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        lines = write_backlog(folder / "app.log", kind, *extent)
        costs: dict[str, list[Cost]] = {each.name: [] for each in who}
        for turn in range(ROUNDS):
            for each in who:
                with sink() as receiver:
                    costs[each.name].append(
                        _once(each, replace(work, glob=f"{folder}/app.log"), receiver, lines, turn)
                    )
        _say(report, title, costs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _once(each: Contestant, work: Work, receiver: Sink, lines: int, turn: int) -> Cost:
    place = Path(tempfile.mkdtemp(prefix=f"bench-{turn}-"))
    try:
        started = each.start(replace(work, port=receiver.port, folder=place))
        records = lines
        if work.source.get("multiline"):
            records = int(lines * 0.6)  # several lines are one record: quiet ends the run
        cost = drain(started, receiver, records)
        return replace(cost, lines=lines)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _say(report: Report, title: str, costs: dict[str, list[Cost]]) -> None:
    medians = {
        name: statistics.median(cost.lines_per_cpu_second for cost in found)
        for name, found in costs.items()
    }
    best = medians["sidetail"]
    report.table(
        title,
        ("program", "k lines per CPU-second", "sidetail is", "peak MiB"),
        [
            (
                name,
                f"{value / 1000:,.0f}",
                "" if name == "sidetail" else f"{best / max(value, _MIN_COST):.1f} ×",
                f"{max(cost.peak_mib for cost in costs[name]):.0f}",
            )
            for name, value in medians.items()
        ],
    )
    report.figures[title] = medians
