"""Counts, for each file of the pod: lines written, lines received, lost, repeated."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_CRI = re.compile(rb"\S+ (?:stdout|stderr) [FP](?::\S*)? ")


@dataclass(frozen=True, slots=True)
class Row:
    """One file as it stands on the volume, and what the collector has of it."""

    name: str
    written: int
    received: int
    repeated: int

    @property
    def lost(self) -> int:
        """Return how many lines never arrived."""
        return self.written - self.received


def judge(folders: list[tuple[str, Path]], records: list[Record]) -> list[Row]:
    """Return a row for each log file.

    A line counts as received if some record stands at its offset with its text; so the verdict
    trusts neither the sidecar's counters nor its names.

    Args:
        folders: (what to show, a folder of log files).
        records: everything that the collector stored.
    """
    contents: dict[str, list[Record]] = {}
    for record in records:
        contents.setdefault(str(record["id"]).rpartition("-")[0], []).append(record)
    files = (
        (f"{shown}/{path.relative_to(folder)}", path)
        for shown, folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    )
    rows = (_row(name, path.read_bytes(), contents) for name, path in files)
    return [row for row in rows if row.written]


def _row(name: str, content: bytes, contents: dict[str, list[Record]]) -> Row:
    """Return the row of one file: of all contents seen, the one that fits it best."""
    lines = _lines(content)
    best, repeated = 0, 0
    for records in contents.values():
        arrived: Counter[int] = Counter()
        for record in records:
            arrived.update(_covered(record, lines))
        if len(arrived) > best:
            best, repeated = len(arrived), sum(arrived.values()) - len(arrived)
    return Row(name, len(lines), best, repeated)


def _lines(content: bytes) -> dict[int, bytes]:
    """Return offset → text of every line, the last one too if it has no newline."""
    lines, offset = {}, 0
    for line in content.split(b"\n"):
        if line or offset + len(line) < len(content):
            lines[offset] = line
        offset += len(line) + 1
    return lines


def _covered(record: Record, lines: dict[int, bytes]) -> list[int]:
    """Return the offsets of the lines that the record holds, or none if its text differs."""
    offset = int(record["offset"])
    found = []
    for part in str(record["message"]).split("\n"):
        line = lines.get(offset)
        if line is None:
            return []
        text = line.removesuffix(b"\r").decode("utf-8", "replace")
        head = _CRI.match(line)
        inside = line[head.end() :].decode("utf-8", "replace") if head else text
        if part not in (text, inside):
            return []
        found.append(offset)
        offset += len(line) + 1
    return found
