"""What formats and filters cost: ours alone, as shares of plain text's lines per CPU-second.

Each run is a whole `--until-eof` on a backlog; what the same run costs with a single line (the
start) is taken off.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.encode import escaped_line, json_line, logfmt_line, text_line
from bench.measure import sink, whole
from bench.programs import Work, sidetail
from bench.report import Report
from bench.throughput import Kind, cri_line, java_line, plain_line, write_backlog

LINES = int(os.environ.get("BENCH_LINES", "300000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
ONLY = os.environ.get("BENCH_FORMATS", "")
BAR = 0.33
"""Of plain text."""
REDACT = {
    "email": r"[\w.+-]+@[\w-]+\.\w+",
    "card": r"\b\d{16,20}\b",
    "bearer": r"(?i)bearer\s+[\w./+=-]+",
    "order": r"\border\W+[0-9a-f]{8}",
    "hex": r"\b[0-9a-f]{8}\b",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One source's settings, and the lines that it reads."""

    name: str
    kind: Kind
    source: Mapping[str, object] = field(default_factory=dict)


def _numbered(line: Callable[[int], bytes]) -> Kind:
    """Return the lines of bench.encode as a kind of bench.throughput."""
    return lambda chance, _: line(chance.randrange(10**6)).decode() + "\n"


_TEXT = _numbered(lambda number: text_line(number, 129))
_JSON, _ESCAPED, _LOGFMT = _numbered(json_line), _numbered(escaped_line), _numbered(logfmt_line)
_OBJECT = {"format": "json"}
CASES = [
    Case("plain text", _TEXT),
    Case("stream: stdout (CRI)", cri_line, {"stream": "stdout"}),
    Case("keep, words, most lines match", _TEXT, {"keep": "INFO|ERROR|WARN"}),
    Case("keep, any regex, every line matches", _TEXT, {"keep": r"worker-\d+\].*took \d+ ms"}),
    Case("drop, any regex, no line matches", _TEXT, {"drop": r"GET /health\w*\s+[45]\d\d"}),
    Case("redact, no line matches", _TEXT, {"redact": ["email"]}),
    Case("redact, every line matches", _TEXT, {"redact": ["order"]}),
    Case(
        "redact, four patterns, every line matches",
        _TEXT,
        {"redact": ["email", "card", "bearer", "order"]},
    ),
    Case("multiline: /regex/", _TEXT, {"multiline": r"/^\d{4}-\d\d-\d\d /"}),
    Case("multiline: java, one record in ten a trace", java_line, {"multiline": "java"}),
    Case("format: json", _JSON, _OBJECT),
    Case("json, keep", _JSON, {**_OBJECT, "keep": r'"millis":\d+,.*true'}),
    Case("json, redact, no line matches", _JSON, {**_OBJECT, "redact": ["email"]}),
    Case("json, redact, every line matches", _JSON, {**_OBJECT, "redact": ["hex"]}),
    Case("json with escapes, redact", _ESCAPED, {**_OBJECT, "redact": ["email"]}),
    Case("format: auto, text", plain_line, {"format": "auto"}),
    Case("format: logfmt", _LOGFMT, {"format": "logfmt"}),
    Case("logfmt, redact, no line matches", _LOGFMT, {"format": "logfmt", "redact": ["email"]}),
    Case("logfmt, redact, every line matches", _LOGFMT, {"format": "logfmt", "redact": ["hex"]}),
]


def run(report: Report) -> None:
    """Measure all cases, in turn; the cheapest runs count, as neighbours only add."""
    cases = [case for case in CASES if ONLY in case.name or case is CASES[0]]
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        cheapest = _cheapest(cases, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    shares = {name: cheapest[CASES[0].name] / cost for name, cost in cheapest.items()}
    report.table(
        "Formats and filters",
        ("format or filter", "ns a line", "of plain text"),
        [
            (
                name,
                f"{cheapest[name] * 1e9:,.0f}",
                f"{share:.0%}" + ("" if share >= BAR else ", short of a third"),
            )
            for name, share in shares.items()
        ],
    )
    report.figures["formats"] = shares


def _cheapest(cases: Sequence[Case], folder: Path) -> dict[str, float]:
    """Return the CPU-seconds of a line in each case."""
    many: dict[str, list[float]] = {case.name: [] for case in cases}
    one: dict[str, list[float]] = {case.name: [] for case in cases}
    lines = 0
    for _ in range(ROUNDS):
        for case in cases:
            path = folder / "many.log"
            lines = write_backlog(path, case.kind, 130, LINES)
            with path.open("rb") as file:
                (folder / "one.log").write_bytes(file.readline())
            many[case.name].append(_seconds(case, path))
            one[case.name].append(_seconds(case, folder / "one.log"))
    return {name: (min(found) - min(one[name])) / lines for name, found in many.items()}


def _seconds(case: Case, path: Path) -> float:
    state = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with sink() as receiver:
            work = Work(str(path), receiver.port, state, source=case.source, redact=REDACT)
            return whole(sidetail(work, until_eof=True)).cpu_seconds
    finally:
        shutil.rmtree(state, ignore_errors=True)
