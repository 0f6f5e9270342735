"""A connection that bytes are written to, for protocols that are not HTTP: forward and syslog."""

import contextlib
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.backends.connection import (
    MAX_AGE_SECONDS,
    ExchangeError,
    connect,
    early_bytes,
    poll,
)
from sidecar.backends.http_answer import time_left
from sidecar.batch import Piece
from sidecar.url import Url

if TYPE_CHECKING:
    import ssl

_TLS_PIECE = 256 * 1024
"""Written at a time, since TLS goes on until all of it is written; TCP takes what it can."""
_LINGER_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class StreamConnection:
    """One TCP or TLS connection at a time; it belongs to one thread.

    What breaks it raises ExchangeError (reasons `timeout` and `connection`) and closes it.
    """

    def __init__(
        self,
        url: Url,
        tls_context: "Callable[[], ssl.SSLContext] | None",
        *,
        allow_link_local: bool = False,
    ) -> None:
        self.sent_bytes = 0
        """What went into connections, ever."""
        self._url = url
        self._tls_context = tls_context
        self._allow_link_local = allow_link_local
        self._socket: socket.socket | None = None
        self._opened_at = 0.0

    def open(self, deadline: float) -> bool:
        """Have a connection that its peer has not closed; return whether it is a new one.

        Raises:
            ConnectError: there is none to be had.
        """
        if self._socket is not None:
            stale = time.monotonic() - self._opened_at > MAX_AGE_SECONDS
            if not stale and early_bytes(self._socket) != b"":
                return False
            self.close()
        self._socket = connect(
            self._url,
            self._tls_context,
            seconds=max(0.001, deadline - time.monotonic()),
            allow_link_local=self._allow_link_local,
        )
        self._opened_at = time.monotonic()
        return True

    def send(self, pieces: Sequence[Piece], deadline: float) -> None:
        """Write the pieces one after the other."""
        with self._breaking():
            connection = self._connected()
            most = _TLS_PIECE if hasattr(connection, "pending") else None
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    connection.settimeout(time_left(deadline))
                    sent = connection.send(view[:most])
                    self.sent_bytes += sent
                    view = view[sent:]

    def receive(self, deadline: float) -> bytes:
        """Return what comes next, at least one byte and at most 64 KiB."""
        with self._breaking():
            connection = self._connected()
            connection.settimeout(time_left(deadline))
            received = connection.recv(64 * 1024)
            if not received:
                raise ConnectionResetError("closed by its peer")
            return received

    def stay(self, seconds: float, deadline: float) -> None:
        """See that the peer's kernel has all that was sent, and the connection for `seconds` more.

        What the peer says meanwhile is thrown away.
        """
        with self._breaking():
            connection = self._connected()
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                time_left(deadline)
                came = poll(connection, select.POLLIN | select.POLLRDHUP, min(left, seconds))
                if came and early_bytes(connection) == b"":
                    raise ConnectionResetError("closed by its peer")
            while _unacknowledged(connection):
                time_left(deadline)
                time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Close the connection now."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def finish(self) -> None:
        """Close the connection when the peer has read everything, after a second at most.

        Closing at once while bytes of the peer are unread (a TLS session ticket) would reset the
        connection, and a reset takes from the peer what it has not read yet.
        """
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError, ValueError):
                _say_goodbye(connection, time.monotonic() + _LINGER_SECONDS)
        self.close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionResetError("not connected")
        return self._socket

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self.close()
            raise ExchangeError("timeout", str(error)) from error
        except OSError as error:
            self.close()
            raise ExchangeError("connection", str(error)) from error


def _unacknowledged(connection: socket.socket) -> int:
    """Return the bytes that the peer's kernel has not acknowledged; 0 where nobody knows."""
    try:
        answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int(struct.unpack("i", answer)[0])


def _say_goodbye(connection: socket.socket, deadline: float) -> None:
    unwrap = getattr(connection, "unwrap", None)
    if unwrap is not None:
        connection.settimeout(_LINGER_SECONDS / 2)
        with contextlib.suppress(OSError):
            connection = unwrap()
    connection.shutdown(socket.SHUT_WR)
    while True:
        connection.settimeout(time_left(deadline))
        if not connection.recv(64 * 1024):
            return
