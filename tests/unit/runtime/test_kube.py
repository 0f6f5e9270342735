"""The door to the API server, against servers that do what servers should not."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from runtime.kube import KubeApi, StatusError, UnreachableError
from runtime.kube_access import Access, AccessError
from runtime.stop import Stop

Answer = Callable[[socket.socket, bytes], None]


def access_to(port: int, **other: object) -> Access:
    fields = {
        "host": "127.0.0.1",
        "port": port,
        "base_path": "",
        "server_name": "127.0.0.1",
        "tls": None,
        "authorization": lambda: "Bearer secret",
    }
    return Access(**{**fields, **other})  # type: ignore[arg-type] # built from a table on purpose


@contextmanager
def server(answer: Answer) -> Iterator[tuple[int, list[bytes]]]:
    """Serve `answer` to each connection in turn; yield the port and the requests seen."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    request = read_request(connection)
                    seen.append(request)
                    answer(connection, request)
                except OSError:
                    continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        received = connection.recv(65536)
        if not received:
            return request
        request += received
    head, _, body = request.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def says(status: str, body: bytes, *headers: str) -> Answer:
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers))
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return lambda connection, _request: connection.sendall(whole)


def api_at(port: int, seconds: float = 10.0) -> KubeApi:
    return KubeApi(access_to(port), seconds=seconds)


def test_an_object_is_returned_as_the_server_sent_it() -> None:
    sent = {"kind": "Pod", "new": [1, {"x": None}], "text": "ü"}
    with server(says("200 OK", json.dumps(sent).encode())) as (port, seen):
        assert api_at(port).get("/api/v1/pods/x") == sent

    assert seen[0].startswith(b"GET /api/v1/pods/x HTTP/1.1\r\n")
    assert b"authorization: Bearer secret" in seen[0].replace(b"Authorization", b"authorization")


def test_a_patch_is_sent_as_json_patch() -> None:
    with server(says("200 OK", b"{}")) as (port, seen):
        api_at(port).patch("/x", [{"op": "add", "path": "/a", "value": 1}])

    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PATCH /x HTTP/1.1")
    assert b"application/json-patch+json" in head
    assert json.loads(body) == [{"op": "add", "path": "/a", "value": 1}]


def test_parameters_are_escaped() -> None:
    with server(says("200 OK", b"{}")) as (port, seen):
        api_at(port).get("/x", {"fieldSelector": "metadata.name=a&b"})

    assert b"GET /x?fieldSelector=metadata.name%3Da%26b HTTP" in seen[0]


def test_a_base_path_stands_before_every_path() -> None:
    with server(says("200 OK", b"{}")) as (port, seen):
        KubeApi(access_to(port, base_path="/clusters/c1")).get("/api")

    assert seen[0].startswith(b"GET /clusters/c1/api HTTP/1.1")


@pytest.mark.parametrize("status", ["301 Moved", "401 No", "403 No", "404 No", "409 No", "500 Oh"])
def test_every_answer_but_success_is_a_status_error(status: str) -> None:
    body = json.dumps({"kind": "Status", "reason": "Because", "message": "m" * 999}).encode()
    with (
        server(says(status, body, "Location: http://169.254.169.254/")) as (port, seen),
        pytest.raises(StatusError) as caught,
    ):
        api_at(port).get("/x")

    assert caught.value.status == int(status[:3])
    assert caught.value.reason == "Because"
    assert len(str(caught.value)) < 400
    assert len(seen) == 1


@pytest.mark.parametrize("body", [b"", b"no json", b"[" * 100_000, b"[1]", b"null", b"\xff"])
def test_a_refusal_whose_body_says_nothing_is_still_a_status_error(body: bytes) -> None:
    with server(says("403 Forbidden", body)) as (port, _), pytest.raises(StatusError):
        api_at(port).get("/x")


@pytest.mark.parametrize("body", [b"", b"no json", b"[" * 100_000, b"[1]", b"null", b"\xff"])
def test_a_success_without_an_object_is_no_answer(body: bytes) -> None:
    with server(says("200 OK", body)) as (port, _), pytest.raises(UnreachableError):
        api_at(port).get("/x")


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
    ],
    ids=["nothing", "binary", "cut", "two-lengths", "bad-chunk", "long-header", "cut-chunk"],
)
def test_noise_is_no_answer(noise: bytes) -> None:
    with (
        server(lambda connection, _: connection.sendall(noise)) as (port, _),
        pytest.raises(UnreachableError),
    ):
        api_at(port).get("/x")


def test_a_server_that_says_nothing_is_given_up_at_the_deadline() -> None:
    with (
        server(lambda connection, _: wait_for_end(connection)) as (port, _),
        pytest.raises(UnreachableError, match="no answer in time"),
    ):
        api_at(port, seconds=0.3).get("/x")


