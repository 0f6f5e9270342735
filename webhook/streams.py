"""One non-blocking socket, plain or TLS: bytes come in and go out, and nothing here ever waits.

The loop of `server` asks `wants` which readiness the stream needs to go on.
"""

import contextlib
import selectors
import socket
import ssl

from webhook.tls import Certificates

READ_BYTES = 16 * 1024
"""Taken at a time: one TLS record."""


class StreamError(OSError):
    """The peer broke the connection or spoke no TLS; the stream can only be closed."""


class Stream:
    """A plain TCP connection that was accepted."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(0)
        # Answers are small and sent in one piece: Nagle's algorithm would only hold them back.
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected: socket.socket = connected
        self.wants = selectors.EVENT_READ
        """`EVENT_READ` or `EVENT_WRITE`: what the last call that could not go on waits for."""

    def handshake(self) -> bool:
        """Go on with the handshake; return whether it is done.

        Raises:
            StreamError: it failed.
        """
        return True

    def receive(self) -> bytes | None:
        """Return what has come, `b""` at the peer's end, None where nothing has come yet.

        Raises:
            StreamError: the connection broke.
        """
        try:
            return self.connected.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            self.wants = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            self.wants = selectors.EVENT_WRITE
        except (OSError, ValueError) as error:
            raise StreamError(str(error)) from error
        return None

    def send(self, data: memoryview) -> int:
        """Send what the kernel takes of `data`; return how many bytes that was, 0 for not now.

        Raises:
            StreamError: the connection broke.
        """
        try:
            return self.connected.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
            self.wants = selectors.EVENT_WRITE
        except ssl.SSLWantReadError:
            self.wants = selectors.EVENT_READ
        except (OSError, ValueError) as error:
            raise StreamError(str(error)) from error
        return 0

    def has_more(self) -> bool:
        """Return whether bytes are waiting that the kernel does not know of any more."""
        return False

    def end_writing(self) -> None:
        """Tell the peer that nothing more will come; what it sends can still be discarded."""
        self.wants = selectors.EVENT_READ
        with contextlib.suppress(OSError):
            self.connected.shutdown(socket.SHUT_WR)

    def discard(self) -> bool:
        """Throw away a piece of what has come; return whether the peer is at its end.

        Raises:
            StreamError: the connection broke.
        """
        try:
            # Below TLS on purpose: nobody reads it, so nobody needs to decrypt it.
            return socket.socket.recv(self.connected, 4 * READ_BYTES) == b""
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            raise StreamError(str(error)) from error

    def close(self) -> None:
        """Close the socket."""
        self.connected.close()


class TlsStream(Stream):
    """A TCP connection that was accepted, with the server's side of TLS on it.

    TLS begins with the peer's first bytes: a peer that says nothing costs a twentieth that way.
    """

    def __init__(self, connected: socket.socket, certificates: Certificates) -> None:
        super().__init__(connected)
        self._certificates = certificates

    def handshake(self) -> bool:
        """Go on with the handshake; return whether it is done. Raises as `Stream.handshake`."""
        try:
            self._tls().do_handshake()
        except ssl.SSLWantReadError:
            self.wants = selectors.EVENT_READ
            return False
        except ssl.SSLWantWriteError:
            self.wants = selectors.EVENT_WRITE
            return False
        except (OSError, ValueError) as error:  # ValueError: the peer is gone already
            raise StreamError(str(error)) from error
        self._acknowledge()
        return True

    def _tls(self) -> ssl.SSLSocket:
        if isinstance(self.connected, ssl.SSLSocket):
            return self.connected
        context = self._certificates.context
        if context is None:
            raise StreamError("no certificate yet")
        # The descriptor goes over to the new socket object, with its number.
        wrapped = context.wrap_socket(
            self.connected, server_side=True, do_handshake_on_connect=False
        )
        self.connected = wrapped
        return wrapped

    def _acknowledge(self) -> None:
        """Acknowledge the client's last flight now.

        We have nothing to say after it in TLS 1.3, so the kernel would wait 40 ms for something,
        and a client with Nagle's algorithm as long with its request.
        """
        if hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self.connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def has_more(self) -> bool:
        """Return whether TLS holds bytes that it has decrypted already."""
        return isinstance(self.connected, ssl.SSLSocket) and self.connected.pending() > 0

    def end_writing(self) -> None:
        """Send close_notify, then the end of the TCP stream."""
        # The peer's own close_notify is not waited for: what still comes is thrown away.
        if isinstance(self.connected, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.connected.unwrap()
        super().end_writing()
