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
        self._turn = threading.Lock()

    def sender(self) -> Sender:
        """Return a writer."""
        return _Writer(self._descriptor, self._turn)


class _Writer:
    def __init__(self, descriptor: int, turn: threading.Lock) -> None:
        self.sent_bytes = 0
        self._descriptor = descriptor
        self._turn = turn
        self._batch: Batch | None = None
        self._written = 0

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        """Write what is not yet written of the batch, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        if self._batch is not batch:
            if not self._turn.acquire(timeout=seconds):
                return Retry("timeout")
            self._batch, self._written = batch, 0
        try:
            whole = self._write(b"".join(batch.pieces()), lambda: deadline - time.monotonic())
        except OSError as error:
            return Retry(f"write_{error.errno}")
        if not whole:
            return Retry("timeout")  # the turn stays ours: nobody writes into a half line
        self._batch = None
        self._turn.release()
        return Delivered()

    def close(self) -> None:
        """Standard output stays open."""

    def _write(self, body: bytes, left: Callable[[], float]) -> bool:
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
        return True
