"""HTTP/1.1 on one connection: bytes come in and go out, whole requests and answers in between.

`h11` frames; what it is lenient about is refused before it sees it, as two readings of one head
are how requests are smuggled: bare newlines, folded lines, two lengths, a length beside chunks.
"""

import re
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

import h11

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
"""The API server sends eight, a mesh between us some twenty more."""
MAX_CHUNKS = 16_384
"""Of one body: a chunk for every byte would cost more than the body does."""

_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
_BARE_RETURN = re.compile(rb"\r(?!\n)")
_FOLDED = re.compile(rb"\r\n[ \t]")
_FRAMING_HEADER = re.compile(rb"\r\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that has arrived whole."""

    method: str
    target: str
    """As on the request line: an absolute path and perhaps a query, ASCII, nothing decoded."""
    headers: Headers
    """Names in lower case; values as Latin-1."""
    body: bytearray
    """Whoever reads it may empty it, so that a large one is not in memory twice."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What is answered; `Content-Length`, `Date` and `Connection` are added by the framing."""

    status: int
    body: bytes
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not read on; the connection ends with the answer."""

    status: int
    text: str

    def response(self) -> HttpResponse:
        """Return the answer that says so."""
        return plain_answer(self.status, self.text)


@dataclass(slots=True)
class _Reading:
    """The request that is coming in, from its head on."""

    head: h11.Request
    body: bytearray = field(default_factory=bytearray)
    pieces: int = 0


def plain_answer(status: int, text: str, headers: Headers = ()) -> HttpResponse:
    """Return a short text as an answer."""
    content_type = ("Content-Type", "text/plain; charset=utf-8")
    return HttpResponse(status, f"{text}\n".encode(), (content_type, *headers))


class Framing:
    """One connection's requests, one after the other: `feed`, `next`, `render`, `feed` and on."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._waiting = bytearray()
        """What came after the last request: the next one's head, as far as it is there."""
        self._searched = 0
        """How much of `_waiting` was looked through for the end of the head."""
        self._reading: _Reading | None = None
        self._http = _new_parser()

    @property
    def held_bytes(self) -> int:
        """Bytes of the body that is coming in."""
        return len(self._reading.body) if self._reading is not None else 0

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request is here."""
        return self._reading is not None or bool(self._waiting)

    def feed(self, received: bytes) -> None:
        """Take what came from the peer: at least a byte, as nothing at all would mean its end."""
        if self._reading is None:
            self._waiting += received
        else:
            self._http.receive_data(received)

    def next(self) -> HttpRequest | Refused | None:
        """Return the next request once it is whole, None while it is not."""
        try:
            if self._reading is None:
                refused = self._read_head()
                if refused is not None or self._reading is None:
                    return refused
            return self._read_body(self._reading)
        except h11.RemoteProtocolError as error:
            return Refused(error.error_status_hint, "the request breaks HTTP/1.1")

    def take_continue(self) -> bytes:
        """Return the `100 Continue` that the peer waits for, or nothing if it does not."""
        if self._reading is None or not self._http.they_are_waiting_for_100_continue:
            return b""
        return self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    def render(self, response: HttpResponse, *, close: bool) -> tuple[bytes, bool]:
        """Return the answer's bytes, and whether the connection must end after it.

        `close` asks for the end; a peer that wants no more requests, or a request that was not
        read to its end, asks for it too.
        """
        method = self._reading.head.method if self._reading is not None else b""
        headers = [
            *response.headers,
            ("Content-Length", str(len(response.body))),
            ("Date", formatdate(usegmt=True)),
        ]
        if close:
            headers.append(("Connection", "close"))
        head = h11.Response(
            status_code=response.status,
            headers=headers,
            reason=HTTPStatus(response.status).phrase,
        )
        rendered = self._http.send(head) or b""
        if method != b"HEAD":
            rendered += self._http.send(h11.Data(data=response.body)) or b""
        rendered += self._http.send(h11.EndOfMessage()) or b""
        ends = self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE
        if ends:
            # The connection may live on for a while, to be told of the answer: not its body.
            self._reading = None
            self._waiting = bytearray()
        else:
            self._begin_next()
        return rendered, ends

    def _begin_next(self) -> None:
        rest, _ = self._http.trailing_data
        self._http = _new_parser()
        self._waiting = bytearray(rest)
        self._reading = None

    def _read_head(self) -> Refused | None:
        waiting = self._waiting
        while waiting.startswith(b"\r\n"):  # an empty line before a request is to be ignored
            del waiting[:2]
        start = max(0, self._searched - 3)
        end = waiting.find(b"\r\n\r\n", start)
        self._searched = end if end >= 0 else len(waiting)
        if _BARE_NEWLINE.search(waiting, start, self._searched):
            return Refused(400, "a bare newline in the head")
        if self._searched > MAX_HEAD_BYTES:
            return Refused(431, "the head is too long")
        if end < 0:
            return None
        refused = _check_head(bytes(waiting[: end + 4]))
        if refused is not None:
            return refused
        return self._take_head()

    def _take_head(self) -> Refused | None:
        self._http.receive_data(bytes(self._waiting))
        self._waiting.clear()
        self._searched = 0
        request = self._http.next_event()
        if not isinstance(request, h11.Request):
            return Refused(400, "no request")
        self._reading = _Reading(request)
        return self._check_request(request)

    def _check_request(self, request: h11.Request) -> Refused | None:
        if not request.target.startswith(b"/"):
            return Refused(400, "the target is not a path")
        if request.http_version < b"1.1" and _has(request, b"transfer-encoding"):
            return Refused(400, "chunks in HTTP/1.0")
        if request.http_version >= b"2":
            return Refused(505, "HTTP/1.1 is spoken here")
        length = next(
            (int(value) for name, value in request.headers if name == b"content-length"), 0
        )
        if length > self._max_body_bytes:
            return self._too_large()
        return None

    def _read_body(self, reading: _Reading) -> HttpRequest | Refused | None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Data):
                reading.body += event.data
                reading.pieces += 1
                if len(reading.body) > self._max_body_bytes:
                    return self._too_large()
                if reading.pieces > MAX_CHUNKS:
                    return Refused(400, "too many chunks")
            elif isinstance(event, h11.EndOfMessage):
                return _whole(reading)
            else:
                return None

    def _too_large(self) -> Refused:
        if self._reading is not None:
            self._reading.body.clear()
        return Refused(413, f"the body is over {self._max_body_bytes} bytes")


def _new_parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


def _check_head(head: bytes) -> Refused | None:
    """Refuse what `h11` would read in a way of its own; `head` ends with the empty line."""
    if _BARE_RETURN.search(head) or _FOLDED.search(head):
        return Refused(400, "a line of the head is broken")
    if len(_FRAMING_HEADER.findall(head)) > 1:
        return Refused(400, "the length is given twice")
    if head.count(b"\r\n") > MAX_HEADERS + 2:
        return Refused(431, "too many headers")
    return None


def _has(request: h11.Request, name: bytes) -> bool:
    return any(header == name for header, _ in request.headers)


def _whole(reading: _Reading) -> HttpRequest:
    body, reading.body = reading.body, bytearray()
    return HttpRequest(
        method=reading.head.method.decode("ascii"),
        target=reading.head.target.decode("ascii"),
        headers=tuple(
            (name.decode("ascii"), value.decode("latin-1")) for name, value in reading.head.headers
        ),
        body=body,
    )
