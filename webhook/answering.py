"""Whole requests come in, answers go out: small ones on the loop, large ones by one worker.

An admission takes about a millisecond of computing and calls nobody (design D10), so a thread of
its own would cost it more than it takes. A large body takes long enough for others to notice.
"""

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from runtime.workers import Worker
from webhook.connections import Connection, Phase
from webhook.framing import HttpRequest, HttpResponse, plain_answer

_log = logging.getLogger(__name__)

Answer = Callable[[HttpRequest], HttpResponse]

LARGE_BYTES = 256 * 1024
"""A body above it is answered by the worker."""
SLICE_SECONDS = 0.01
"""For so long requests are answered before the sockets are looked at again."""

_CALLER_SECONDS = re.compile(r"[?&]timeout=([0-9]{1,4})s(?:&|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A whole request whose turn has not come."""

    connection: Connection
    request: HttpRequest
    answer: Answer
    gives_up_at: float
    """Monotonic time at which the caller has stopped waiting."""


class Answering:
    """The requests that wait; all but the worker's own body is called on the loop's thread."""

    def __init__(
        self,
        *,
        respond: Callable[[Connection, HttpResponse], None],
        wake: Callable[[], None],
        counts: Counter[str],
    ) -> None:
        self._respond = respond
        self._wake = wake
        self._counts = counts
        self._small: deque[Waiting] = deque()
        self._large: SimpleQueue[Waiting | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Connection, HttpResponse | None]] = SimpleQueue()
        self._worker = Worker("large-bodies", self._answer_large)
        self.in_hand: Connection | None = None
        """Whose request the worker has."""

    def start(self) -> None:
        """Start the worker."""
        self._worker.start()

    def stop(self) -> None:
        """Let the worker end after the request it has in hand."""
        self._large.put(None)
        self._worker.join(1.0)

    def __len__(self) -> int:
        return len(self._small) + self._large.qsize()

    @property
    def is_due(self) -> bool:
        """Whether there is something for the loop to answer now."""
        return bool(self._small)

    def queue(self, waiting: Waiting) -> None:
        """Take a whole request; a connection has at most one, so their number is bounded."""
        if len(waiting.request.body) > LARGE_BYTES:
            self._large.put(waiting)
        else:
            self._small.append(waiting)

    def answer_some(self) -> None:
        """Answer small requests in their order, for a slice of time."""
        until = time.monotonic() + SLICE_SECONDS
        while self._small and time.monotonic() < until:
            waiting = self._small.popleft()
            if waiting.connection.phase is Phase.ANSWERING:
                self._hand_out(waiting.connection, _answered(waiting))

    def collect(self) -> None:
        """Hand out what the worker has answered."""
        while not self._done.empty():
            connection, response = self._done.get()
            if connection.phase is Phase.ANSWERING:
                self._hand_out(connection, response)

    def _hand_out(self, connection: Connection, response: HttpResponse | None) -> None:
        if response is None:
            self._counts["shed"] += 1
            response = overloaded("the caller has stopped waiting")
        self._respond(connection, response)

    def _answer_large(self) -> None:
        while (waiting := self._large.get()) is not None:
            if waiting.connection.phase is Phase.ANSWERING:  # else it was given up meanwhile
                self.in_hand = waiting.connection
                self._done.put((waiting.connection, _answered(waiting)))
                self.in_hand = None
            del waiting  # its body is not to live until the next one comes
            self._wake()


def _answered(waiting: Waiting) -> HttpResponse | None:
    """Return the answer, or None where nobody waits for it any more: that is not computed."""
    if time.monotonic() > waiting.gives_up_at:
        return None
    return answer_of(waiting.answer, waiting.request)


def answer_of(answer: Answer, request: HttpRequest) -> HttpResponse:
    """Return the answer to `request`; a fault is answered 500 and told without its text."""
    try:
        return answer(request)
    except Exception as error:  # noqa: BLE001 - the loop and the worker outlive a faulty answer
        # The error's text may hold a piece of the request, which no log of ours may.
        _log.error(
            "a request met a fault of ours", extra={"fields": {"error": type(error).__name__}}
        )
        return plain_answer(500, "a fault of ours")


def caller_patience(target: str) -> float:
    """Return for how many seconds the caller waits; API servers say it as `?timeout=5s`."""
    said = _CALLER_SECONDS.search(target)
    return float(said[1]) if said else 30.0


def overloaded(text: str) -> HttpResponse:
    """Return the answer that sends a caller away, for a moment."""
    return plain_answer(503, text, (("Retry-After", "1"),))
