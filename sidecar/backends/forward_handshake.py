"""The Forward protocol's handshake by a shared key, and the reading of what a server says.

Source: Fluentd's Forward Protocol Specification v1.5, "Handshake Messages".
"""

import hashlib
import hmac
import os
import socket
from typing import Any

import msgpack

from sidecar.backends.connection import ExchangeError
from sidecar.backends.credentials import Credentials
from sidecar.backends.stream import StreamConnection

_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_NONCE_BYTES = 1024


class HandshakeError(Exception):
    """The two sides do not trust each other; `reason` says which one and why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Inbox:
    """The messages of a server on one connection, one after the other."""

    def __init__(self, stream: StreamConnection) -> None:
        self._stream = stream
        self._unpacker = _unpacker()

    def clear(self) -> None:
        """Forget what came: the connection is a new one."""
        self._unpacker = _unpacker()

    def next(self, deadline: float) -> Any:
        """Return the next message.

        Raises:
            ExchangeError: nothing comes in time, or what comes is no msgpack or too long.
        """
        while True:
            try:
                return self._unpacker.unpack()
            except msgpack.OutOfData:
                pass
            except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
                raise ExchangeError("protocol", type(error).__name__) from error
            received = self._stream.receive(deadline)
            try:
                self._unpacker.feed(received)
            except msgpack.BufferFull as error:
                raise ExchangeError("protocol", "a message is too long") from error


def _unpacker() -> msgpack.Unpacker:
    # All text as bytes: servers send random bytes under the type of text.
    return msgpack.Unpacker(max_buffer_size=_MAX_MESSAGE_BYTES, strict_map_key=False, raw=True)


def shake_hands(
    stream: StreamConnection, inbox: Inbox, credentials: Credentials, deadline: float
) -> None:
    """Prove to the server that we know the shared key, and have it prove the same.

    Raises:
        HandshakeError: one of the two does not.
        ExchangeError: the server does not answer, or not like a Forward server.
    """
    key = (credentials.text("token") or "").encode()
    nonce, auth_salt = _hello(inbox.next(deadline))
    name = socket.gethostname()
    # As text: Fluent Bit takes no other type here.
    salt = os.urandom(16).hex()
    ping = ["PING", name, salt, _digest(salt.encode(), name.encode(), nonce, key)]
    stream.send([msgpack.packb([*ping, *_user(credentials, auth_salt)])], deadline)
    try:
        pong = inbox.next(deadline)
    except ExchangeError as error:
        if error.reason != "connection":
            raise
        # A server that does not like the key says so, or just hangs up (Fluent Bit).
        raise HandshakeError("closed_in_handshake") from error
    _check_pong(pong, salt.encode(), nonce, key)


def _user(credentials: Credentials, salt: bytes) -> tuple[str, str]:
    """Return name and digest of a user; empty where the server asks for none."""
    if not salt:
        return "", ""
    name = credentials.text("username") or ""
    password = credentials.text("password") or ""
    return name, _digest(salt, name.encode(), password.encode())


def _hello(message: Any) -> tuple[bytes, bytes]:
    """Return the nonce, and the salt for user and password (empty where none are asked)."""
    try:
        kind, options = message
        found = kind, bytes(options[b"nonce"]), bytes(options.get(b"auth") or b"")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ExchangeError("protocol", "no HELO") from error
    if found[0] != b"HELO" or max(map(len, found[1:])) > _MAX_NONCE_BYTES:
        raise ExchangeError("protocol", "no HELO")
    return found[1], found[2]


def _check_pong(message: Any, salt: bytes, nonce: bytes, key: bytes) -> None:
    if not isinstance(message, list) or len(message) < 5 or message[0] != b"PONG":
        raise ExchangeError("protocol", "no PONG")
    accepted, server_name, digest = message[1], message[3], message[4]
    if accepted is not True:
        raise HandshakeError("credentials_refused")
    if not isinstance(server_name, bytes) or not isinstance(digest, bytes):
        raise ExchangeError("protocol", "no PONG")
    if not hmac.compare_digest(_digest(salt, server_name, nonce, key).encode(), digest):
        raise HandshakeError("server_does_not_know_the_key")


def _digest(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()
