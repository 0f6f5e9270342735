"""The one HTTP door: one keep-alive HTTP/1.1 connection, every step of it within a deadline.

The address is looked up anew for each connection, and the connection goes to an address that was
looked at (never a link-local one). Certificates are always checked unless the operator said
otherwise. Redirects are an answer like any other; no body is unpacked; an answer is read up to a
limit.

Source: RFC 9112. An answer of the plain kind (one Content-Length, nothing odd) is read
without a parser for all kinds; every other one is left to h11.
"""

import contextlib
import ipaddress
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.backends.http_answer import (
    MAX_ANSWER_BYTES,
    AnswerReader,
    HttpAnswer,
    ProtocolError,
    request_head,
    time_left,
)
from sidecar.url import Url

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 10.0
MAX_AGE_SECONDS = 55.0
"""A connection is not used longer, so that a changed DNS answer is seen within a minute."""
_PIECE = 256 * 1024
_MAX_PIECES = 512
"""Buffers of one `sendmsg`; the kernel takes 1,024."""
_TLS_WAITS = ("SSLWantReadError", "SSLWantWriteError")


class ConnectError(Exception):
    """No connection: nothing of the request was sent; `reason` is `dns`, `connection` or `tls`."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail[:200]}")


class ExchangeError(Exception):
    """The connection broke, or the answer made no sense, after the request had begun."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail[:200]}")


def connect(
    url: Url,
    tls_context: "Callable[[], ssl.SSLContext] | None",
    *,
    seconds: float,
    allow_link_local: bool,
) -> socket.socket:
    """Return a connected socket, TLS done where a context is given.

    Raises:
        ConnectError: the name is unknown, no address answers in time, or TLS fails.
    """
    deadline = time.monotonic() + min(seconds, CONNECT_SECONDS)
    failure = ConnectError("dns", "no usable address")
    for family, kind, protocol, _, address in addresses(url, allow_link_local=allow_link_local):
        try:
            return _connect_one(
                socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol),
                address,
                url,
                tls_context,
                deadline,
            )
        except ConnectError as error:
            failure = error
        if time.monotonic() >= deadline:
            break
    raise failure


