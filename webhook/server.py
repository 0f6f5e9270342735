"""The server: listening sockets and functions that answer come in; every peer has its turn.

One thread turns the loop: it does all the waiting, the TLS, the framing, and the small requests.
Why not a server that others wrote: docs/decisions/server.md.
"""

import errno
import logging
import selectors
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from runtime.stop import Stop
from webhook.answering import SLICE_SECONDS, Answer, Answering, overloaded
from webhook.connections import Connection, Limits, Phase
from webhook.framing import HttpResponse
from webhook.listening import Listener
from webhook.streams import TlsStream
from webhook.tls import Certificates

_log = logging.getLogger(__name__)

DRAIN_SECONDS = 6.0
"""After stop was asked: for so long new peers are still taken, as clients learn of it late."""

_TURN_SECONDS = 0.25
"""The longest wait of the loop, and the time between two looks at the deadlines."""
_ACCEPTS_A_TURN = 256
_EVENTS_AT_A_TIME = 64
"""After so many ready sockets some answers are due: a flood of handshakes holds nobody up."""
_FINISH_SECONDS = 25.0
"""After the drain: more than what is under way may take together."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(slots=True)
class _Place:
    """What the server knows of a connection."""

    descriptor: int
    interest: int = 0
    held_bytes: int = 0


class Server:
    """Serves any number of listeners on one thread, until it is told to stop."""

    def __init__(self, *, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.is_closing = False
        """Whether answers end their connections."""
        self.counts: Counter[str] = Counter()
        """`accepted`, `handshake_failed`, `evicted`, …: how often since the start."""
        self.held_bytes = 0
        """Of all bodies that wait or are coming in."""
        self._listeners: list[Listener] = []
        self._selector = selectors.DefaultSelector()
        self._places: OrderedDict[Connection, _Place] = OrderedDict()
        """The connections, the one that has been silent longest first."""
        self._eager: set[Connection] = set()
        """Those with work that the kernel does not know of."""
        self._swept_at = 0.0
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.settimeout(0)
        self._answering = Answering(respond=self._respond, wake=self.wake, counts=self.counts)
        self._selector.register(self._woken, selectors.EVENT_READ, self._meet_wake)

    @property
    def wake_descriptor(self) -> int:
        """Return a descriptor: a byte written to it wakes the loop (`signal.set_wakeup_fd`)."""
        return self._waker.fileno()

    @property
    def open_connections(self) -> int:
        """Return how many connections there are."""
        return len(self._places)

    @property
    def waiting_requests(self) -> int:
        """Return how many whole requests wait for their turn."""
        return len(self._answering)

    def serve(
        self, listening: socket.socket, answer: Answer, *, certificates: Certificates | None = None
    ) -> None:
        """Answer the peers of a listening socket, which is ours from now on.

        With `certificates` it speaks TLS; without, it is for probes: answered before all others,
        and to the very end.
        """
        listener = Listener(
            listening,
            loop=self,
            answer=answer,
            certificates=certificates,
            queue=self._answering.queue,
        )
        self._listeners.append(listener)
        self._selector.register(
            listening, selectors.EVENT_READ, lambda: self._accept_from(listener)
        )

    def wake(self) -> None:
        """Let the loop turn once; safe from any thread."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # full: it will wake anyway; closed: there is no loop any more

    def run(self, stop: Stop, *, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Serve until stop is asked; then for `drain_seconds` more, and finish what is under way.

        A second request to stop ends everything at once. The listening sockets are closed.
        """
        self._answering.start()
        try:
            while not self._is_finished(stop, drain_seconds):
                self._turn()
        finally:
            self._close_everything()

    def _turn(self) -> None:
        in_haste = self._answering.is_due or bool(self._eager)
        ready = self._selector.select(0 if in_haste else _TURN_SECONDS)
        for start in range(0, len(ready), _EVENTS_AT_A_TIME):
            for key, _ in ready[start : start + _EVENTS_AT_A_TIME]:
                self._meet(key.data)
            self._answering.answer_some()
        eager, self._eager = self._eager, set()
        for connection in eager:
            self._let(connection, connection.go_on)
        self._answering.answer_some()
        self._sweep()

    def _meet(self, ready: Connection | Callable[[], None]) -> None:
        if isinstance(ready, Connection):
            self._let(ready, ready.go_on)
        else:
            ready()

    def _let(self, connection: Connection, act: Callable[[], None]) -> None:
        """Let `connection` do something, and look at what came of it."""
        if connection not in self._places:
            return  # it was evicted earlier in this turn
        try:
            act()
        except Exception as error:  # noqa: BLE001 - one peer's trouble must not end the others
            self.counts["fault"] += 1
            _log.error(
                "a connection was closed by a fault of ours",
                extra={"fields": {"error": type(error).__name__}},
                exc_info=error,
            )
            connection.close()
        self._settle(connection)

    def _respond(self, connection: Connection, response: HttpResponse) -> None:
        self._let(connection, lambda: connection.respond(response))

    def _settle(self, connection: Connection) -> None:
        place = self._places[connection]
        self.held_bytes += connection.held_bytes - place.held_bytes
        place.held_bytes = connection.held_bytes
        self._wait_for(connection, place)
        if connection.phase is Phase.CLOSED:
            del self._places[connection]
            self._eager.discard(connection)
            return
        self._places.move_to_end(connection)
        if connection.must_go_on:
            self._eager.add(connection)
        if self.held_bytes > self.limits.max_held_bytes:
            self._give_up_largest()

    def _wait_for(self, connection: Connection, place: _Place) -> None:
        interest = connection.interest
        if interest == place.interest:
            return
        # By number, as the socket may be closed already, which the selector takes calmly.
        if interest == 0:
            self._selector.unregister(place.descriptor)
        elif place.interest == 0:
            self._selector.register(place.descriptor, interest, connection)
        else:
            self._selector.modify(place.descriptor, interest, connection)
        place.interest = interest

    def _accept_from(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection = listener.accept()
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._make_room()
                    return
                continue
            if connection is None:
                return
            if len(self._places) >= self.limits.max_connections:
                self._evict()
            self.counts["accepted"] += 1
            self._places[connection] = _Place(connection.stream.connected.fileno())
            self._settle(connection)

    def _make_room(self) -> None:
        """The kernel gives no more descriptors or memory."""
        self.counts["no_descriptors"] += 1
        if not self._evict():
            time.sleep(SLICE_SECONDS)  # nothing of ours to give back: do not turn idly

    def _evict(self) -> bool:
        """Close the connection that has been silent longest; return whether there was one."""
        for connection in self._places:
            if connection.phase not in (Phase.ANSWERING, Phase.WRITING):
                self.counts["evicted"] += 1
                self._let(connection, connection.end)
                return True
        return False

    def _give_up_largest(self) -> None:
        """Make room in memory: the largest body that nobody works on yet is answered 503."""
        in_hand = self._answering.in_hand
        candidates = [connection for connection in self._places if connection is not in_hand]
        largest = max(candidates, key=lambda connection: connection.held_bytes, default=None)
        if largest is not None and largest.held_bytes:
            self.counts["shed"] += 1
            self._respond(largest, overloaded("too much is waiting"))

    def _meet_wake(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except OSError:
            pass  # nothing left
        self._answering.collect()

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < _TURN_SECONDS:
            return
        self._swept_at = now
        for connection in [each for each in self._places if each.deadline <= now]:
            self._let(connection, connection.expire)
        for listener in self._listeners:
            if listener.certificates is not None:
                listener.certificates.trim()

    def _is_finished(self, stop: Stop, drain_seconds: float) -> bool:
        if not stop.asked or stop.asked_at is None:
            return False
        self.is_closing = True
        if stop.at_once:
            return True
        over = time.monotonic() - stop.asked_at - drain_seconds
        if over < 0:
            return False
        self._stop_listening()
        return over > _FINISH_SECONDS or not any(map(_is_under_way, self._places))

    def _stop_listening(self) -> None:
        """Take the last peers of the backlog, then no more; say goodbye to idle connections."""
        for listener in [each for each in self._listeners if each.certificates is not None]:
            self._accept_from(listener)
            self._selector.unregister(listener.socket)
            listener.socket.close()
            self._listeners.remove(listener)
        for connection in [each for each in self._places if each.phase is Phase.IDLE]:
            self._let(connection, connection.go_on)  # its next request may just have come
            if connection.phase is Phase.IDLE:
                self._let(connection, connection.end)

    def _close_everything(self) -> None:
        self._answering.stop()
        for connection in list(self._places):
            self._let(connection, connection.end)
        for listener in self._listeners:
            listener.socket.close()
        self._selector.close()
        for end in (self._waker, self._woken):
            end.close()


def _is_under_way(connection: Connection) -> bool:
    """Return whether an exit has to wait for `connection`; no probe holds one up."""
    return isinstance(connection.stream, TlsStream) and connection.phase is not Phase.IDLE
