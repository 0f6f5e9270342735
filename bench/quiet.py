"""What an idle or gently fed sidecar costs: CPU, memory, latency; and a dead backend's backlog."""

import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.measure import Sink, memory_mib, running, running_seconds, sink, whole
from bench.programs import Work, sidetail
from bench.report import Report
from bench.throughput import Contestant, contestants, plain_line, write_backlog

IDLE_SECONDS = float(os.environ.get("BENCH_IDLE_SECONDS", "30"))
BACKLOG_BYTES = int(os.environ.get("BENCH_BACKLOG_BYTES", str(1 << 30)))


@contextmanager
def _place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _peers() -> list[Contestant]:
    return [each for each in contestants() if "wheels" not in each.name and "same" not in each.name]


def idle(report: Report) -> None:
    """Measure memory and CPU with 1, 100 and 1,000 files that nobody writes to."""
    rows = []
    for files in (1, 10, 100, 1000):
        for each in _peers():
            with _place() as folder, sink() as receiver:
                logs = folder / "logs"
                logs.mkdir()
                for number in range(files):
                    (logs / f"{number}.log").write_text("one line\n")
                work = Work(f"{logs}/*.log", receiver.port, folder)
                with running(each.start(work)) as process:
                    time.sleep(4)
                    before = running_seconds(process.pid)
                    time.sleep(IDLE_SECONDS)
                    share = (running_seconds(process.pid) - before) / IDLE_SECONDS
                    memory = memory_mib(process.pid)
            rows.append((f"{each.name}, {files} files", f"{memory:.1f}", f"{share * 100:.2f}"))
    report.table("Idle", ("program", "resident MiB", "% of a core"), rows)


def steady(report: Report) -> None:
    """Measure CPU under 1,000 and 10,000 lines a second into one file."""
    rows = []
    for rate in (1000, 10_000):
        shares = {each.name: _steady(each, rate) for each in _peers()}
        best = shares["sidetail"]
        rows += [
            (f"{name}, {rate:,} lines/s", f"{share * 100:.2f}", f"{share / best:.1f} ×")
            for name, share in shares.items()
        ]
    report.table("Steady load", ("program", "% of a core", "of sidetail's"), rows)


def _steady(each: Contestant, rate: int) -> float:
    with _place() as folder, sink() as receiver:
        log = folder / "app.log"
        log.touch()
        line = plain_line(random.Random(1), 130).encode()
        ended = threading.Event()

        def write() -> None:
            with log.open("ab", buffering=0) as file:
                while not ended.wait(0.01):
                    for _ in range(rate // 100):
                        file.write(line)

        with running(each.start(Work(str(log), receiver.port, folder))) as process:
            time.sleep(3)
            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(2)
            before = running_seconds(process.pid)
            time.sleep(IDLE_SECONDS / 2)
            share = (running_seconds(process.pid) - before) / (IDLE_SECONDS / 2)
            ended.set()
            writer.join()
    return share


def latency(report: Report) -> None:
    """Measure the time from a write to its arrival, on an idle pod with `batch_seconds: 0`."""
    with _place() as folder, sink("--keep-times") as receiver:
        log = folder / "app.log"
        log.touch()
        work = Work(str(log), receiver.port, folder, limits={"batch_seconds": 0})
        delays = []
        with running(sidetail(work)), log.open("ab", buffering=0) as file:
            time.sleep(3)
            receiver.counts()
            for _ in range(300):
                written_at = time.monotonic()
                file.write(b"a line that is in a hurry\n")
                time.sleep(0.05)
                times = receiver.counts()["times"]
                if times:
                    delays.append((times[0][0] - written_at) * 1000)
    delays.sort()
    report.table(
        "From a write to the backend, idle pod",
        ("lines", "p50 ms", "p99 ms"),
        [
            (
                str(len(delays)),
                f"{statistics.median(delays):.1f}",
                f"{delays[int(len(delays) * 0.99)]:.1f}",
            )
        ],
    )


def dead_backend(report: Report) -> None:
    """Measure memory with a full backlog and nobody listening, and while it is caught up."""
    with _place() as folder, sink() as receiver:
        size = 130
        write_backlog(folder / "app.log", plain_line, size, BACKLOG_BYTES // size)
        work = Work(str(folder / "app.log"), 1, folder)
        with running(sidetail(work)) as process:
            time.sleep(10)
            dead = memory_mib(process.pid, "VmHWM")
        caught_up = _catch_up(replace(work, port=receiver.port), receiver)
    report.table(
        "Memory with a backlog",
        ("moment", "resident MiB"),
        [
            (f"dead backend, {BACKLOG_BYTES >> 20:,} MiB waiting", f"{dead:.1f}"),
            ("peak while it is caught up", f"{caught_up:.1f}"),
        ],
    )


def _catch_up(work: Work, receiver: Sink) -> float:
    with running(sidetail(work)) as process:
        seen = -1
        while receiver.counts()["bytes"] != seen:
            seen = receiver.counts()["bytes"]
            time.sleep(2)
        return memory_mib(process.pid, "VmHWM")


def start(report: Report) -> None:
    """Measure a whole `--until-eof` run with one line waiting."""
    costs = []
    for _ in range(7):
        with _place() as folder, sink() as receiver:
            (folder / "app.log").write_text("one line\n")
            work = Work(str(folder / "app.log"), receiver.port, folder)
            costs.append(whole(sidetail(work, until_eof=True)).cpu_seconds * 1000)
    report.table(
        "Start to end with one line waiting",
        ("run", "CPU ms"),
        [("--until-eof, median of 7", f"{statistics.median(costs):.0f}")],
    )


def run(report: Report) -> None:
    """Measure all of it."""
    start(report)
    latency(report)
    idle(report)
    steady(report)
    dead_backend(report)
