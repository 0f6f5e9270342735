"""A name server that lies, fails or is silent on command.

As a program (`python -m tests.fakes.dns --host 127.0.0.1`): each line of stdin is what it
answers from then on: an IPv4 address, `nxdomain`, `servfail` or `silent`. It prints the number
of queries so far after each. Other record types than A get an empty answer.
"""

import argparse
import socket
import struct
import sys
import threading

_NO_ERROR, _SERVER_FAILURE, _NAME_ERROR = 0, 2, 3


def answer(query: bytes, mode: str) -> bytes | None:
    """Return the answer to a query, None for none.

    Source: RFC 1035, section 4.
    """
    if mode == "silent" or len(query) < 12:
        return None
    identifier, flags = struct.unpack(">HH", query[:4])
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    kind = struct.unpack(">H", query[end + 1 : end + 3])[0]
    code = {"nxdomain": _NAME_ERROR, "servfail": _SERVER_FAILURE}.get(mode, _NO_ERROR)
    records = b""
    if code == _NO_ERROR and kind == 1:
        # A pointer to the question's name; type A, class IN, 1 second to live.
        records = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(mode)
    head = struct.pack(
        ">HHHHHH", identifier, 0x8180 | (flags & 0x0100) | code, 1, 1 if records else 0, 0, 0
    )
    return head + question + records


class NameServer:
    """The server; `mode` may be set at any time."""

    def __init__(self, host: str, port: int = 53) -> None:
        self.mode = "nxdomain"
        self.queries = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            self.queries += 1
            reply = answer(query, self.mode)
            if reply is not None:
                self._socket.sendto(reply, peer)

    def close(self) -> None:
        """End the server."""
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()


def main() -> int:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description="A name server that fails on command.")
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    server = NameServer(options.host)
    print("ready", flush=True)
    for line in sys.stdin:
        server.mode = line.strip()
        print(server.queries, flush=True)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
