"""Receivers that cost little, one for each protocol: they take everything and keep nothing.

`python -m bench.receivers KIND` prints where it listens, then serves until its stdin ends.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable

import msgpack

_SIZE = 1 << 20
_PACK_HEAD = 2 + 31 + 5
"""Of a PackedForward message whose tag has at most 31 bytes; no message is shorter."""


def main(kind: str) -> None:
    """Serve one protocol."""
    if kind == "kafka":
        from tests.fakes import kafka

        kafka.main()
        return
    serve = {"syslog": _swallow, "forward": _forward}.get(kind, _http(kind))
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    threading.Thread(target=_accept, args=(listener, serve), daemon=True).start()
    sys.stdin.read()


def _accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_quietly, args=(serve, connection), daemon=True).start()


def _quietly(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError, EOFError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(connection)


def _swallow(connection: socket.socket) -> None:
    buffer = bytearray(_SIZE)
    while connection.recv_into(buffer):
        pass


def _http(kind: str) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        rest = b""
        while True:
            while b"\r\n\r\n" not in rest:
                rest += _some(connection)
            head, _, rest = rest.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            newlines = rest[:length].count(b"\n")
            left = length - len(rest)
            rest = rest[length:]
            while left > 0:
                piece = _some(connection, min(left, _SIZE))
                newlines += piece.count(b"\n")
                left -= len(piece)
            connection.sendall(_answer(kind, newlines))

    return serve


def _answer(kind: str, newlines: int) -> bytes:
    if kind == "loki":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    body = b"{}"
    if kind == "elasticsearch":
        items = b",".join([b'{"create":{"status":201}}'] * (newlines // 2))
        body = b'{"errors":false,"items":[' + items + b"]}"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _forward(connection: socket.socket) -> None:
    """Acknowledge each PackedForward message, its entries unread."""
    rest = b""
    while True:
        while len(rest) < _PACK_HEAD:
            rest += _some(connection)
        tag_length = rest[1] & 0x1F
        begin = 2 + tag_length + 5
        end = begin + int.from_bytes(rest[begin - 4 : begin], "big")
        left = end - len(rest)
        rest = rest[end:]
        while left > 0:
            piece = _some(connection)
            rest, left = piece[left:] if len(piece) > left else b"", left - len(piece)
        options, rest = _options(connection, rest)
        connection.sendall(msgpack.packb({"ack": options["chunk"]}))


def _options(connection: socket.socket, rest: bytes) -> tuple[dict[str, str], bytes]:
    while True:
        unpacker = msgpack.Unpacker()
        unpacker.feed(rest)
        with contextlib.suppress(msgpack.OutOfData):
            options = unpacker.unpack()
            return options, rest[unpacker.tell() :]
        rest += _some(connection)


def _some(connection: socket.socket, size: int = _SIZE) -> bytes:
    piece = connection.recv(size)
    if not piece:
        raise EOFError
    return piece


if __name__ == "__main__":
    main(sys.argv[1])
