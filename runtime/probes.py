"""`/metrics`, `/healthz` and the like over plain HTTP, for any process of ours.

Only GET and HEAD of the paths given; no body is read, no query is looked at; a few connections at
a time, each with a deadline; a port that is taken is said and the process goes on without.
"""

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
"""Connections served at a time; the next ones are closed at once."""
REQUEST_SECONDS = 5.0
"""A peer has this long for its request and for taking the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class _Server(HTTPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], routes: Mapping[str, Callable[[], Answer]]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.routes = routes
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        # HTTPServer would look up its own name here, which may wait for DNS.
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type] # as the base class calls it
            return
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="probe", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: the base class closes the connection
            self._places.release()
            raise

    def _serve(self, request: object, client_address: object) -> None:
        timer = threading.Timer(REQUEST_SECONDS, _cut, args=(request,))
        timer.daemon = True
        try:
            timer.start()
            self.finish_request(request, client_address)  # type: ignore[arg-type] # as above
        except OSError:
            pass  # the peer went away
        finally:
            timer.cancel()
            self.shutdown_request(request)  # type: ignore[arg-type] # as above
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        del request, client_address
        _log.debug("a probe's connection failed")


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class _Request(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _Server
    protocol_version = "HTTP/1.0"
    server_version = "sidetail"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        target = self.requestline.split()[1]  # self.path has lost a second leading slash
        route = self.server.routes.get(target.partition("?")[0])
        answer = route() if route is not None else Answer(404, b"not found\n")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # An unknown method is 405 here, not 501, and no text of the peer's comes back.
        del message, explain
        status = 405 if code == 501 else code
        self.send_response(status)
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


class Probes:
    """The endpoint while it is open."""

    def __init__(self, server: HTTPServer) -> None:
        self._server = server
        self.port: int = server.server_port
        self._thread = threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": 3600.0},
            name="probes",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; connections under way end within their deadline."""
        self._server.socket.close()
        # serve_forever notices only at its next poll; the thread is a daemon and holds nothing.


def open_probes(host: str, port: int, routes: Mapping[str, Callable[[], Answer]]) -> Probes | None:
    """Serve `routes` (path → answer) on `host:port`; None, with a log line, if that cannot be.

    With `host` = `::` it answers on IPv6 and IPv4; where there is no IPv6, on IPv4 alone.
    """
    hosts = (host, "0.0.0.0") if host == "::" else (host,)  # noqa: S104 - all addresses are asked for
    error: Exception | None = None
    for candidate in hosts:
        try:
            server = _Server((candidate, port), routes)
        except OSError as failure:
            error = failure
            continue
        try:
            return Probes(server)
        except RuntimeError as failure:  # no thread is to be had
            server.server_close()
            error = failure
    _log.warning(
        "the metrics port cannot be opened; going on without it",
        extra={"fields": {"port": port, "error": str(error)}},
    )
    return None