def test_a_server_that_drips_is_given_up_at_the_deadline() -> None:
    def drip(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b" ")
            time.sleep(0.02)

    with server(drip) as (port, _), pytest.raises(UnreachableError, match="no answer in time"):
        api_at(port, seconds=0.5).get("/x")


def wait_for_end(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


def test_a_port_that_nobody_listens_on_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(UnreachableError, match="ConnectionRefused"):
        api_at(port).get("/x")


def test_an_account_that_cannot_be_read_is_no_answer() -> None:
    def lost() -> str:
        raise AccessError("token: got nothing, expected a token")

    with server(says("200 OK", b"{}")) as (port, _), pytest.raises(UnreachableError, match="token"):
        KubeApi(access_to(port, authorization=lost)).get("/x")


def test_no_error_shows_the_credential() -> None:
    with server(says("403 No", b"{}")) as (port, _), pytest.raises(StatusError) as caught:
        api_at(port).get("/x")

    assert "secret" not in str(caught.value)


def test_a_long_list_is_read_page_by_page() -> None:
    def page(connection: socket.socket, request: bytes) -> None:
        more = {} if b"continue=next" in request else {"continue": "next"}
        says("200 OK", json.dumps({"items": [len(more)], "metadata": more}).encode())(
            connection, request
        )

    with server(page) as (port, seen):
        pages = list(api_at(port).pages("/api/v1/nodes"))

    assert [one["items"] for one in pages] == [[1], [0]]
    assert b"limit=250" in seen[0]


def chunked(*events: object) -> bytes:
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        f"{len(line):x}\r\n".encode() + line + b"\r\n" for line in lines
    )


def watched(port: int, stop: Stop | None = None, seconds: float = 30.0) -> Iterator[object]:
    return api_at(port).watch("/x", resource_version="7", stop=stop or Stop(), seconds=seconds)


def test_a_watch_yields_events_until_the_server_ends_it() -> None:
    events = [{"type": "ADDED", "object": {"n": n}} for n in range(3)]
    answer = chunked(*events) + b"0\r\n\r\n"
    with server(lambda connection, _: connection.sendall(answer)) as (port, seen):
        assert list(watched(port)) == events

    assert b"watch=true" in seen[0]
    assert b"resourceVersion=7" in seen[0]
    assert b"timeoutSeconds=30" in seen[0]


def test_an_event_that_comes_in_pieces_is_one_event() -> None:
    answer = chunked({"type": "ADDED", "object": {"text": "x" * 500}}) + b"0\r\n\r\n"

    def pieces(connection: socket.socket, _: bytes) -> None:
        for start in range(0, len(answer), 7):
            connection.sendall(answer[start : start + 7])

    with server(pieces) as (port, _):
        assert len(list(watched(port))) == 1


def test_a_watch_that_is_too_old_is_status_410() -> None:
    gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    with (
        server(lambda connection, _: connection.sendall(chunked(gone))) as (port, _),
        pytest.raises(StatusError) as caught,
    ):
        list(watched(port))

    assert caught.value.status == 410


def test_a_watch_whose_connection_breaks_is_said_and_what_came_before_is_kept() -> None:
    answer = chunked({"type": "ADDED", "object": {}})
    with server(lambda connection, _: connection.sendall(answer)) as (port, _):
        events = watched(port)
        assert next(events) == {"type": "ADDED", "object": {}}
        with pytest.raises(UnreachableError):
            next(events)


def test_a_quiet_watch_ends_soon_after_stop_is_asked() -> None:
    def quiet(connection: socket.socket, _: bytes) -> None:
        connection.sendall(chunked({"type": "ADDED", "object": {}}))
        wait_for_end(connection)

    stop = Stop()
    with server(quiet) as (port, _):
        events = watched(port, stop, seconds=3600)
        next(events)
        threading.Timer(0.2, stop.request).start()

        assert list(events) == []


def test_a_tunnel_is_asked_for_where_there_is_a_proxy() -> None:
    def proxy(connection: socket.socket, request: bytes) -> None:
        assert request.startswith(b"CONNECT kube.example:6443 HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        read_request(connection)
        says("200 OK", b'{"through": "proxy"}')(connection, b"")

    with server(proxy) as (port, _):
        access = access_to(6443, host="kube.example", proxy=("127.0.0.1", port))
        assert KubeApi(access).get("/x") == {"through": "proxy"}


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"", b"x" * 10_000])
def test_a_proxy_that_opens_no_tunnel_is_no_answer(answer: bytes) -> None:
    with server(lambda connection, _: connection.sendall(answer)) as (port, _):
        access = access_to(6443, host="kube.example", proxy=("127.0.0.1", port))
        with pytest.raises(UnreachableError, match="tunnel"):
            KubeApi(access, seconds=5).get("/x")


def test_threads_share_one_door() -> None:
    with server(says("200 OK", b'{"a": 1}')) as (port, _):
        api, answers = api_at(port), []
        threads = [
            threading.Thread(target=lambda: answers.append(api.get("/x"))) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    assert answers == [{"a": 1}] * 10
