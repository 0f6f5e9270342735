"""A syslog receiver over TCP or TLS that takes RFC 6587 and RFC 5424 by the letter."""

import re
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import Self

from tests.fakes.stream import StreamServer, reset

# RFC 5424, section 6: the ABNF, field by field.
_HEADER = re.compile(
    rb"<(?P<priority>0|[1-9][0-9]{0,2})>1 "
    rb"(?P<time>-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z) "
    rb"(?P<host>[!-~]{1,255}) (?P<application>[!-~]{1,48}) (?P<process>[!-~]{1,128}) "
    rb"(?P<kind>[!-~]{1,32}) "
)
_COUNT = re.compile(rb"([1-9][0-9]{0,8}) ")
_NAME = rb"[!#-<>-\\^-~]{1,32}"
_VALUE = rb'(?:[^"\\\]]|\\["\\\]])*'
_ELEMENT = re.compile(
    rb"\[(?P<name>" + _NAME + rb")(?P<parameters>(?: " + _NAME + rb'="' + _VALUE + rb'")*)\]'
)
_PARAMETER = re.compile(rb" (" + _NAME + rb')="(' + _VALUE + rb')"')


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    priority: int
    time: str
    host: str
    application: str
    parameters: dict[str, str]
    text: str
    size: int
    """Of the whole frame, without its length."""


@dataclass
class SyslogServer:
    """The receiver, and what it is told to do to its peers."""

    tls: ssl.SSLContext | None = None
    max_message_bytes: int = 1 << 30
    """A longer frame closes the connection, as in syslog-ng."""
    hang_up_after: int | None = None
    """Messages of one connection after which it is reset; each time it happens once."""
    silent: bool = False
    """Reads nothing."""
    messages: list[Message] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self.server = StreamServer(self._serve, tls=self.tls)
        return self

    def __exit__(self, *unused: object) -> None:
        self._closing.set()
        self.server.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'tcp' if self.tls is None else 'tls'}://127.0.0.1:{self.server.port}"

    @property
    def texts(self) -> list[str]:
        """The texts of all messages."""
        return [message.text for message in self.messages]

    def _serve(self, connection: socket.socket) -> None:
        if self.silent:
            self._closing.wait(60)
            return
        rest = b""
        taken = 0
        while received := connection.recv(1 << 20):
            rest += received
            done = 0
            while frame := self._frame(rest, done):
                done = frame[1]
                self._take(frame[0])
                taken += 1
                if self.hang_up_after is not None and taken >= self.hang_up_after:
                    self.hang_up_after = None
                    reset(connection)
                    return
            rest = rest[done:]
        if rest:
            self.violations.append(f"a torn frame of {len(rest)} bytes")

    def _frame(self, rest: bytes, at: int) -> tuple[bytes, int] | None:
        """Return the frame that begins at `at`, and where it ends; None where it is not whole."""
        match = _COUNT.match(rest, at)
        if match is None:
            if len(rest) - at > 10 or not re.fullmatch(rb"([1-9][0-9]*)?", rest[at:]):
                self.violations.append("no octet count")
                raise EOFError
            return None
        end = match.end() + int(match[1])
        if int(match[1]) > self.max_message_bytes:
            self.violations.append(f"a message of {int(match[1])} bytes")
            raise EOFError
        return (rest[match.end() : end], end) if len(rest) >= end else None

    def _take(self, frame: bytes) -> None:
        header = _HEADER.match(frame)
        if header is None or int(header["priority"]) > 191:
            self.violations.append("header")
            return
        element = _ELEMENT.match(frame, header.end())
        if element is None or frame[element.end() : element.end() + 1] not in (b" ", b""):
            self.violations.append("structured data")
            return
        parameters = {
            name.decode(): re.sub(rb"\\(.)", rb"\1", value).decode()
            for name, value in _PARAMETER.findall(element["parameters"])
        }
        message = Message(
            priority=int(header["priority"]),
            time=header["time"].decode(),
            host=header["host"].decode(),
            application=header["application"].decode(),
            parameters=parameters,
            text=frame[element.end() + 1 :].decode("utf-8"),
            size=len(frame),
        )
        with self._lock:
            self.messages.append(message)
