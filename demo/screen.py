"""What the demo prints: one line a step, records in a colour a file, a table at the end."""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_COLOURS = ("36", "33", "35", "32", "34", "31")
_WIDTH = 110


class DemoError(Exception):
    """The demo cannot go on; the text is one line that says what to do."""


class Screen:
    """Standard output, written by several threads, a line at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {}
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0
        self._started_at = time.monotonic()

    def line(self, text: str = "") -> None:
        """Print one line."""
        with self._lock:
            print(text, flush=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Print what is being done, and then how long it took."""
        self._step += 1
        number = self._step
        self.line(self._paint("1", f"[{number:2}] {what}"))
        started_at = time.monotonic()
        yield
        self.line(f"     done ({time.monotonic() - started_at:.1f} s)")

    def note(self, text: str) -> None:
        """Print a remark that belongs to the step under way."""
        self.line(f"     {text}")

    def record(self, source: str, text: str) -> None:
        """Print one record that arrived, in its file's colour."""
        with self._lock:
            colour = self._colours.setdefault(source, _COLOURS[len(self._colours) % len(_COLOURS)])
        shown = "".join(
            char if char.isprintable() else "⏎" if char == "\n" else "·" for char in text
        )
        name = source.rsplit("/", 1)[-1]
        self.line(self._paint(colour, f"     {name:>12} │ {shown[:_WIDTH]}"))

    def added(self, text: str) -> None:
        """Print a line of a diff that was added."""
        self.line(self._paint("32", text))

    def table(self, rows: Sequence[Sequence[object]]) -> None:
        """Print rows in columns; the first row is the head."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
        for number, row in enumerate(texts):
            cells = [
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            line = "  " + "  ".join(cells)
            self.line(self._paint("1", line) if number == 0 else line)

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started_at

    def _paint(self, colour: str, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._coloured else text
