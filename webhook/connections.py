"""One connection's life: handshake, request, answer, the next request, the end.

The loop of `server` calls `go_on` when the socket is ready and `expire` when the deadline has
passed; the connection hands whole requests to its `Host` and gets `respond` back, now or later.
"""

import math
import selectors
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from webhook.framing import Framing, HttpRequest, HttpResponse, Refused
from webhook.streams import Stream, StreamError

_READS_A_TURN = 4
"""Pieces one connection may read before the others have their turn."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may take; every wait of a connection ends with one of these."""

    handshake_seconds: float = 5.0
    """For the first byte, and from there to the end of the handshake: a client that is one of a
    thousand is not to pay for the time its first byte waited for us."""
    request_seconds: float = 10.0
    """From the first byte of a request, or the end of the handshake, to the last of its body."""
    response_seconds: float = 10.0
    """For taking an answer."""
    idle_seconds: float = 120.0
    """Between requests. API servers give their own idle connections up after 90."""
    discard_seconds: float = 2.0
    """After an answer that ends the connection: what still comes is thrown away for so long."""
    max_connections: int = 4096
    max_body_bytes: int = 7 * 1024 * 1024
    """An object of 3 MiB, its old version, and the rest of the review."""
    max_held_bytes: int = 32 * 1024 * 1024
    """Of all bodies that wait or are coming in; above it the largest is given up."""


class Phase(Enum):
    """Where a connection stands."""

    HANDSHAKE = auto()
    IDLE = auto()
    READING = auto()
    ANSWERING = auto()
    """The request is in other hands; nothing is read meanwhile."""
    WRITING = auto()
    DISCARDING = auto()
    CLOSED = auto()


class Host(Protocol):
    """What a connection needs of the server."""

    limits: Limits

    @property
    def is_closing(self) -> bool:
        """Whether every answer is to end its connection."""

    def now(self) -> float:
        """Return the monotonic time in seconds."""

    def take(self, connection: "Connection", request: HttpRequest) -> None:
        """Answer `request` by `connection.respond`, now or later."""

    def count(self, event: str) -> None:
        """Count something that a person who runs the webhook may want to see."""


class Connection:
    """A peer, from its accept to its end."""

    def __init__(self, stream: Stream, host: Host) -> None:
        self.stream = stream
        self.phase = Phase.HANDSHAKE
        self.deadline = host.now() + host.limits.handshake_seconds
        self.began_at = 0.0
        """When the first byte of the handshake, then of the request in hand came."""
        self.held_bytes = 0
        """Of the body that is coming in or waits for its answer."""
        self.must_go_on = False
        """Whether there is work that the kernel does not know of."""
        self._host = host
        self._framing = Framing(max_body_bytes=host.limits.max_body_bytes)
        self._out = memoryview(b"")
        self._ends = False

    @property
    def interest(self) -> int:
        """Return the readiness to wait for (`EVENT_READ`, `EVENT_WRITE`), 0 for none."""
        return 0 if self.phase in (Phase.ANSWERING, Phase.CLOSED) else self.stream.wants

    def go_on(self) -> None:
        """Do what can be done without waiting."""
        self.must_go_on = False
        try:
            if self.phase is Phase.HANDSHAKE:
                self._shake_hands()
            if self.phase in (Phase.IDLE, Phase.READING):
                self._read()
            elif self.phase is Phase.WRITING:
                self._write()
            elif self.phase is Phase.DISCARDING and self.stream.discard():
                self.close()
        except StreamError:
            if self.phase is Phase.HANDSHAKE:
                self._host.count("handshake_failed")
            self.close()

    def respond(self, response: HttpResponse, *, close: bool = False) -> None:
        """Send the answer to the request in hand; with `close` it is the connection's last."""
        if self.phase is Phase.CLOSED:
            return
        self.held_bytes = 0
        close = close or response.status >= 400 or self._host.is_closing
        rendered, self._ends = self._framing.render(response, close=close)
        self._out = memoryview(rendered)
        self._enter(Phase.WRITING, self._host.limits.response_seconds)
        self.stream.wants = selectors.EVENT_WRITE
        try:
            self._write()
        except StreamError:
            self.close()

    def expire(self) -> None:
        """End what has taken too long."""
        if self.phase is Phase.READING and self._framing.has_begun:
            self._host.count("request_timed_out")
            self._refuse(Refused(408, "the request took too long"))
            return
        if self.phase is Phase.HANDSHAKE:
            self._host.count("handshake_timed_out")
        self.end()

    def end(self) -> None:
        """Say goodbye and close, without an answer."""
        if self.phase is not Phase.HANDSHAKE:
            self.stream.end_writing()
        self.close()

    def close(self) -> None:
        """Close at once."""
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self.held_bytes = 0
            self.stream.close()

    def _enter(self, phase: Phase, seconds: float) -> None:
        self.phase = phase
        self.deadline = self._host.now() + seconds

    def _shake_hands(self) -> None:
        if not self.began_at:
            self.began_at = self._host.now()
            self.deadline = self.began_at + self._host.limits.handshake_seconds
        if self.stream.handshake():
            self._enter(Phase.IDLE, self._host.limits.request_seconds)
            self.stream.wants = selectors.EVENT_READ

    def _read(self) -> None:
        # What a pipelining peer sent behind its last request is looked at first.
        if self.phase is Phase.IDLE and self._framing.has_begun:
            self._begin_request()
            if self._advance():
                return
        for _ in range(_READS_A_TURN):
            received = self.stream.receive()
            if received is None:
                return
            if received == b"":
                self._meet_the_end()
                return
            if self.phase is Phase.IDLE:
                self._begin_request()
            self._framing.feed(received)
            if self._advance():
                return
        self.must_go_on = self.stream.has_more()

    def _begin_request(self) -> None:
        self._enter(Phase.READING, self._host.limits.request_seconds)
        self.began_at = self._host.now()

    def _advance(self) -> bool:
        """Take the next step with what is here; return whether reading is to pause."""
        step = self._framing.next()
        if step is None:
            self.held_bytes = self._framing.held_bytes
            return self._send_continue()
        if isinstance(step, Refused):
            self._refuse(step)
            return True
        self._enter(Phase.ANSWERING, math.inf)
        self.held_bytes = len(step.body)
        self._host.take(self, step)
        return True

    def _send_continue(self) -> bool:
        """Send `100 Continue` if the peer waits for it; return whether it could not be sent."""
        waited_for = self._framing.take_continue()
        if waited_for and self.stream.send(memoryview(waited_for)) != len(waited_for):
            # A fresh connection whose kernel buffer has no room for 25 bytes is not in order.
            raise StreamError("no room for 100 Continue")
        return False

    def _meet_the_end(self) -> None:
        """The peer will send nothing more; it may still read an answer."""
        if self.phase is Phase.READING and self._framing.has_begun:
            self._refuse(Refused(400, "the request broke off"))
        else:
            self.close()

    def _refuse(self, refused: Refused) -> None:
        self._host.count("request_refused")
        self.respond(refused.response())

    def _write(self) -> None:
        while self._out:
            sent = self.stream.send(self._out)
            if sent == 0:
                return
            self._out = self._out[sent:]
        self.stream.wants = selectors.EVENT_READ
        if self._ends:
            self.stream.end_writing()
            self._enter(Phase.DISCARDING, self._host.limits.discard_seconds)
            return
        self._enter(Phase.IDLE, self._host.limits.idle_seconds)
        # The next request may be here already: in the framing, or decrypted in TLS.
        self.must_go_on = self._framing.has_begun or self.stream.has_more()
