"""A log backend that does what it is told: a real HTTP/1.1 server over TCP or TLS.

In: requests on a loopback port. Out: scripted answers, and a record of every request.
A request's lines count as stored only if it was answered with 2xx, or if its answer says so.

In a test: `with Backend() as backend: backend.answers(status(503)) ...`.
As a program: `python -m tests.fakes.backend --help`.
"""

import argparse
import contextlib
import dataclasses
import gzip
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal, Self

import orjson

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of one request; `Answer()` is a plain 200."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_seconds: float = 0.0
    """Waited between the request's last byte and the answer's first."""
    stored: bool | None = None
    """Whether the lines count as stored; None: if the status is 2xx and the answer gets out."""
    reset: Literal["", "in-request", "before-answer", "in-answer", "after-answer"] = ""
    """Where the connection is reset (RST): half-way through the body, or around the answer."""
    hang: bool = False
    """Takes the request and never answers; the connection stays open."""
    drip_seconds: float = 0.0
    """Between two bytes of the answer."""
    raw: bytes | Callable[[], Iterable[bytes]] | None = None
    """Written in place of a well-formed answer, then the connection is closed."""
    close: bool = False
    """Says `Connection: close` and closes after the answer."""

    @property
    def is_success(self) -> bool:
        """True where the sender may take its lines for stored."""
        return 200 <= self.status < 300 and not self.hang and self.raw is None and not self.reset


@dataclass(slots=True, eq=False)
class Request:
    """One request as it came in, and what became of it."""

    number: int
    """Counts the requests of this backend from 0, in the order of their last byte."""
    connection: int
    """Counts the connections of this backend from 0."""
    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    """In their order, names in lower case."""
    body: bytes
    """As it was sent, chunked transfer coding undone."""
    began_at: float
    """Monotonic seconds, first byte of the head."""
    at: float
    """Monotonic seconds, last byte of the body."""
    answer: Answer | None = None
    answered_at: float | None = None
    """Monotonic seconds, last byte of the answer handed to the kernel."""
    stored: bool = False
    stored_number: int = -1
    """Counts the stored requests of this backend from 0."""
    peer_gone_at: float | None = None
    """When the peer closed a connection that hung."""
    _text: bytes | None = field(default=None, repr=False)

    def header(self, name: str) -> str | None:
        """Return the value of the header `name` (lower case), None where absent."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def text(self) -> bytes:
        """The body with its Content-Encoding undone."""
        if self._text is None:
            encoding = self.header("content-encoding") or "identity"
            self._text = gzip.decompress(self.body) if encoding == "gzip" else self.body
        return self._text

    @property
    def lines(self) -> list[bytes]:
        """The body's lines, without their newlines."""
        return [line for line in self.text.split(b"\n") if line]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The body's lines as JSON objects (NDJSON); raises on what is not strictly JSON."""
        return [orjson.loads(line) for line in self.lines]


Rule = Callable[[Request], Answer]

OK = Answer()


def status(code: int, *headers: tuple[str, str], body: bytes = b"") -> Answer:
    """Return an answer of this status."""
    return Answer(status=code, headers=headers, body=body)


def retry_after(value: str, *, code: int = 429) -> Answer:
    """Return a refusal with this `Retry-After`, which may be nonsense."""
    return status(code, ("Retry-After", value))


def retry_at(seconds: float, *, code: int = 503) -> Answer:
    """Return a refusal whose `Retry-After` is a date `seconds` from now (whole seconds)."""
    return retry_after(formatdate(time.time() + seconds, usegmt=True), code=code)


def always(answer: Answer) -> Rule:
    """Return the rule that answers every request alike."""
    return lambda _: answer


def in_turn(*answers: Answer, then: Answer = OK) -> Rule:
    """Return the rule that gives `answers` one after the other, and `then` ever after."""
    rest = iter(answers)
    lock = threading.Lock()

    def rule(request: Request) -> Answer:
        with lock:
            return next(rest, then)

    return rule


