"""A server of bytes over TCP or TLS: the part that fakes of protocols other than HTTP share."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Self


class StreamServer:
    """Accepts connections on a loopback port and serves each in a thread of its own."""

    def __init__(
        self, serve: Callable[[socket.socket], None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.connections = 0
        self.failures: list[Exception] = []
        """What `serve` raised beyond broken connections; close() raises the first."""
        self._serve = serve
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._place = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self._listener: socket.socket | None = None
        self._closed = False
        self._listen(self._place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def cut(self) -> None:
        """Reset the connections that are open."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            reset(connection)

    def down(self) -> None:
        """Refuse connections, and reset those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def up(self) -> None:
        """Listen again, on the same port."""
        self._listen(socket.create_server(("127.0.0.1", self.port)))

    def close(self) -> None:
        """End: no thread and no socket stays behind."""
        self._closed = True
        self.down()
        for thread in self._threads:
            thread.join(20)
        if any(thread.is_alive() for thread in self._threads):
            raise RuntimeError("a thread of the fake server did not end")
        if self.failures:
            raise self.failures[0]

    def _listen(self, listener: socket.socket) -> None:
        self._listener = listener
        self._start(self._accept, listener)

    def _start(self, body: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=body, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self._start(self._run, connection)

    def _run(self, connection: socket.socket) -> None:
        used = connection
        try:
            if self._tls is not None:
                used = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.add(used)
            self._serve(used)
        except (OSError, EOFError):
            pass  # the peer hung up, or `cut` did
        except Exception as error:  # close() shows it
            self.failures.append(error)
        finally:
            with self._lock:
                self._open -= {connection, used}
            used.close()
            connection.close()


def reset(connection: socket.socket) -> None:
    """End a connection with a reset, whoever is reading from it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Only shutting down wakes a thread that is in recv; its close then sends the reset.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
