"""Listening sockets: an address comes in, peers go out, and the host of their connections."""

import errno
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from webhook.answering import Answer, Waiting, answer_of, caller_patience
from webhook.connections import Connection, Limits
from webhook.framing import HttpRequest
from webhook.streams import Stream, TlsStream
from webhook.tls import Certificates


class Loop(Protocol):
    """What a listener needs of the server."""

    limits: Limits
    is_closing: bool
    counts: Counter[str]


class Listener:
    """One listening socket, and the host of the connections that come by it."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        loop: Loop,
        answer: Answer,
        certificates: Certificates | None,
        queue: Callable[[Waiting], None],
    ) -> None:
        listening.settimeout(0)
        self.socket = listening
        self.limits = loop.limits
        self.certificates = certificates
        """None for plain HTTP; its requests do not queue behind the others, nor end with them."""
        self._loop = loop
        self._answer = answer
        self._queue = queue

    @property
    def is_closing(self) -> bool:
        """Whether every answer ends its connection."""
        return self._loop.is_closing

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    def count(self, event: str) -> None:
        """Count `event`."""
        self._loop.counts[event] += 1

    def take(self, connection: Connection, request: HttpRequest) -> None:
        """Answer `request`: in its turn, or at once for a probe."""
        if self.certificates is None:
            connection.respond(answer_of(self._answer, request))
            return
        gives_up_at = connection.began_at + caller_patience(request.target)
        self._queue(Waiting(connection, request, self._answer, gives_up_at))

    def accept(self) -> Connection | None:
        """Return a new peer, None if there is none.

        Raises:
            OSError: there is no room for it, or it is gone again.
        """
        try:
            connected, _ = self.socket.accept()
        except (BlockingIOError, InterruptedError):
            return None
        if self.certificates is None:
            return Connection(Stream(connected), self)
        return Connection(TlsStream(connected, self.certificates), self)


def open_listening(host: str, port: int, *, backlog: int = 4096) -> socket.socket:
    """Return a listening TCP socket; `::` means all addresses, IPv6 and IPv4.

    Raises:
        OSError: the address cannot be had.
    """
    addresses = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
    )
    try:
        return _listen(addresses[0][0], (host, port), backlog)
    except OSError as error:
        if host != "::" or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _listen(socket.AF_INET, ("0.0.0.0", port), backlog)  # noqa: S104 - as asked for


def _listen(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening
