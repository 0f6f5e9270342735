"""A local log backend: takes NDJSON, stores it a file for each source, and shows what arrives."""

import gzip
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Collector:
    """The server on a free port of loopback; safe to read from any thread."""

    def __init__(self, folder: Path, show: Callable[[Record], None]) -> None:
        self._folder = folder
        self._show = show
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self.batches = 0
        """Requests stored, repeated ones included."""
        collector = self

        class Handler(_Handler):
            owner = collector

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return the address to send to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/ingest"

    def records(self) -> list[Record]:
        """Return every record, in the order of arrival."""
        with self._lock:
            return list(self._records)

    def store(self, body: bytes) -> None:
        """Keep the records of one request; on disk before they are acknowledged."""
        records = [json.loads(line) for line in body.splitlines()]
        with self._lock:
            self.batches += 1
            for record, line in zip(records, body.splitlines(), strict=True):
                with self._file(record).open("ab") as file:
                    file.write(line + b"\n")
            self._records += records
        for record in records:
            self._show(record)

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _file(self, record: Record) -> Path:
        name = str(record.get("log.file.path", "unknown")).strip("/").replace("/", "_")
        container = str(record.get("k8s.container.name", "pod")).replace("/", "_")
        return self._folder / f"{container}.{name[-200:]}.ndjson"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        # The sidecar is killed on purpose, also within a request: it will send it again.
        del request, client_address
        if not isinstance(sys.exception(), ConnectionError):
            raise


class _Handler(BaseHTTPRequestHandler):
    owner: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the sidecar was killed meanwhile
            self.close_connection = True
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.owner.store(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args
