"""The backend of the end-to-end tests, in a pod: takes NDJSON, keeps it, tells it again.

    POST /ingest         batches; answered 503 while their namespace is held
    POST /guarded        the same for a token that is the namespace's name; else 401
    POST /hold, /free    ?namespace=
    POST /written        ?namespace=, a JSON object: stream → lines that the application wrote
    POST /note           ?namespace=, any JSON object, dated by this clock
    GET  /state          ?namespace=: counts, what was written, the notes
    GET  /batches        ?namespace=: what is stored, one batch a line

Where a record is from says its attribute `k8s.namespace.name`. Python's standard library only; the
state is in memory, for a collector that has to start anew is to fail the tests.
"""

import gzip
import json
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Namespace:
    """What has come from one namespace."""

    batches: list[bytes] = field(default_factory=list)
    records: int = 0
    ids: set[str] = field(default_factory=set)
    refused: int = 0
    """Batches that came while it was held."""
    held: bool = False
    written: dict[str, int] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)


class Collector:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._namespaces: defaultdict[str, Namespace] = defaultdict(Namespace)

    def ingest(self, batch_id: str | None, body: bytes) -> int:
        """Store a batch; return the status of the answer."""
        named: defaultdict[str, list[Any]] = defaultdict(list)
        for line in body.splitlines():
            record = json.loads(line)
            named[str(record.get("k8s.namespace.name"))].append(record)
        with self._lock:
            held = [name for name in named if self._namespaces[name].held]
            for name in held:
                self._namespaces[name].refused += 1
            if held:
                return 503
            for name, records in named.items():
                batch = {"batch": batch_id, "records": records}
                self._namespaces[name].batches.append(json.dumps(batch).encode())
                self._namespaces[name].records += len(records)
                self._namespaces[name].ids.update(record["id"] for record in records)
        return 200

    def guarded(self, batch_id: str | None, body: bytes, authorization: str | None) -> int:
        """Store a batch for those who show their token; return the status of the answer."""
        namespace = str(json.loads(body.partition(b"\n")[0]).get("k8s.namespace.name"))
        if authorization != f"Bearer {namespace}":
            return 401
        return self.ingest(batch_id, body)

    def hold(self, namespace: str, *, held: bool) -> None:
        with self._lock:
            self._namespaces[namespace].held = held

    def written(self, namespace: str, counts: dict[str, int]) -> None:
        with self._lock:
            self._namespaces[namespace].written.update(counts)

    def note(self, namespace: str, note: dict[str, Any]) -> None:
        with self._lock:
            self._namespaces[namespace].notes.append(note | {"at": time.time()})

    def state(self, namespace: str) -> dict[str, Any]:
        with self._lock:
            one = self._namespaces[namespace]
            return {
                "records": one.records,
                "different": len(one.ids),
                "refused": one.refused,
                "written": dict(one.written),
                "notes": list(one.notes),
            }

    def batches(self, namespace: str) -> list[bytes]:
        with self._lock:
            return list(self._namespaces[namespace].batches)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector = Collector()

    def do_GET(self) -> None:
        path, namespace = self._target()
        if path == "/batches":
            self._answer(200, b"\n".join(self.collector.batches(namespace)))
        elif path == "/state":
            self._answer(200, json.dumps(self.collector.state(namespace)).encode())
        else:
            self._answer(200 if path == "/healthz" else 404)

    def do_POST(self) -> None:
        path, namespace = self._target()
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status = 200
        if path == "/ingest":
            status = self.collector.ingest(self.headers.get("X-Sidetail-Batch-Id"), body)
        elif path == "/guarded":
            status = self.collector.guarded(
                self.headers.get("X-Sidetail-Batch-Id"), body, self.headers.get("Authorization")
            )
        elif path in {"/hold", "/free"}:
            self.collector.hold(namespace, held=path == "/hold")
        elif path == "/written":
            self.collector.written(namespace, json.loads(body))
        elif path == "/note":
            self.collector.note(namespace, json.loads(body))
        else:
            status = 404
        self._answer(status, b"{}")

    def _target(self) -> tuple[str, str]:
        parts = urlsplit(self.path)
        return parts.path, parse_qs(parts.query).get("namespace", [""])[0]

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
