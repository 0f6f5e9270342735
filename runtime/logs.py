"""A process's own log: JSON lines on stderr, a constant sentence each, its data in fields.

Log with `extra={"fields": {...}}`. A trouble that lasts is said through `Seldom`.
A line that cannot be written at once (a full pipe) is left out and counted: our own log never
holds up the work.
"""

import json
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

LEVELS = ("debug", "info", "warning", "error")
"""INFO: something an operator did has completed. WARNING: odd, recovered, nothing lost.
ERROR: data lost, or a human must act."""

_MAX_LINE = 16 * 1024


class JsonFormatter(logging.Formatter):
    """One JSON object a line; control characters of any field are escaped by JSON itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of ASCII JSON."""
        when = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, object] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update({key: value for key, value in fields.items() if key not in line})
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)[-4000:]
        text = json.dumps(line, default=str)
        if len(text) > _MAX_LINE:
            cut = {"time": line["time"], "level": line["level"], "message": line["message"]}
            text = json.dumps(cut | {"cut": len(text)}, default=str)[:_MAX_LINE]
        return text


class PipeHandler(logging.Handler):
    """Writes each line with one `write` to a descriptor, and never waits for its reader."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.left_out = 0
        """Lines that found the pipe full."""
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line, or count it where the reader does not keep up."""
        line = self.format(record).encode("ascii", "backslashreplace") + b"\n"
        # A pipe that polls writable takes PIPE_BUF (4,096) bytes without waiting, not more.
        for start in range(0, len(line), 4096):
            try:
                ready = self._poll.poll(0)
                if not ready or not ready[0][1] & select.POLLOUT:
                    self.left_out += 1
                    return
                os.write(self._descriptor, line[start : start + 4096])
            except OSError:
                self.left_out += 1
                return


def set_up_logs(level: str, *, descriptor: int = 2) -> PipeHandler:
    """Send this process's log to `descriptor` from `level` on; return the handler."""
    handler = PipeHandler(descriptor)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler


class Seldom:
    """Lets the same trouble be said at once, and then once a minute while it lasts.

    `trouble` is a short constant name, with the thing it concerns: `("full", "/state")`.
    """

    def __init__(
        self, *, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._said_at: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def due(self, *trouble: str) -> bool:
        """Return whether it is time to say `trouble` again."""
        now = self._clock()
        with self._lock:
            said_at = self._said_at.get(trouble)
            if said_at is not None and now - said_at < self._seconds:
                return False
            if len(self._said_at) >= 10_000:
                self._said_at.clear()
            self._said_at[trouble] = now
            return True

    def over(self, *trouble: str) -> bool:
        """Forget `trouble`; return whether it had been said."""
        with self._lock:
            return self._said_at.pop(trouble, None) is not None
