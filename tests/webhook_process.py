"""The real webhook as a process: started on free ports, called over TLS, watched, ended.

In: a folder and an operator config. Out: answers as they came, log lines, metrics, what /proc says.
"""

import base64
import contextlib
import copy
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from certs.issue import Pair, issue_ca, issue_leaf
from certs.system import SystemRandomness
from tests.sidecar_process import Scrape, eventually, parse_metrics

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
"""Seconds after which an answer is taken for one that never comes."""

CONFIG = {
    "image": "registry.test/sidetail-sidecar:1.0",
    "backends": [{"name": "main", "type": "http", "url": "https://logs.test/ingest"}],
}

RANDOM = SystemRandomness()
CA = issue_ca(now=datetime.now(UTC), random=RANDOM)
OTHER_CA = issue_ca(now=datetime.now(UTC), random=RANDOM)


def new_leaf(ca: Pair = CA, *, life: timedelta = timedelta(days=1)) -> Pair:
    """Return a serving certificate for loopback; with a `life` below 0 an expired one."""
    names = ("localhost", "127.0.0.1", "::1")
    if life < timedelta(0):
        past = datetime.now(UTC) - timedelta(days=2)
        return issue_leaf(ca_of_old(), names, now=past, random=RANDOM, life=timedelta(hours=2))
    return issue_leaf(ca, names, now=datetime.now(UTC), random=RANDOM, life=life)


def ca_of_old() -> Pair:
    """Return a CA that was already there last week."""
    return issue_ca(now=datetime.now(UTC) - timedelta(days=7), random=RANDOM)


def client_context(ca: Pair = CA) -> ssl.SSLContext:
    """Return what an API server verifies with: the caBundle and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.certificate.decode())
    return context


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def response(self) -> dict[str, Any]:
        """The AdmissionReview's `response`."""
        review = json.loads(self.body)
        assert review["kind"] == "AdmissionReview"
        assert review["apiVersion"] == "admission.k8s.io/v1"
        return review["response"]

    @property
    def patch(self) -> list[dict[str, Any]]:
        """The operations; an empty list where there is no patch."""
        encoded = self.response.get("patch")
        return json.loads(base64.b64decode(encoded)) if encoded else []


