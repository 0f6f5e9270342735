"""The probe endpoint against peers of every kind."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from runtime import probes
from runtime.probes import Answer, Probes, open_probes


@pytest.fixture
def endpoint() -> Iterator[Probes]:
    routes = {
        "/metrics": lambda: Answer(200, b"figures\n"),
        "/bad": lambda: Answer(503, b""),
    }
    opened = open_probes("127.0.0.1", 0, routes)
    assert opened is not None
    yield opened
    opened.close()


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_paths_answer_and_nothing_else_does(endpoint: Probes):
    assert _ask(endpoint.port, "GET", "/metrics") == (200, b"figures\n")
    assert _ask(endpoint.port, "GET", "/metrics?a=b") == (200, b"figures\n")
    assert _ask(endpoint.port, "HEAD", "/metrics") == (200, b"")
    assert _ask(endpoint.port, "GET", "/bad")[0] == 503
    for path in ("/", "/metrics/", "//metrics", "/../metrics", "/healthz", "/METRICS"):
        assert _ask(endpoint.port, "GET", path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_other_methods_are_not_allowed(endpoint: Probes, method: str):
    assert _ask(endpoint.port, method, "/metrics")[0] == 405


@pytest.mark.parametrize(
    "noise",
    [b"\x16\x03\x01\x02\x00", b"GET", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000,
     b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"\0" * 4096],
)  # fmt: skip
def test_noise_neither_stops_it_nor_comes_back(endpoint: Probes, noise: bytes):
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=20) as peer:
        peer.sendall(noise)
        peer.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while piece := peer.recv(65536):
                said += piece
        except ConnectionResetError:
            pass

    assert b"Traceback" not in said
    assert _ask(endpoint.port, "GET", "/metrics")[0] == 200


def test_quiet_peers_are_cut_and_never_grow_in_number(
    endpoint: Probes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probes, "REQUEST_SECONDS", 0.5)
    before = threading.active_count()
    quiet = [socket.create_connection(("127.0.0.1", endpoint.port)) for _ in range(100)]
    deadline = time.monotonic() + 20
    while _try(endpoint.port) != 200 and time.monotonic() < deadline:
        time.sleep(0.1)

    assert _try(endpoint.port) == 200
    assert threading.active_count() <= before + 2 * probes.MAX_CONNECTIONS + 2
    for peer in quiet:
        peer.close()


def _try(port: int) -> int:
    try:
        return _ask(port, "GET", "/metrics")[0]
    except (OSError, http.client.HTTPException):
        return 0


def test_a_port_that_is_taken_is_said_and_gone_without(
    endpoint: Probes, caplog: pytest.LogCaptureFixture
):
    assert open_probes("127.0.0.1", endpoint.port, {}) is None
    assert "going on without it" in caplog.text


def test_all_addresses_answer_on_both_families():
    opened = open_probes("::", 0, {"/metrics": lambda: Answer(200, b"")})
    assert opened is not None
    hosts = ["127.0.0.1", "::1"] if socket.has_ipv6 else ["127.0.0.1"]

    for host in hosts:
        connection = http.client.HTTPConnection(host, opened.port, timeout=20)
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
        connection.close()
    opened.close()
