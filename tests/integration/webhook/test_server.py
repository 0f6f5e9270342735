"""The server in this process, with limits that are short and small."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from runtime.stop import Stop
from tests.sidecar_process import eventually
from tests.webhook_process import client_context, new_leaf, raw_post, read_to_end, statuses
from webhook.answering import LARGE_BYTES
from webhook.connections import Limits
from webhook.framing import HttpRequest, HttpResponse
from webhook.listening import open_listening
from webhook.server import Server
from webhook.tls import Certificates

SHORT = Limits(
    handshake_seconds=0.5,
    request_seconds=0.8,
    response_seconds=1.0,
    idle_seconds=0.6,
    discard_seconds=0.5,
    max_connections=20,
    max_body_bytes=1024 * 1024,
    max_held_bytes=2 * 1024 * 1024,
)
LEAF = new_leaf()
Answer = Callable[[HttpRequest], HttpResponse]


class Served:
    """A server on a thread."""

    def __init__(self, answer: Answer, limits: Limits, *, with_pair: bool = True) -> None:
        self.certificates = Certificates()
        if with_pair:
            assert self.certificates.offer(LEAF.certificate, LEAF.key) is None
        self.server = Server(limits=limits)
        self.stop = Stop()
        self.ports = []
        for certificates in (self.certificates, None):
            listening = open_listening("127.0.0.1", 0)
            self.ports.append(listening.getsockname()[1])
            self.server.serve(listening, answer, certificates=certificates)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.server.run(self.stop, drain_seconds=0.3)

    def connect(self) -> ssl.SSLSocket:
        return client_context().wrap_socket(self.connect_tcp(), server_hostname="localhost")

    def connect_tcp(self, *, plain: bool = False) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[plain]), 30)

    def call(self) -> list[int]:
        with self.connect() as connection:
            connection.sendall(raw_post(b"{}", extra="Connection: close\r\n"))
            return statuses(read_to_end(connection, 30))

    def end(self) -> None:
        self.stop.request()
        self.stop.request()
        self.server.wake()
        self.thread.join(30)
        assert not self.thread.is_alive()


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, bytes(request.body))


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    started = []

    def serve(answer: Answer = echo, limits: Limits = SHORT, **options: bool) -> Served:
        started.append(Served(answer, limits, **options))
        return started[-1]

    yield serve
    for served in started:
        served.end()


def test_a_peer_that_says_nothing_is_closed_after_the_time_for_a_handshake(serve):
    served = serve()
    began = time.monotonic()
    with served.connect_tcp() as peer:
        read_to_end(peer, 30)
    assert 0.3 < time.monotonic() - began < 20
    eventually(lambda: served.server.counts["handshake_timed_out"] == 1, "its count")


def test_a_peer_that_stops_in_its_handshake_is_closed(serve):
    served = serve()
    began = time.monotonic()
    with served.connect_tcp() as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 20)
        read_to_end(peer, 30)
    assert 0.3 < time.monotonic() - began < 20


def test_a_peer_that_asks_nothing_after_its_handshake_is_closed_without_an_answer(serve):
    served = serve()
    began = time.monotonic()
    with served.connect() as peer:
        assert read_to_end(peer, 30) == b""
        assert 0.5 < time.monotonic() - began < 20


def test_an_idle_connection_ends_with_a_goodbye(serve):
    with serve().connect() as peer:
        peer.suppress_ragged_eofs = False  # a bare end of TCP would be an error
        peer.sendall(raw_post(b"{}"))
        assert statuses(peer.recv(65536)) == [200]
        assert peer.recv(65536) == b""


def test_a_peer_that_drips_its_request_gets_no_more_than_its_time(serve):
    answer = b""
    served = serve()
    began = time.monotonic()
    with served.connect() as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        peer.settimeout(0.05)
        while not answer and time.monotonic() - began < 30:
            with contextlib.suppress(TimeoutError):
                peer.sendall(b" ")
                answer = peer.recv(65536)
        took = time.monotonic() - began

    assert statuses(answer) == [408]
    assert 0.5 < took < 20


def test_a_peer_that_drips_its_handshake_gets_no_more_than_its_time(serve):
    served = serve()
    began = time.monotonic()
    with served.connect_tcp() as peer:
        with contextlib.suppress(OSError):
            peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            while time.monotonic() - began < 30:
                peer.sendall(b"x")
                time.sleep(0.02)

        assert 0.3 < time.monotonic() - began < 20


def test_a_peer_that_does_not_take_its_answers_is_closed(serve):
    served = serve(lambda _: HttpResponse(200, b"x" * 1_000_000))
    with served.connect() as peer:
        peer.sendall(raw_post(b"{}") * 20)  # and never reads
        eventually(lambda: served.server.open_connections == 1, "its connection")
        eventually(lambda: served.server.open_connections == 0, "its end")


def test_what_comes_after_a_413_is_thrown_away_for_a_moment_and_no_longer(serve):
    served = serve()
    sent = 0
    began = time.monotonic()
    with served.connect() as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 30:
                sent += peer.send(b"x" * 16384)
                time.sleep(0.01)
        took = time.monotonic() - began

    assert 0.3 < took < 20
    assert sent > 16384 * 5


def test_an_answer_that_fails_is_500_and_nothing_of_it_is_said(serve, caplog):
    def fail(request: HttpRequest) -> HttpResponse:
        raise ValueError("hunter2")

    served = serve(fail)

    assert served.call() == [500]
    assert served.call() == [500]
    assert "hunter2" not in caplog.text
    assert "fault of ours" in caplog.text


def test_an_answer_that_cannot_be_sent_ends_its_connection_alone(serve):
    def answer(request: HttpRequest) -> HttpResponse:
        headers = (("X", "a\r\nb"),) if request.target == "/bad" else ()
        return HttpResponse(200, b"", headers)

    served = serve(answer)
    with served.connect() as peer:
        peer.sendall(raw_post(b"{}", path="/bad"))
        assert read_to_end(peer, 30) == b""

    assert served.server.counts["fault"] == 1
    assert served.call() == [200]


def test_before_there_is_a_certificate_peers_are_sent_away(serve):
    served = serve(with_pair=False)
    with pytest.raises(OSError), served.connect():  # noqa: PT011 - TLS or TCP notices first
        pass
    served.certificates.offer(LEAF.certificate, LEAF.key)

    assert served.call() == [200]


def test_at_the_cap_the_longest_silent_one_goes_and_a_call_under_way_never(serve):
    go_on = threading.Event()

    def answer(request: HttpRequest) -> HttpResponse:
        if len(request.body) > LARGE_BYTES:
            go_on.wait(30)
        return HttpResponse(200, b"")

    patient = replace(SHORT, handshake_seconds=30, request_seconds=30, idle_seconds=30)
    served = serve(answer, patient)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(served.connect())
        busy.sendall(raw_post(b"x" * (LARGE_BYTES + 1)))
        eventually(lambda: served.server.waiting_requests == 0, "the worker")
        peers = []
        for _ in range(25):
            peers.append(stack.enter_context(served.connect_tcp()))
            time.sleep(0.01)
        eventually(lambda: served.server.counts["evicted"] == 6, "evictions")
        for peer in peers[:6]:
            assert read_to_end(peer, 30) == b""
        for peer in peers[6:]:
            peer.settimeout(0.01)
            with pytest.raises(TimeoutError):
                peer.recv(1)
        go_on.set()
        assert statuses(busy.recv(65536)) == [200]


def test_small_requests_do_not_wait_for_a_large_one(serve):
    go_on = threading.Event()

    def answer(request: HttpRequest) -> HttpResponse:
        if len(request.body) > LARGE_BYTES:
            go_on.wait(30)
        return HttpResponse(200, b"%d" % len(request.body))

    served = serve(answer)
    with served.connect() as large:
        large.sendall(raw_post(b"x" * (LARGE_BYTES + 1)))
        for _ in range(5):
            assert served.call() == [200]
        go_on.set()
        assert statuses(large.recv(65536)) == [200]


def test_bodies_over_the_budget_give_way_the_largest_first(serve):
    served = serve(limits=replace(SHORT, request_seconds=30))
    size = 1024 * 1024
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        first, largest, last = (stack.enter_context(served.connect()) for _ in range(3))
        for peer, held in ((first, 600_000), (largest, 1_000_000)):
            peer.sendall(head + b"x" * held)
        eventually(lambda: served.server.held_bytes == 1_600_000, "their bodies")
        last.sendall(head + b"x" * 600_000)  # 2 MiB and a little more
        assert statuses(read_to_end(largest, 30)) == [503]
        eventually(lambda: served.server.held_bytes == 1_200_000, "the others")
        assert served.server.counts["shed"] == 1
        first.sendall(b"x" * (size - 600_000))
        assert first.recv(20).startswith(b"HTTP/1.1 200 ")
    eventually(lambda: served.server.held_bytes == 0, "no bodies")


def test_probes_are_answered_in_plain_http_while_the_queue_is_busy(serve):
    served = serve()
    with served.connect_tcp(plain=True) as probe:
        probe.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

        assert statuses(probe.recv(65536)) == [200]


def test_a_request_may_come_in_many_tls_records(serve):
    with serve().connect() as peer:
        peer.settimeout(30)
        body = bytes(range(256)) * 400
        for piece in range(0, len(body), 7000):
            chunk = body[piece : piece + 7000]
            if piece == 0:
                peer.sendall(raw_post(body)[: -len(body)])
            peer.sendall(chunk)
        received = b""
        while len(received) < len(body):
            received += peer.recv(65536)

    assert received.endswith(body)


def test_pipelined_requests_that_are_decrypted_already_are_not_forgotten(serve):
    """A turn reads only so much: what TLS still holds wakes nobody."""
    with serve().connect() as peer:
        peer.settimeout(30)
        count = 400
        threading.Thread(target=peer.sendall, args=(raw_post(b"x" * 500) * count,)).start()
        received = b""
        while received.count(b"HTTP/1.1 200 ") < count or not received.endswith(b"x" * 500):
            received += peer.recv(65536)

    assert statuses(received) == [200] * count


def test_a_stop_at_once_leaves_nothing_open(serve):
    served = serve()
    peers = [served.connect() for _ in range(3)]
    served.end()

    for peer in peers:
        assert read_to_end(peer, 30) == b""
        peer.close()
    assert served.server.open_connections == 0
    with pytest.raises(ConnectionRefusedError):
        served.connect_tcp()


def test_a_port_that_is_taken_is_an_error():
    with open_listening("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        open_listening("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize("host", ["nowhere.test", "256.1.1.1", "", "1.2.3.4.5"])
def test_only_addresses_are_listened_on(host):
    with pytest.raises(OSError):  # noqa: PT011 - the resolver's words differ between systems
        open_listening(host, 0).close()
