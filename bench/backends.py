"""Lines per CPU-second of each backend with a receiver that does nothing: ours alone.

Each run is a whole `--until-eof`; what a run with a single line costs (the start) is taken off.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measure import whole
from bench.programs import ATTRIBUTES, ROOT, Start
from bench.report import Report
from bench.throughput import plain_line, write_backlog

LINES = int(os.environ.get("BENCH_LINES", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
KINDS = (
    "http", "loki", "elasticsearch", "otlp", "forward", "syslog", "kafka", "file", "stdout",
)  # fmt: skip
ONLY = os.environ.get("BENCH_BACKENDS", ",".join(KINDS)).split(",")
FILES = 8
"""So that batches in flight are of different files."""
BAR = 0.6
"""Of `http`'s lines per CPU-second."""

_LIMITS: dict[str, Any] = {"batch_seconds": 0, "drain_seconds": 600}
# A batch of syslog takes a second of waiting, which costs nothing but time.
_SYSLOG_LIMITS = {"in_flight": 8, "batch_bytes": "8MiB"}


@contextmanager
def _receiver(kind: str) -> Iterator[str]:
    """Yield where a receiver listens, or where it does not need one: nothing."""
    if kind in ("file", "stdout"):
        yield ""
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.receivers", kind],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def _url(kind: str, address: str, folder: Path) -> dict[str, str]:
    if kind == "stdout":
        return {}
    if kind == "file":
        return {"url": str(folder / "out")}
    scheme = {"forward": "forward", "syslog": "tcp", "kafka": "kafka"}.get(kind, "http")
    return {"url": f"{scheme}://{address}"}


def _seconds(kind: str, compression: str, glob: str) -> float:
    """Return the CPU-seconds of one whole run."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with _receiver(kind) as address:
            row = {"name": kind, "type": kind, "compression": compression}
            config = {
                "sources": [{"path": glob, "container": "orders"}],
                "backends": [row | _url(kind, address, folder)],
                "state_dir": str(folder / "state"),
                "attributes": ATTRIBUTES,
                "limits": _LIMITS | (_SYSLOG_LIMITS if kind == "syslog" else {}),
            }
            path = folder / "sidetail.json"
            path.write_text(json.dumps(config))
            command = [sys.executable, "-m", "sidecar", "--config", str(path), "--until-eof"]
            return whole(Start(command, {**os.environ, "PYTHONPATH": str(ROOT)})).cpu_seconds
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(report: Report) -> None:
    """Measure every backend in turn, a few rounds."""
    backlog = Path(tempfile.mkdtemp(prefix="bench-backlog-"))
    try:
        one = backlog / "one"
        one.write_text("one line\n")
        lines = sum(
            write_backlog(backlog / f"{number}.log", plain_line, 130, LINES // FILES)
            for number in range(FILES)
        )
        for compression in ("none", "gzip"):
            kinds = [kind for kind in KINDS if kind in ONLY or kind == "http"]
            if compression == "gzip":
                kinds = [kind for kind in kinds if kind not in ("syslog", "file", "stdout")]
            found: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(ROUNDS):
                for kind in kinds:
                    start = _seconds(kind, compression, str(one))
                    spent = _seconds(kind, compression, f"{backlog}/*.log") - start
                    found[kind].append(lines / max(spent, 1e-9))
            _say(report, compression, found)
    finally:
        shutil.rmtree(backlog, ignore_errors=True)


def _say(report: Report, compression: str, found: dict[str, list[float]]) -> None:
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    title = f"Backends with 130-byte lines, compression: {compression}"
    report.table(
        title,
        ("backend", "k lines per CPU-second", "of http's", ""),
        [
            (
                kind,
                f"{value / 1000:,.0f}",
                f"{value / medians['http']:.0%}",
                "" if value >= BAR * medians["http"] else f"under {BAR:.0%}",
            )
            for kind, value in medians.items()
        ],
    )
    report.figures[title] = medians
