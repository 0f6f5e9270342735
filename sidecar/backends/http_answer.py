"""The two messages of an exchange: the request's head is written, the answer is read.

Source: RFC 9112.
"""

import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h11

MAX_HEAD_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 1024
_MAX_PLAIN_HEAD = 8 * 1024
_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r\n"
    rb"((?:[!#-'*+.0-9A-Z^-z|~-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+: [ -~]*")
_TARGET = re.compile(r"/[!-~]*")
_HEAD_END = b"\r\n\r\n"
_READ = 16 * 1024


class ProtocolError(Exception):
    """The answer is no HTTP."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A final answer of a server."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of repeated ones the first."""
    body: bytes
    """At most the limit asked for; empty where nothing came."""


def request_head(target: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
    """Return the head of a POST with a body of `length` bytes.

    Raises:
        ValueError: a header or the target could be taken for more than one line.
    """
    lines = [_header_line(*header) for header in headers]
    whole = (_request_line(target), *lines, f"Content-Length: {length}", "", "")
    return "\r\n".join(whole).encode("ascii")


@lru_cache(maxsize=64)
def _request_line(target: str) -> str:
    if not _TARGET.fullmatch(target):
        raise ValueError("request: got a target that is not one line of printable ASCII")
    return f"POST {target} HTTP/1.1"


@lru_cache(maxsize=64)
def _header_line(name: str, value: str) -> str:
    """Return a header; most are the same in every request."""
    line = f"{name}: {value}"
    if not _HEADER.fullmatch(line):
        raise ValueError("request: got a header that is not one line of printable ASCII")
    return line


class AnswerReader:
    """Reads one answer from a socket, within a deadline and a size."""

    def __init__(
        self, connection: socket.socket, begun: bytes, deadline: float, max_bytes: int
    ) -> None:
        self._connection = connection
        self._bytes = begun
        self._deadline = deadline
        self._max_bytes = max_bytes
        self.reusable = False
        """True when nothing of the answer is left on the connection, and it may go on."""

    def read(self) -> HttpAnswer:
        """Return the answer.

        Raises:
            ProtocolError: it is none.
            TimeoutError: the deadline came first.
            OSError: the connection broke.
        """
        while True:
            begin = self._bytes.find(_HEAD_END) + len(_HEAD_END)
            if begin >= len(_HEAD_END):
                head = _plain_head(self._bytes[:begin])
                return self._other() if head is None else self._plain(head, begin)
            if len(self._bytes) > _MAX_PLAIN_HEAD or not self._more():
                return self._other()

    def _plain(self, head: "_PlainHead", begin: int) -> HttpAnswer:
        """Read a body of known length."""
        length = head.length
        wanted = min(length, self._max_bytes)
        while len(self._bytes) - begin < wanted:
            if not self._more():
                raise ConnectionResetError("closed within an answer")
        self.reusable = head.keep_alive and len(self._bytes) == begin + length
        return HttpAnswer(head.status, head.headers, self._bytes[begin : begin + wanted])

    def _more(self) -> bool:
        """Read on; False at the end."""
        self._connection.settimeout(time_left(self._deadline))
        piece = self._connection.recv(_READ)
        self._bytes += piece
        return bool(piece)

    def _other(self) -> HttpAnswer:
        """Read an answer of any kind that HTTP/1.1 knows."""
        import h11

        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        parser.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
        parser.send(h11.EndOfMessage())
        try:
            return self._parsed(parser)
        except h11.ProtocolError as error:
            raise ProtocolError(str(error)) from error

    def _parsed(self, parser: "h11.Connection") -> HttpAnswer:
        import h11

        if self._bytes:
            parser.receive_data(self._bytes)
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                self._connection.settimeout(time_left(self._deadline))
                parser.receive_data(self._connection.recv(_READ))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("closed before an answer")
            over = len(body) > self._max_bytes
            if response is not None and (over or isinstance(event, h11.EndOfMessage)):
                self.reusable = parser.their_state is h11.DONE and not parser.trailing_data[0]
                named = [
                    (name.decode(), value.decode("latin-1")) for name, value in response.headers
                ]
                return HttpAnswer(
                    response.status_code, dict(reversed(named)), bytes(body[: self._max_bytes])
                )


@dataclass(frozen=True, slots=True)
class _PlainHead:
    """The head of an answer whose body has a length that is known."""

    status: int
    headers: Mapping[str, str]
    length: int
    keep_alive: bool


@lru_cache(maxsize=16)
def _plain_head(head: bytes) -> _PlainHead | None:
    """Read a head; None if it is no plain one. A server's answers mostly begin alike."""
    match = _PLAIN_HEAD.fullmatch(head)
    if match is None:
        return None
    status, headers = int(match[1]), _headers(match[2])
    length = _plain_length(status, headers)
    if length is None:
        return None
    named = dict(reversed(headers))
    keep_alive = "close" not in named.get("connection", "").lower()
    return _PlainHead(status, MappingProxyType(named), length, keep_alive)


def _headers(text: bytes) -> list[tuple[str, str]]:
    """Return (name in lower case, value) of the header lines, in their order."""
    pairs = (line.partition(":") for line in text.decode("latin-1").split("\r\n")[:-1])
    return [(name.lower(), value.strip(" \t")) for name, _, value in pairs]


def _plain_length(status: int, headers: Sequence[tuple[str, str]]) -> int | None:
    """Return the length of the body where one plain header says it; None for all else."""
    if any(name == "transfer-encoding" for name, _ in headers):
        return None
    lengths = [value for name, value in headers if name == "content-length"]
    if status == 204 and not lengths:
        return 0
    if status in (204, 304) or len(lengths) != 1 or len(lengths[0]) > 15:
        return None
    return int(lengths[0]) if lengths[0].isascii() and lengths[0].isdigit() else None


def time_left(deadline: float) -> float:
    """Return the seconds until `deadline` (monotonic).

    Raises:
        TimeoutError: it is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request took too long")
    return left
