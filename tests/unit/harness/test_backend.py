import contextlib
import gzip
import http.client
import itertools
import json
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.fakes import backend as fake
from tests.fakes.backend import OK, Answer, Backend, in_turn, refuse_above, refuse_lines, status
from tests.sidecar_process import ROOT, eventually


@pytest.fixture
def backend():
    with Backend() as made:
        yield made


def post(
    backend: Backend, body: bytes = b'{"message":"a"}\n', headers: dict[str, str] | None = None
):
    with closing(http.client.HTTPConnection(backend.host, backend.port, timeout=10)) as connection:
        connection.request("POST", "/x", body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_an_accepted_request_is_recorded_and_stored(backend):
    assert post(backend, headers={"X-Thing": "1"})[0] == 200

    request = backend.requests[0]
    assert (request.method, request.target, request.header("x-thing")) == ("POST", "/x", "1")
    assert backend.messages == ["a"]
    assert request.began_at <= request.at <= eventually(lambda: request.answered_at)


def test_a_refused_request_is_recorded_and_not_stored(backend):
    backend.answers(fake.retry_after("7"))
    code, headers, _ = post(backend)

    assert (code, headers["Retry-After"]) == (429, "7")
    assert len(backend.requests) == 1
    assert backend.messages == []
    assert backend.answered(429) == 1


def test_answers_come_in_turn(backend):
    backend.answers(in_turn(status(500), status(503), then=status(204)))

    assert [post(backend)[0] for _ in range(4)] == [500, 503, 204, 204]


def test_gzip_and_chunked_bodies_are_undone(backend):
    packed = gzip.compress(b'{"message":"z"}\n')
    post(backend, packed, {"Content-Encoding": "gzip"})
    with closing(http.client.HTTPConnection(backend.host, backend.port, timeout=10)) as connection:
        connection.request("POST", "/", iter([b'{"message"', b':"c"}\n']), encode_chunked=True)
        connection.getresponse().read()

    assert backend.messages == ["z", "c"]


def test_one_poisoned_line_refuses_the_request(backend):
    backend.answers(refuse_lines(lambda line: b"bad" in line))

    assert post(backend, b'{"message":"good"}\n{"message":"bad"}\n')[0] == 400
    assert post(backend, b'{"message":"good"}\n')[0] == 200


def test_a_body_above_the_limit_is_413(backend):
    backend.answers(refuse_above(20))

    assert [post(backend, b"x" * size)[0] for size in (20, 21)] == [200, 413]


def test_down_refuses_and_up_takes_the_same_port_again(backend):
    port = backend.port
    backend.down()
    with pytest.raises(ConnectionRefusedError):
        post(backend)
    backend.up()

    assert backend.port == port
    assert post(backend)[0] == 200


def test_down_breaks_the_connections_that_are_open(backend):
    backend.answers(Answer(hang=True))
    with closing(socket.create_connection((backend.host, backend.port), 10)) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        eventually(lambda: backend.requests)
        backend.down()
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""


@pytest.mark.parametrize("where", ["before-answer", "in-answer", "after-answer"])
def test_a_reset_around_the_answer_is_a_reset_and_stores_only_if_told(backend, where):
    backend.answers(Answer(reset=where))
    with closing(socket.create_connection((backend.host, backend.port), 10)) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        pieces: list[bytes] = []
        with pytest.raises(ConnectionResetError):
            pieces.extend(iter(lambda: peer.recv(1000), b""))
        got = b"".join(pieces)

    assert backend.stored == []
    assert (b"200" in got, b"\r\n\r\n" in got) == (
        where != "before-answer",
        where == "after-answer",
    )


def test_a_reset_that_stored_before_it_counts_as_stored(backend):
    backend.answers(Answer(reset="before-answer", stored=True))
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        post(backend)

    assert backend.messages == ["a"]


def test_a_reset_in_the_request_comes_before_its_end(backend):
    backend.before_request = lambda _: Answer(reset="in-request")
    with closing(socket.create_connection((backend.host, backend.port), 10)) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + b"x" * 60)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)

    assert backend.requests == []


def test_a_drip_comes_byte_by_byte(backend):
    backend.answers(Answer(drip_seconds=0.001))

    assert post(backend)[0] == 200


def test_a_delay_is_waited(backend):
    backend.answers(Answer(delay_seconds=0.2))
    began = time.monotonic()
    post(backend)

    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("raw", "begins"),
    [
        (fake.endless_headers, b"HTTP/1.1 200 OK\r\nX-0: yyy"),
        (fake.huge_body, b"HTTP/1.1 503 Nothing\r\n"),
        (fake.gzip_bomb(), b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"),
        (b"hello", b"hello"),
    ],
    ids=["endless", "huge", "bomb", "noise"],
)
def test_raw_answers_are_written_as_they_are(backend, raw, begins):
    backend.answers(Answer(raw=raw))
    with closing(socket.create_connection((backend.host, backend.port), 10)) as peer:
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        got = b""
        while len(got) < len(begins):
            got += peer.recv(1000)

    assert got.startswith(begins)
    assert backend.stored == []


def test_silence_reads_nothing_and_says_nothing(backend):
    backend.silent = True
    with closing(socket.create_connection((backend.host, backend.port), 10)) as peer:
        peer.settimeout(0.2)
        peer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        with pytest.raises(TimeoutError):
            peer.recv(1)

    assert backend.requests == []


def test_connections_are_kept_alive(backend):
    with closing(http.client.HTTPConnection(backend.host, backend.port, timeout=10)) as connection:
        for _ in range(3):
            connection.request("POST", "/", b"")
            connection.getresponse().read()

    assert backend.connections == 1
    assert [request.connection for request in backend.requests] == [0, 0, 0]


def test_a_body_that_is_no_json_is_a_failure_that_close_raises():
    backend = Backend(on_stored=lambda request: request.records)
    post(backend, b'{"message": NaN}\n')

    with pytest.raises(ValueError, match="JSON"):
        backend.close()


def test_resent_batches_are_counted(backend):
    for batch in ("1", "2", "1"):
        post(backend, headers={"X-Sidetail-Batch-Id": batch})

    assert backend.resent == 1


def test_who_counts_gets_the_stored_requests_in_order():
    numbers: list[int] = []
    with Backend(on_stored=lambda request: numbers.append(request.stored_number)) as backend:
        backend.answers(in_turn(OK, status(500), OK))
        for _ in range(3):
            post(backend)

    assert numbers == [0, 1]


def test_as_a_program_it_takes_its_answers_from_stdin(tmp_path):
    record = tmp_path / "stored"
    command = [sys.executable, "-m", "tests.fakes.backend", "--record", str(record)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        codes = []
        for answer in (b"", b'{"status": 503}\n'):
            if answer:
                process.stdin.write(answer)
                process.stdin.flush()
                process.stdout.readline()
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                connection.request("POST", "/", b"x\n")
                codes.append(connection.getresponse().status)
        process.stdin.close()
        assert process.wait(10) == 0

    assert codes == [200, 503]
    assert record.read_bytes() == b"x\n"


def test_the_endless_head_is_endless():
    assert len(list(itertools.islice(fake.endless_headers(), 50))) == 50
