"""The stdout mirror: bytes through the pipe, CPU against `cat` and `tee`, memory, start to end.

`cat` is what printing costs anyway: one process prints, another one reads. `tee` writes the bytes
to a file as they are. The mirror's two threads are also given one by one: the busier one is what
limits it where nobody else wants its core, whatever else this machine is doing.
"""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import Report

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "mirror" / "build" / "sidetail-mirror"
SIZE = 500_000_000
LINE_BYTES = (130, 1000, 10_000)
REPEATS = 3
SHORT_RUNS = 300
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way of printing took: wall and CPU seconds, of all its processes."""

    wall: float
    cpu: float
    threads: tuple[float, float] = (0.0, 0.0)
    """CPU seconds of the mirror's main thread and of its writer."""


def run(report: Report) -> None:
    """Measure and print; on a tmpfs, so that no disk is in the comparison."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        folder = Path(name)
        _throughput(report, folder)
        _others(report, folder)


def _throughput(report: Report, folder: Path) -> None:
    rows = []
    for length in LINE_BYTES:
        source = folder / "source"
        _write_lines(source, length)
        cat = _best(lambda: _printed("cat", str(source)))  # noqa: B023 - called at once
        tee = _best(lambda: _printed("sh", "-c", f"cat {source} | tee {folder}/teed"))  # noqa: B023
        mirror = _best(lambda: _mirrored(folder, f"cat {source}"))  # noqa: B023
        report.figures[f"mirror {length}"] = {
            "gb_per_second": SIZE / 1e9 / mirror.wall,
            "busier_thread_gb_per_second": SIZE / 1e9 / max(mirror.threads),
            "cpu_ratio_to_cat": mirror.cpu / cat.cpu,
            "cpu_ratio_to_tee": mirror.cpu / tee.cpu,
        }
        rows.append(
            [
                str(length),
                *(f"{SIZE / 1e9 / cost.wall:.2f}" for cost in (cat, tee, mirror)),
                *(f"{cost.cpu / SIZE * 1e9:.2f}" for cost in (cat, tee, mirror)),
                " + ".join(f"{seconds / SIZE * 1e9:.2f}" for seconds in mirror.threads),
                f"{SIZE / 1e9 / max(mirror.threads):.2f}",
            ]
        )
        for path in folder.iterdir():
            path.unlink()
    head = ["bytes a line", "cat, GB/s", "tee", "mirror", "cat, CPU s a GB", "tee", "mirror"]
    head += ["of it main + writer", "GB/s with a core for each"]
    report.table(f"The mirror: {SIZE / 1e6:.0f} MB through a pipe, best of {REPEATS}", head, rows)


def _write_lines(path: Path, length: int) -> None:
    text = b"2026-01-01T00:00:00Z INFO an ordinary line of text "
    line = (text * (length // len(text) + 1))[: length - 1] + b"\n"
    block = line * (1_000_000 // length)
    with path.open("wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)


def _best(measure: Callable[[], Cost]) -> Cost:
    return min((measure() for _ in range(REPEATS)), key=lambda cost: cost.wall)


def _printed(*argv: str) -> Cost:
    """Run a program whose output another one reads, as the container runtime would."""
    before, began = _children_cpu(), time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as printing:
        subprocess.run(["cat"], stdin=printing.stdout, stdout=subprocess.DEVNULL, check=True)
    return Cost(time.monotonic() - began, _children_cpu() - before)


def _mirrored(folder: Path, script: str) -> Cost:
    """Do the same through the mirror; it is looked at when all has been printed and read."""
    argv = [str(PROGRAM), "--file", f"{folder}/log", "--", "sh", "-c"]
    script = f"{script}; echo >&2; read end"
    before, began = _children_cpu(), time.monotonic()
    with (
        subprocess.Popen(
            [*argv, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as mirror,
        subprocess.Popen(["cat"], stdin=mirror.stdout, stdout=subprocess.DEVNULL),
    ):
        assert mirror.stderr
        assert mirror.stdin
        assert mirror.stdout
        mirror.stdout.close()
        mirror.stderr.readline()
        wall = time.monotonic() - began
        tasks = sorted(Path(f"/proc/{mirror.pid}/task").iterdir(), key=lambda one: int(one.name))
        main, writer = (_cpu_of(task / "stat") for task in tasks)
        mirror.stdin.close()
    return Cost(wall, _children_cpu() - before, (main, writer))


def _cpu_of(stat: Path) -> float:
    fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _others(report: Report, folder: Path) -> None:
    alone, mirrored = _short_runs(folder)
    idle = _resident(folder, "echo ready; exec sleep 60")
    busy = _resident(folder, "yes | head -n 10000000; echo ready; exec sleep 60")
    report.figures["mirror"] = {
        "resident_kib": busy,
        "idle_kib": idle,
        "bytes": PROGRAM.stat().st_size,
        "start_to_end_ms": mirrored - alone,
    }
    rows = [
        ["resident, idle", f"{idle} KiB"],
        ["resident, after 10 million lines", f"{busy} KiB"],
        ["size of the program", f"{PROGRAM.stat().st_size / 1024:.1f} KiB"],
        ["one `echo`, start to end", f"{alone:.2f} ms"],
        ["the same, mirrored", f"{mirrored:.2f} ms"],
    ]
    report.table("The mirror: what else it costs", ["", ""], rows)


def _resident(folder: Path, script: str) -> int:
    """Return the KiB that the mirror holds once its app has printed `ready`."""
    with _running(folder, script) as pid:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return int(next(line for line in status.splitlines() if "VmRSS" in line).split()[1])


@contextmanager
def _running(folder: Path, script: str) -> Iterator[int]:
    argv = [str(PROGRAM), "--file", f"{folder}/log", "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            while not process.stdout.readline().startswith(b"ready"):
                pass
            time.sleep(0.2)
            yield process.pid
        finally:
            process.kill()


def _short_runs(folder: Path) -> tuple[float, float]:
    """Return the milliseconds of one `echo`: alone, and through the mirror."""
    echo = [shutil.which("echo") or "echo", "last"]
    ways = (echo, [str(PROGRAM), "--file", f"{folder}/log", "--", *echo])
    spent = [0.0, 0.0]
    for _ in range(SHORT_RUNS):  # in turns: the machine is the same for both
        for way, argv in enumerate(ways):
            began = time.monotonic()
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
            spent[way] += time.monotonic() - began
    return spent[0] / SHORT_RUNS * 1e3, spent[1] / SHORT_RUNS * 1e3