def addresses(
    url: Url, *, allow_link_local: bool
) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    """Return where a connection to `url` may go, as `socket.getaddrinfo` has it.

    Raises:
        ConnectError: the name is unknown (`dns`), or leads to link-local addresses alone.
    """
    # As bytes: for text Python imports its tables of international names.
    host = url.host.encode("ascii") if url.host.isascii() else url.host
    try:
        found = socket.getaddrinfo(host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectError("dns", str(error)) from error
    usable = [row for row in found if allow_link_local or not _is_link_local(str(row[4][0]))]
    if found and not usable:
        raise ConnectError("link_local", "the name leads to a link-local address")
    return usable  # type: ignore[return-value] # the stubs allow for families that have no host


def _is_link_local(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return inner.is_link_local
    return address.is_link_local


def _connect_one(
    plain: socket.socket,
    address: tuple[str, int],
    url: Url,
    tls_context: "Callable[[], ssl.SSLContext] | None",
    deadline: float,
) -> socket.socket:
    connected = plain
    try:
        plain.settimeout(max(0.001, deadline - time.monotonic()))
        plain.connect(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls_context is not None:
            plain.settimeout(max(0.001, deadline - time.monotonic()))
            connected = tls_context().wrap_socket(plain, server_hostname=url.host)
    except TimeoutError as error:
        plain.close()
        raise ConnectError("connect_timeout", str(error)) from error
    except OSError as error:
        plain.close()
        reason = "tls" if tls_context is not None and _is_tls(error) else "connection"
        raise ConnectError(reason, str(error)) from error
    return connected


def _is_tls(error: OSError) -> bool:
    import ssl

    return isinstance(error, ssl.SSLError)


class HttpConnection:
    """Sends requests over one connection at a time, and makes a new one when it must."""

    def __init__(
        self,
        url: Url,
        tls_context: "Callable[[], ssl.SSLContext] | None",
        *,
        allow_link_local: bool = False,
    ) -> None:
        self._url = url
        self._tls_context = tls_context
        self._allow_link_local = allow_link_local
        self._socket: socket.socket | None = None
        self._opened_at = 0.0

    def exchange(
        self,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Sequence[bytes | memoryview],
        *,
        seconds: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> HttpAnswer:
        """POST `body` to `target` and return the answer.

        Args:
            target: path and query.
            headers: beyond Host and Content-Length.
            body: pieces, sent one after the other without a copy.
            seconds: for all of it, connecting included.
            max_answer_bytes: the rest of a longer answer is not read.

        Raises:
            ConnectError: nothing was sent.
            ExchangeError: it is unknown whether the server took the request.
        """
        deadline = time.monotonic() + seconds
        self._ready(seconds)
        try:
            return self._exchange(target, headers, body, deadline, max_answer_bytes)
        except TimeoutError as error:
            self.close()
            raise ExchangeError("timeout", str(error)) from error
        except OSError as error:
            self.close()
            raise ExchangeError("connection", str(error)) from error
        except ProtocolError as error:
            self.close()
            raise ExchangeError("protocol", str(error)) from error

    def close(self) -> None:
        """Close the connection; the next exchange makes a new one."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _ready(self, seconds: float) -> None:
        """Have a connection that the server has not closed meanwhile."""
        if self._socket is not None:
            stale = time.monotonic() - self._opened_at > MAX_AGE_SECONDS
            # Something to read before anything was asked is the end, or noise. Looking first
            # avoids nearly all ambiguous re-sends on keep-alive connections.
            if stale or early_bytes(self._socket) is not None:
                self.close()
        if self._socket is None:
            self._socket = connect(
                self._url,
                self._tls_context,
                seconds=seconds,
                allow_link_local=self._allow_link_local,
            )
            self._opened_at = time.monotonic()

    def _exchange(
        self,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: Sequence[bytes | memoryview],
        deadline: float,
        max_answer_bytes: int,
    ) -> HttpAnswer:
        head = request_head(target, [("Host", self._url.authority), *headers], sum(map(len, body)))
        early = self._send([head, *body], deadline)
        reader = AnswerReader(self._connected(), early or b"", deadline, max_answer_bytes)
        answer = reader.read()
        if early is not None or not reader.reusable:
            self.close()
        return answer

    def _send(self, pieces: list[bytes | memoryview], deadline: float) -> bytes | None:
        """Send the pieces; return None, or what the server said before it had all of them."""
        connection = self._connected()
        rest = [memoryview(piece) for piece in pieces]
        while rest:
            connection.settimeout(0)
            try:
                sent = _send_some(connection, rest)
            except (BrokenPipeError, ConnectionResetError):
                return b""  # what the server said before it hung up may still be read
            if sent:
                rest = _without(rest, sent)
                continue
            # The peer does not keep up: wait for it, and listen whether it has had enough.
            events = poll(connection, select.POLLIN | select.POLLOUT, time_left(deadline))
            early = early_bytes(connection) if events & ~select.POLLOUT else None
            if early is not None:
                return early
        return None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionResetError("not connected")
        return self._socket


def _send_some(connection: socket.socket, pieces: list[memoryview]) -> int:
    """Send what can be sent without waiting; return how many bytes, 0 for none."""
    try:
        if hasattr(connection, "pending"):  # TLS has no scatter and gather
            return connection.send(pieces[0][:_PIECE])
        return connection.sendmsg(pieces[:_MAX_PIECES])
    except (BlockingIOError, InterruptedError):
        return 0
    except OSError as error:
        if type(error).__name__ in _TLS_WAITS:
            return 0
        raise


def _without(pieces: list[memoryview], sent: int) -> list[memoryview]:
    """Return what is left of the pieces when `sent` bytes are gone."""
    for place, piece in enumerate(pieces):
        if sent < len(piece):
            return [piece[sent:], *pieces[place + 1 :]]
        sent -= len(piece)
    return []


def early_bytes(connection: socket.socket) -> bytes | None:
    """Return what is there to read without waiting: b"" at the end, None where there is nothing."""
    if not poll(connection, select.POLLIN, 0) and not _has_more(connection):
        return None  # without an exception, which costs more than the question
    connection.settimeout(0)
    try:
        return connection.recv(64 * 1024)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as error:
        # A TLS connection that has only a session ticket to read wants more of it.
        return None if type(error).__name__ in _TLS_WAITS else b""


def _has_more(connection: socket.socket) -> bool:
    """Return whether TLS has read bytes that nobody has asked for yet."""
    pending = getattr(connection, "pending", None)
    return pending is not None and pending() > 0


def poll(connection: socket.socket, events: int, seconds: float) -> int:
    """Wait at most `seconds` for one of `events`; return those that came, 0 for none."""
    watch = select.poll()
    watch.register(connection, events)
    ready = watch.poll(seconds * 1000)
    return ready[0][1] if ready else 0
