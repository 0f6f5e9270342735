"""Between the server and a WSGI application: a whole request comes in, a whole answer goes out."""

import io
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from webhook.framing import HttpRequest, HttpResponse

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Nowhere(io.TextIOBase):
    """Where applications may write errors: a full pipe must not hold up a request."""

    def write(self, text: str) -> int:
        return len(text)


class _Input:
    """`wsgi.input` that hands the body over instead of a copy of it."""

    def __init__(self, body: bytearray) -> None:
        self._rest = body

    def read(self, size: int = -1) -> bytearray:
        if size < 0:
            taken, self._rest = self._rest, bytearray()
            return taken
        taken = self._rest[:size]
        del self._rest[:size]
        return taken


class WsgiAnswer:
    """Answers requests by a WSGI application (PEP 3333)."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._errors = _Nowhere()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the application's answer to `request`."""
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            del exc_info  # nothing is sent before the answer is whole, so it can still be replaced
            started[:] = [(status, headers)]
            return _refuse_write

        parts = self._application(self._environ(request), start_response)
        body = _joined(parts)
        status, headers = started[0]
        kept = tuple(row for row in headers if row[0].lower() != "content-length")
        return HttpResponse(int(status.split(" ", 1)[0]), body, kept)

    def _environ(self, request: HttpRequest) -> dict[str, Any]:
        path, _, query = request.target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_URI": request.target,
            "SERVER_NAME": "sidetail",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": _Input(request.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": self._errors,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            if "_" in name or name == "content-length":
                # WSGI cannot tell `Content_Type` from `Content-Type`; and our length is right.
                continue
            key = name.upper().replace("-", "_")
            key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
            environ[key] = f"{environ[key]}, {value}" if key in environ else value
        return environ


def _joined(parts: Iterable[bytes]) -> bytes:
    try:
        return b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


def _refuse_write(data: bytes) -> object:
    raise NotImplementedError(f"{len(data)} bytes by write(): nothing here uses it")
