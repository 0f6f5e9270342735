"""A name server that lies, fails or is silent on command."""

import socket
import struct
import threading
from collections import Counter

_NO_ERROR, _SERVER_FAILURE, _NAME_ERROR = 0, 2, 3


def name_of(query: bytes) -> str:
    """Return the name that a query asks for, without its last dot."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += query[at] + 1
    return ".".join(labels).lower()


def answer(query: bytes, mode: str) -> bytes | None:
    """Return the answer to a query, None for none.

    `mode` is an IPv4 address, `nxdomain`, `servfail` or `silent`. Record types other than A get
    an empty answer. Source: RFC 1035, section 4.
    """
    if mode == "silent":
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
    """The server; `modes` (name → mode) may be changed at any time; others do not exist."""

    def __init__(self, host: str, port: int = 53) -> None:
        self.modes: dict[str, str] = {}
        self.queries: Counter[str] = Counter()
        """By name."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            name = name_of(query)
            self.queries[name] += 1
            reply = answer(query, self.modes.get(name, "nxdomain"))
            if reply is not None:
                self._socket.sendto(reply, peer)

    def close(self) -> None:
        """End the server."""
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()
