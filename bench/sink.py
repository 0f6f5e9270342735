"""A log backend that costs little: takes POSTs, counts bytes and records, and says 200.

`python -m bench.sink [--count-lines]` prints its port, then serves until its standard input ends.
GET /count answers `{"requests": …, "bytes": …, "lines": …, "last": …}` (last: monotonic seconds
of the latest request). It never parses a record; lines are newlines, after gunzip where needed.
"""

import argparse
import json
import socket
import sys
import threading
import time
from typing import Any

from isal import isal_zlib

_COUNTS: dict[str, Any] = {"requests": 0, "bytes": 0, "lines": 0, "last": 0.0, "times": []}
_LOCK = threading.Lock()


def _serve(connection: socket.socket, *, keep_times: bool) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray(1 << 20)
    rest = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in rest:
                piece = connection.recv(65536)
                if not piece:
                    return
                rest += piece
            head, _, rest = rest.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                with _LOCK:
                    body = json.dumps(_COUNTS).encode()
                    _COUNTS["times"] = []
                connection.sendall(_answer(body))
                continue
            rest = _take_body(connection, head.lower(), rest, buffer, keep_times=keep_times)
            connection.sendall(_answer(b"{}"))


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _header(head: bytes, name: bytes) -> bytes:
    _, found, value = head.partition(b"\r\n" + name + b":")
    return value.partition(b"\r\n")[0].strip() if found else b""


def _take_body(
    connection: socket.socket, head: bytes, rest: bytes, buffer: bytearray, *, keep_times: bool
) -> bytes:
    packed = _header(head, b"content-encoding") == b"gzip"
    unpack = isal_zlib.decompressobj(wbits=31) if packed else None
    size, lines = 0, 0

    def note(piece: bytes | memoryview) -> None:
        nonlocal size, lines
        size += len(piece)
        text = unpack.decompress(bytes(piece)) if unpack else bytes(piece)
        lines += text.count(b"\n")

    if _header(head, b"transfer-encoding") == b"chunked":
        rest = _chunked(connection, rest, note)
    else:
        left = int(_header(head, b"content-length") or b"0")
        note(rest[:left])
        rest, left = rest[left:], left - len(rest[:left])
        view = memoryview(buffer)
        while left:
            count = connection.recv_into(buffer, min(left, len(buffer)))
            if not count:
                break
            note(view[:count])
            left -= count
    now = time.monotonic()
    with _LOCK:
        _COUNTS["requests"] += 1
        _COUNTS["bytes"] += size
        _COUNTS["lines"] += lines
        _COUNTS["last"] = now
        if keep_times:
            _COUNTS["times"].append((now, lines))
    return rest


def _chunked(connection: socket.socket, rest: bytes, note: Any) -> bytes:
    while True:
        while b"\r\n" not in rest:
            rest += connection.recv(65536)
        line, _, rest = rest.partition(b"\r\n")
        length = int(line.partition(b";")[0], 16)
        while len(rest) < length + 2:
            rest += connection.recv(1 << 20)
        note(rest[:length])
        rest = rest[length + 2 :]
        if length == 0:
            return rest


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description=__doc__)
    parser.add_argument("--keep-times", action="store_true", help="note when each request came")
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(
                target=_serve,
                args=(connection,),
                kwargs={"keep_times": options.keep_times},
                daemon=True,
            ).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