class Webhook:
    """One process."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        flags: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        standalone: bool = True,
        with_files: bool = True,
        stderr: int | None = None,
        wrapper: Iterable[str] = (),
    ) -> None:
        """Prepare; nothing runs yet.

        `stderr`: a descriptor of the test's instead of the log. `wrapper`: a command that runs
        its arguments in its own place.
        """
        self.folder = folder
        self.cert_file = folder / "tls.crt"
        self.key_file = folder / "tls.key"
        self.config_file = folder / "config.yaml"
        self.config_file.write_text(json.dumps(CONFIG if config is None else config))
        self.put_pair(new_leaf())
        self.host = host
        self.port = 0
        self.metrics_port = 0
        self.log: list[dict[str, Any]] = []
        """Its log, as objects, as far as it was read."""
        self.not_json: list[bytes] = []
        """Lines on stderr that are no JSON."""
        self._flags = [
            *(("--standalone",) if standalone else ()),
            *(
                ("--cert-file", str(self.cert_file), "--key-file", str(self.key_file))
                if with_files
                else ()
            ),
            *flags,
        ]
        self._environ = dict(environ or {})
        self._stderr = stderr
        self._wrapper = list(wrapper)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._client = client_context()

    # --- its life ---------------------------------------------------------------------------

    def start(self, *, bind: str | None = None) -> Self:
        """Start it and wait until it serves."""
        self.launch(bind=bind)
        if self._stderr is None:
            eventually(lambda: self.said("serving") or self.exit_code() is not None, "serving")
            fields = self.said("serving")
            assert fields, f"it ended: {self.not_json} {self.log}"
            self.port = int(fields[0]["address"].rpartition(":")[2])
            self.metrics_port = int(fields[0]["metrics"].rpartition(":")[2])
        return self

    def launch(self, *, bind: str | None = None, metrics_bind: str | None = "127.0.0.1:0") -> None:
        """Start it; nothing is waited for."""
        self._process = subprocess.Popen(
            [
                *self._wrapper,
                sys.executable,
                "-m",
                "webhook",
                "--config",
                str(self.config_file),
                "--bind",
                bind or f"{self.host}:0",
                *(("--metrics-bind", metrics_bind) if metrics_bind else ()),
                *self._flags,
            ],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT)} | self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self._stderr is None else self._stderr,
            stderr=subprocess.PIPE if self._stderr is None else self._stderr,
        )
        if self._stderr is None:
            self._reader = threading.Thread(target=self._read_log, daemon=True)
            self._reader.start()

    def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.not_json.append(line)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; return its exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        if self._reader is not None:
            self._reader.join(20)
        return code

    def end(self) -> None:
        """End it, whatever it does."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def said(self, message: str) -> list[dict[str, Any]]:
        """Return the log lines with this sentence."""
        return [line for line in list(self.log) if line["message"] == message]

    # --- its files --------------------------------------------------------------------------

    def put_pair(self, pair: Pair) -> None:
        """Put a pair in place, file by file, each whole."""
        for path, content in ((self.cert_file, pair.certificate), (self.key_file, pair.key)):
            replace_file(path, content)

    # --- calls ------------------------------------------------------------------------------

    def connect(self, context: ssl.SSLContext | None = None, **tcp: Any) -> ssl.SSLSocket:
        """Return a TLS connection; the caller closes it."""
        plain = self.connect_tcp(**tcp)
        try:
            return (context or self._client).wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def connect_tcp(self, *, host: str | None = None) -> socket.socket:
        """Return a TCP connection; the caller closes it."""
        plain = socket.create_connection((host or self.host, self.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Make one request on a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return call(client, method, path, body, headers)

    def client(self) -> http.client.HTTPSConnection:
        """Return a client that keeps its connection; the caller closes it."""
        return http.client.HTTPSConnection(
            self.host, self.port, context=self._client, timeout=PATIENCE
        )

    def post(self, review: Any, path: str = "/mutate?timeout=10s") -> Reply:
        """Post a review as an API server does."""
        return self.call("POST", path, json.dumps(review).encode(), JSON)

    def exchange(self, sent: bytes, *, seconds: float = PATIENCE, plain: bool = False) -> bytes:
        """Send bytes on a new connection; return all that comes until it is closed."""
        with self.connect_tcp() if plain else self.connect() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
            return read_to_end(connection, seconds)

    def probe(self, path: str) -> Reply:
        """Ask the metrics port."""
        client = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=PATIENCE)
        with contextlib.closing(client):
            return call(client, "GET", path)

    def metrics(self) -> Scrape:
        """Return what `/metrics` shows now."""
        return parse_metrics(self.probe("/metrics").body.decode())

    # --- what /proc says --------------------------------------------------------------------

    def rss_bytes(self) -> int:
        return self._status("VmRSS") * 1024

    def peak_bytes(self) -> int:
        """Return the largest resident memory since the last `forget_peak`."""
        return self._status("VmHWM") * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        return self._status("Threads")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise AssertionError(name)


JSON = {"Content-Type": "application/json"}


def call(
    client: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Make one request on `client`."""
    client.request(method, path, body, dict(headers or {}))
    answer = client.getresponse()
    content = answer.read()
    return Reply(
        answer.status, {name.lower(): value for name, value in answer.headers.items()}, content
    )


def read_to_end(connection: socket.socket, seconds: float = PATIENCE) -> bytes:
    """Return what comes until the peer ends; raise TimeoutError after `seconds`."""
    until = time.monotonic() + seconds
    received = b""
    while True:
        connection.settimeout(max(0.01, until - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return received
        if not piece:
            return received
        received += piece


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` in place by rename."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)


def raw_post(body: bytes, *, path: str = "/mutate", extra: str = "") -> bytes:
    """Return a whole POST as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{extra}\r\n"
    )
    return head.encode() + body


def statuses(answers: bytes) -> list[int]:
    """Return the status of each HTTP answer in a stream of them."""
    found = []
    while answers:
        head, separator, rest = answers.partition(b"\r\n\r\n")
        assert separator, f"no answer: {answers[:200]!r}"
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), lines[0]
        status = int(lines[0].split(b" ")[1])
        length = 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        found.append(status)
        answers = rest if status == 100 else rest[length:]
    return found


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "orders-56f4db6b86-",
        "namespace": "shop",
        "labels": {"app": "orders"},
        "annotations": {"sidetail.dev/paths": "/var/log/orders/*.log"},
    },
    "spec": {"containers": [{"name": "app", "image": "orders:1", "command": ["/orders"]}]},
}


def review_of(
    pod: Any = None,
    *,
    uid: str = "705ab4f5-6393-11e8-b7cc-42010a800002",
    operation: str = "CREATE",
    namespace: str = "shop",
    **request: Any,
) -> dict[str, Any]:
    """Return an AdmissionReview about a pod, as an API server sends it."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": operation,
            "userInfo": {"username": "admin", "groups": ["system:authenticated"]},
            "object": copy.deepcopy(POD) if pod is None else pod,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        }
        | request,
    }


@contextlib.contextmanager
def running(folder: Path, **options: Any) -> Iterator[Webhook]:
    """A webhook that serves; it is ended, and its whole log must have been JSON."""
    webhook = Webhook(folder, **options)
    try:
        yield webhook.start()
    finally:
        webhook.end()
    assert webhook.not_json == []


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Call `act` in `count` threads that begin together; return results or exceptions."""
    results: list[Any] = [None] * count
    gate = threading.Barrier(count)

    def run(index: int) -> None:
        gate.wait(PATIENCE)
        try:
            results[index] = act(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
    return results