def refuse_lines(
    poisoned: Callable[[bytes], bool], refusal: Answer | None = None, otherwise: Rule | None = None
) -> Rule:
    """Return the rule that refuses a request in which any line is `poisoned` (400 by default)."""
    no = refusal or status(400, body=b'{"error":"a line cannot be stored"}')
    yes = otherwise or always(OK)
    return lambda request: no if any(map(poisoned, request.lines)) else yes(request)


def refuse_above(limit: int) -> Rule:
    """Return the rule that answers 413 to a body (as sent) of more than `limit` bytes."""
    return lambda request: status(413) if len(request.body) > limit else OK


def endless_headers() -> Iterator[bytes]:
    """Yield a head that never ends."""
    yield b"HTTP/1.1 200 OK\r\n"
    number = 0
    while True:
        yield b"".join(b"X-%d: %s\r\n" % (number + i, b"y" * 100) for i in range(100))
        number += 100


def huge_body(total: int = 100 * 1024 * 1024, *, code: int = 503) -> Iterator[bytes]:
    """Yield a well-formed answer with a body of `total` bytes."""
    yield b"HTTP/1.1 %d Nothing\r\nContent-Length: %d\r\n\r\n" % (code, total)
    piece = b"z" * 65536
    for _ in range(total // len(piece)):
        yield piece


def gzip_bomb(*, code: int = 200) -> bytes:
    """Return a well-formed answer whose gzip body unpacks to 64 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    head = b"HTTP/1.1 %d OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    return head % (code, len(packed)) + packed


class _PeerGoneError(Exception):
    """The peer closed or broke the connection."""


class _Reader:
    """Reads a request from a socket; counts nothing, decides nothing."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self.began_at = 0.0

    def head(self) -> bytes:
        """Return the bytes up to the empty line, which is left out."""
        self.began_at = time.monotonic() if self._rest else 0.0
        while b"\r\n\r\n" not in self._rest:
            if len(self._rest) > MAX_HEAD_BYTES:
                raise _PeerGoneError
            self._more()
            self.began_at = self.began_at or time.monotonic()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    def take(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        if count > MAX_BODY_BYTES:
            raise _PeerGoneError
        pieces: list[bytes] = [self._rest]
        have = len(self._rest)
        while have < count:
            piece = self._receive(min(1 << 20, count - have))
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self._rest = whole[count:]
        return whole[:count]

    def chunked(self) -> bytes:
        """Return a body in chunked transfer coding, undone."""
        pieces: list[bytes] = []
        while True:
            size = int(self._line().partition(b";")[0], 16)
            if not size:
                while self._line():
                    pass
                return b"".join(pieces)
            pieces.append(self.take(size))
            self.take(2)

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _more(self) -> None:
        self._rest += self._receive(65536)

    def _receive(self, count: int) -> bytes:
        try:
            piece = self._connection.recv(count)
        except OSError as error:
            raise _PeerGoneError from error
        if not piece:
            raise _PeerGoneError
        return piece


class Backend:
    """The server; safe to look at and to reprogram from any thread while it serves."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        keep_bodies: bool = True,
        on_stored: Callable[[Request], object] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        """Every request whose body came in whole, in that order."""
        self.stored: list[Request] = []
        """Those that count as stored, in the order in which they were."""
        self.connections = 0
        """Connections accepted so far (with TLS: before the handshake)."""
        self.connected_at: list[float] = []
        """Monotonic seconds of each."""
        self.bytes_received = 0
        """Of requests after TLS, whole or not: what got onto a link that we ended."""
        self.refused_handshakes = 0
        self.failures: list[Exception] = []
        """What `on_stored` raised; close() raises the first."""
        self.before_request: Callable[[bytes], Answer | None] | None = None
        """Asked with the head; an answer here comes before the body is read."""
        self.silent = False
        """Accepts connections and reads nothing."""
        self._rule: Rule = always(OK)
        self._tls = tls
        self._keep_bodies = keep_bodies
        self._on_stored = on_stored
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        # Bound and never listening: the port stays ours while the backend is down.
        self._place = _bound(host, port)
        self.host, self.port = self._place.getsockname()[:2]
        self.up()

    # --- what a test says -------------------------------------------------------------------

    def answers(self, rule: Rule | Answer) -> Self:
        """Answer requests by `rule` from now on."""
        self._rule = always(rule) if isinstance(rule, Answer) else rule
        return self

    def present(self, tls: ssl.SSLContext) -> None:
        """Use another TLS context for the connections to come."""
        self._tls = tls

    def up(self) -> None:
        """Listen."""
        if self._listener is None:
            self._listener = _bound(str(self.host), int(self.port))
            self._listener.listen(512)
            self._start(self._accept, self._listener)

    def down(self) -> None:
        """Refuse connections, and reset those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Only shutting down wakes the thread that is in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset the connections that are open."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _break(connection)

    def close(self) -> None:
        """End: no thread and no socket stays behind."""
        self._closing.set()
        self.down()
        self._place.close()
        for thread in list(self._threads):
            thread.join(20)
        if any(thread.is_alive() for thread in self._threads):
            raise RuntimeError("a thread of the fake backend did not end")
        if self.failures:
            raise self.failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    # --- what a test reads ------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL, without a path."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def records(self) -> list[dict[str, Any]]:
        """All stored records (NDJSON), in the order in which they were stored."""
        return [record for request in list(self.stored) for record in request.records]

    @property
    def messages(self) -> list[str]:
        """The messages of all stored records."""
        return [record["message"] for record in self.records]

    def answered(self, *codes: int) -> int:
        """Count the requests answered with one of these statuses."""
        return sum(
            request.answer is not None and request.answer.status in codes
            for request in list(self.requests)
        )

    @property
    def resent(self) -> int:
        """Batches that came more than once, by `X-Sidetail-Batch-Id`."""
        ids = [request.header("x-sidetail-batch-id") for request in list(self.requests)]
        return len(ids) - len(set(ids))

    # --- the server -------------------------------------------------------------------------

    def _start(self, body: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=self._run, args=(body, *arguments), daemon=True)
        with self._lock:
            self._threads = {known for known in self._threads if known.is_alive()} | {thread}
            thread.start()

    def _run(self, body: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(_PeerGoneError, OSError, ValueError):  # ValueError: not HTTP
            body(*arguments)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with self._lock:
                number = self.connections
                self.connections += 1
                self.connected_at.append(time.monotonic())
                self._open.add(connection)
            self._start(self._serve, connection, number)

    def _serve(self, connection: socket.socket, number: int) -> None:
        wrapped: socket.socket = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                wrapped = self._handshake(connection)
            reader = _Reader(wrapped)
            while self._one(wrapped, reader, number):
                pass
        finally:
            with self._lock:
                self._open -= {connection, wrapped}
            wrapped.close()
            connection.close()

    def _handshake(self, connection: socket.socket) -> socket.socket:
        assert self._tls is not None
        connection.settimeout(20)
        try:
            wrapped = self._tls.wrap_socket(connection, server_side=True)
        except (OSError, ssl.SSLError):
            self.refused_handshakes += 1
            raise
        wrapped.settimeout(None)
        with self._lock:
            self._open.add(wrapped)
        return wrapped

    def _one(self, connection: socket.socket, reader: _Reader, number: int) -> bool:
        """Serve one request; return whether the connection can be used again."""
        if self.silent:
            self._wait_for_close(connection)
            return False
        head = reader.head()
        self.bytes_received += len(head)
        early = self.before_request(head) if self.before_request else None
        if early is not None and early.reset != "in-request":
            return self._answer(connection, early, None)
        request = _parse(head, reader, number, early)
        if early is not None:
            _reset(connection)
            return False
        self.bytes_received += len(request.body)
        with self._lock:
            request.number = len(self.requests)
            self.requests.append(request)
        answer = self._rule(request)
        request.answer = answer
        if answer.reset == "in-request":
            raise RuntimeError("the body is read already: use before_request")
        if answer.stored if answer.stored is not None else answer.is_success:
            self._store(request)
        going_on = self._answer(connection, answer, request)
        if not self._keep_bodies:
            request.body, request._text = b"", None
        return going_on

    def _store(self, request: Request) -> None:
        with self._lock:
            request.stored = True
            request.stored_number = len(self.stored)
            self.stored.append(request)
            # Under the lock: whoever counts gets the requests in the order of `stored`.
            try:
                if self._on_stored is not None:
                    self._on_stored(request)
            except Exception as error:  # close() shows it; a sender would only see a broken peer
                self.failures.append(error)

    def _answer(self, connection: socket.socket, answer: Answer, request: Request | None) -> bool:
        if answer.delay_seconds:
            self._closing.wait(answer.delay_seconds)
        if answer.hang:
            self._wait_for_close(connection)
            if request is not None:
                request.peer_gone_at = time.monotonic()
            return False
        if answer.reset == "before-answer":
            _reset(connection)
            return False
        for piece in _pieces(answer):
            if self._closing.is_set():
                return False
            connection.sendall(piece)
            if answer.drip_seconds:
                self._closing.wait(answer.drip_seconds)
        if request is not None:
            request.answered_at = time.monotonic()
        if answer.reset:
            time.sleep(0.05)  # a reset overtakes what the peer has not read yet
            _reset(connection)
        return not (answer.reset or answer.close or answer.raw is not None)

    def _wait_for_close(self, connection: socket.socket) -> None:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        while not self._closing.is_set() and not poll.poll(100):
            pass


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _reset(connection: socket.socket) -> None:
    """Close with RST; for the thread that serves the connection."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _break(connection: socket.socket) -> None:
    """Wake the thread that serves the connection; its close sends RST."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Not SSLSocket's own shutdown, which would let the serving thread read on in the clear.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _parse(head: bytes, reader: _Reader, number: int, early: Answer | None) -> Request:
    first, *rest = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    headers = tuple(
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(":") for line in rest)
    )
    fields = dict(headers)
    began_at = reader.began_at
    if "chunked" in fields.get("transfer-encoding", ""):
        body = reader.chunked()
    else:
        length = int(fields.get("content-length", "0"))
        body = reader.take(length // 2 if early is not None else length)
    return Request(
        number=-1,
        connection=number,
        method=method,
        target=target,
        version=version,
        headers=headers,
        body=body,
        began_at=began_at,
        at=time.monotonic(),
    )


def _pieces(answer: Answer) -> Iterator[bytes]:
    if answer.raw is not None:
        yield from [answer.raw] if isinstance(answer.raw, bytes) else answer.raw()
        return
    names = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} Said So"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(answer.body)}")
    if answer.close:
        lines.append("Connection: close")
    whole = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + answer.body
    if answer.reset == "in-answer":
        whole = whole[: len(whole) // 2]
    if not answer.drip_seconds:
        yield whole
        return
    for position in range(len(whole)):
        yield whole[position : position + 1]


# --- as a program -------------------------------------------------------------------------------


def _answer_of(document: dict[str, Any]) -> Answer:
    known = {item.name for item in dataclasses.fields(Answer)} - {"raw", "body", "headers"}
    values = {key: value for key, value in document.items() if key in known}
    headers = tuple((str(name), str(value)) for name, value in document.get("headers", {}).items())
    return Answer(headers=headers, body=str(document.get("body", "")).encode(), **values)


def main() -> int:
    """Serve until stdin ends; each line of it is an answer, from then on, as a JSON object."""
    parser = argparse.ArgumentParser(description="A log backend that answers as it is told.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer", default="{}", help="JSON object of the fields of Answer")
    parser.add_argument("--record", type=Path, help="append the stored bodies, decoded, here")
    parser.add_argument("--cert-file")
    parser.add_argument("--key-file")
    options = parser.parse_args()
    tls = None
    if options.cert_file:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.cert_file, options.key_file)
    record = options.record.open("ab", buffering=0) if options.record else None

    def keep(request: Request) -> None:
        if record is not None:
            record.write(request.text)

    with Backend(
        host=options.host, port=options.port, tls=tls, keep_bodies=False, on_stored=keep
    ) as backend:
        backend.answers(_answer_of(json.loads(options.answer)))
        print(json.dumps({"url": backend.url, "port": backend.port}), flush=True)
        for line in sys.stdin:
            backend.answers(_answer_of(json.loads(line)))
            print(json.dumps({"requests": len(backend.requests)}), flush=True)
    if record is not None:
        record.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
