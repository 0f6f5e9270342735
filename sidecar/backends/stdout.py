"""`stdout`: newline-delimited JSON on our own standard output.

There is no acknowledgement: what the kernel took counts as one. A reader that does not keep up
holds the lines in their files; what was written of a batch before it gave up is not repeated.
"""

import os
import select
import threading
import time
from collections.abc import Callable

from runtime.settings import Key
from sidecar.backends.answers import Answer, Backend, Delivered, Retry, Sender
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.ndjson import ndjson_template
from sidecar.settings import BackendSettings, Settings

SCHEMES: tuple[str, ...] = ()
OPTIONS: tuple[Key, ...] = ()
_PIPE_BUF = 4096
"""A pipe that polls writable takes this many bytes without waiting."""


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del backend, settings
    return StdoutBackend()


class StdoutBackend(TemplateEncoder):
    """Standard output, which all workers share: one writes a whole batch at a time."""

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__(ndjson_template)
        self._descriptor = descriptor
        self._turn = _Turn()

    def sender(self) -> Sender:
        """Return a writer."""
        return _Writer(self._descriptor, self._turn)


class _Turn:
    """Whose turn it is to write, and how the last one left the output."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.torn = False
        """True if the output may end within a line whose rest will never come."""


class _Writer:
    def __init__(self, descriptor: int, turn: _Turn) -> None:
        self.sent_bytes = 0
        self._descriptor = descriptor
        self._turn = turn
        self._batch: Batch | None = None
        self._written = 0

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Write what is not yet written of the batch, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        if self._batch is not batch:
            if not self._turn.lock.acquire(timeout=seconds):
                return Retry("timeout")
            self._batch, self._written = batch, 0
        try:
            whole = self._write(batch, lambda: deadline - time.monotonic())
        except OSError as error:
            return Retry(f"write_{error.errno}")
        if not whole:
            return Retry("timeout")  # the turn stays ours: nobody writes into a half line
        self._batch = None
        self._turn.lock.release()
        return Delivered()

    def close(self) -> None:
        """Let others write, even where a batch was given up; standard output stays open."""
        if self._batch is not None:
            self._turn.torn = self._turn.torn or self._written > 0
            self._batch = None
            self._turn.lock.release()

    def _write(self, batch: Batch, left: Callable[[], float]) -> bool:
        body = b"".join((b"\n" if self._turn.torn else b"", *batch.pieces()))
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        view = memoryview(body)
        while self._written < len(body):
            if not poll.poll(max(0.0, left()) * 1000):
                return False
            piece = view[self._written : self._written + _PIPE_BUF]
            written = os.write(self._descriptor, piece)
            self._written += written
            self.sent_bytes += written
        self._turn.torn = False
        return True
