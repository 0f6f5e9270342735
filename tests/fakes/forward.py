"""A Forward server that takes the protocol by the letter: handshake, PackedForward, `ack`.

Source: Fluentd's Forward Protocol Specification v1.5.
"""

import gzip
import hashlib
import hmac
import io
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import msgpack

from tests.fakes.stream import StreamServer, reset

Reply = Literal["ack", "wrong-ack", "nothing", "reset", "garbage", "hang-up", "flood"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One PackedForward message."""

    tag: str
    id: str
    entries: list[tuple[int, int, dict[str, Any]]]
    """(seconds, nanoseconds, record)."""
    compressed: bool


def _always(chunk: Chunk) -> Reply:
    return "ack"


@dataclass
class ForwardServer:
    """The server; `chunks` are those that it acknowledged."""

    reply: Callable[[Chunk], Reply] = _always
    shared_key: str | None = None
    users: dict[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    lie_about_key: bool = False
    """Answer the handshake as one who does not know the key and lets everybody in."""
    binary_nonce: bool = False
    """Send the nonce as `bin` and not as `str`, as Fluentd does."""
    chunks: list[Chunk] = field(default_factory=list)
    offered: list[Chunk] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    refused: int = 0
    """Handshakes."""
    bytes_after_refusal: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self.server = StreamServer(self._serve, tls=self.tls)
        return self

    def __exit__(self, *unused: object) -> None:
        self.server.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "forward" if self.tls is None else "tls"
        return f"{scheme}://127.0.0.1:{self.server.port}"

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of all acknowledged chunks."""
        return [record for chunk in self.chunks for _, _, record in chunk.entries]

    def _serve(self, connection: socket.socket) -> None:
        messages = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28, strict_map_key=False)
        if self.shared_key is not None and not self._handshake(connection, messages):
            while received := connection.recv(65536):
                self.bytes_after_refusal += len(received)
            return
        while True:
            chunk = _chunk(_next(connection, messages))
            if isinstance(chunk, str):
                self.violations.append(chunk)
                return
            with self._lock:
                self.offered.append(chunk)
            if not self._answer(connection, chunk):
                return

    def _answer(self, connection: socket.socket, chunk: Chunk) -> bool:
        match self.reply(chunk):
            case "ack":
                with self._lock:
                    self.chunks.append(chunk)
                connection.sendall(msgpack.packb({"ack": chunk.id}))
            case "wrong-ack":
                connection.sendall(msgpack.packb({"ack": "another"}))
            case "nothing":
                pass
            case "garbage":
                connection.sendall(b"\xc1\xc1\xc1")
            case "flood":
                connection.sendall(b"\xdb\x7f\xff\xff\xff" + bytes(1 << 20))
            case "reset":
                reset(connection)
                return False
            case "hang-up":
                return False
        return True

    def _handshake(self, connection: socket.socket, messages: Any) -> bool:
        assert self.shared_key is not None
        nonce, salt = os.urandom(16), os.urandom(16) if self.users else b""
        packer = msgpack.Packer(use_bin_type=self.binary_nonce)
        options = {"nonce": nonce, "auth": salt, "keepalive": True}
        connection.sendall(packer.pack(["HELO", options]))
        ping = _next(connection, messages)
        if not isinstance(ping, list) or len(ping) != 6 or ping[0] != "PING":
            self.violations.append(f"no PING: {type(ping).__name__}")
            return False
        if not all(isinstance(part, str) for part in ping):
            self.violations.append("Fluent Bit takes text only in a PING")
            return False
        _, name, key_salt, digest, user, password = ping
        key = self.shared_key.encode()
        wanted = _digest(key_salt.encode(), name.encode(), nonce, key)
        good = hmac.compare_digest(wanted, digest)
        if self.users:
            known = self.users.get(user, "")
            good &= hmac.compare_digest(_digest(salt, user.encode(), known.encode()), password)
        if self.lie_about_key:
            good, key = True, b"guess"
        answer = _digest(key_salt.encode(), b"server", nonce, key)
        pong = ["PONG", True, "", "server", answer] if good else ["PONG", False, "no", "", ""]
        connection.sendall(msgpack.packb(pong))
        self.refused += not good
        return good and not self.lie_about_key


def _next(connection: socket.socket, messages: Any) -> Any:
    while True:
        try:
            return messages.unpack()
        except msgpack.OutOfData:
            received = connection.recv(1 << 20)
            if not received:
                raise EOFError from None
            messages.feed(received)


def _chunk(message: Any) -> Chunk | str:
    if not isinstance(message, list) or len(message) != 3:
        return "a message is an array of three"
    tag, packed, options = message
    if not isinstance(tag, str) or not isinstance(packed, bytes) or not isinstance(options, dict):
        return "tag, entries and options are text, bin and a map"
    if not set(options) <= {"size", "chunk", "compressed"} or not isinstance(options["chunk"], str):
        return f"options {sorted(options)}"
    compressed = options.get("compressed") == "gzip"
    entries = [_entry(each) for each in _unpack(gzip.decompress(packed) if compressed else packed)]
    if len(entries) != options["size"]:
        return f"size {options['size']} and {len(entries)} entries"
    return Chunk(tag, options["chunk"], entries, compressed)


def _unpack(packed: bytes) -> list[Any]:
    return list(msgpack.Unpacker(io.BytesIO(packed), max_buffer_size=1 << 28))


def _entry(entry: Any) -> tuple[int, int, dict[str, Any]]:
    time, record = entry
    assert isinstance(time, msgpack.ExtType)
    assert time.code == 0
    assert len(time.data) == 8
    assert isinstance(record, dict)
    seconds, nanoseconds = (
        int.from_bytes(time.data[:4], "big"),
        int.from_bytes(time.data[4:], "big"),
    )
    assert nanoseconds < 1_000_000_000
    return seconds, nanoseconds, record


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()
