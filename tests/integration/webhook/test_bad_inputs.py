"""Table B of the bad inputs, against the running process."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
import warnings

import pytest

from tests.sidecar_process import eventually
from tests.webhook_process import (
    JSON,
    POD,
    Webhook,
    call,
    client_context,
    raw_post,
    read_to_end,
    review_of,
    statuses,
)

MIB = 1024 * 1024
BODY_LIMIT = 7 * MIB
WHOLE = json.dumps(review_of()).encode()
HEAD = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(autouse=True)
def still_well(webhook: Webhook):
    """After whatever a test sends, the next request is answered by the same process."""
    yield
    assert webhook.post(review_of()).status == 200
    assert webhook.exit_code() is None
    assert webhook.not_json == []


def with_value(value: bytes) -> bytes:
    return WHOLE.replace(b'"/var/log/orders/*.log"', value)


def padded(size: int, *, operation: str = "UPDATE") -> bytes:
    """A review of just that many bytes."""
    short = json.dumps(review_of(operation=operation, oldObject={"padding": ""})).encode()
    return short.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(short))))


NOT_JSON = {
    "36-nested-900-deep": with_value(b"[" * 900 + b"]" * 900),
    "36-nested-100,000-deep": with_value(b"[" * 100_000 + b"]" * 100_000),
    "36-never-closed": with_value(b"[" * 100_000),
    "37-5,000-digits": with_value(b"9" * 5000),
    "38-NaN": with_value(b"NaN"),
    "38-Infinity": with_value(b"-Infinity"),
    "38-1e999": with_value(b"1e999"),
    "39-uid-twice": WHOLE.replace(b'"uid":', b'"uid": "x", "uid":', 1),
    "39-object-twice": WHOLE.replace(b'"object":', b'"object": {}, "object":', 1),
    "41-request-null": json.dumps(review_of() | {"request": None}).encode(),
    "41-empty-object": b"{}",
    "41-list": b"[]",
    "41-string": b'"x"',
    "41-empty-body": b"",
    "43-no-uid": WHOLE.replace(b'"uid"', b'"udi"', 1),
    "43-uid-a-number": json.dumps(review_of(uid=5)).encode(),
    "43-uid-of-10-KiB": json.dumps(review_of(uid="x" * 10240)).encode(),
    "43-uid-with-a-newline": json.dumps(review_of(uid="a\nFORGED")).encode(),
    "44-v1beta1": WHOLE.replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1", 1),
    "44-other-kind": WHOLE.replace(b'"AdmissionReview"', b'"ConversionReview"', 1),
    "46-utf-16": WHOLE.decode().encode("utf-16"),
    "46-byte-order-mark": b"\xef\xbb\xbf" + WHOLE,
    "46-gzip-without-saying-so": b"\x1f\x8b\x08\x00" + WHOLE,
}


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_review_is_400_in_a_line_and_the_connection_ends(webhook, name, path):
    answer = webhook.exchange(raw_post(NOT_JSON[name], path=path))

    assert statuses(answer) == [400]
    assert b"\r\nConnection: close\r\n" in answer
    assert b"Traceback" not in answer
    assert answer.partition(b"\r\n\r\n")[2].count(b"\n") == 1


def test_44_the_version_that_is_spoken_is_named(webhook):
    assert b"admission.k8s.io/v1" in webhook.exchange(raw_post(NOT_JSON["44-v1beta1"]))


def test_43_a_uid_with_a_newline_is_in_no_log(webhook):
    webhook.exchange(raw_post(NOT_JSON["43-uid-with-a-newline"]))
    webhook.post(review_of(uid="a-marker"))
    eventually(lambda: any(line.get("uid") == "a-marker" for line in webhook.log), "the marker")

    assert not any("FORGED" in json.dumps(line) for line in webhook.log)


def test_40_half_a_surrogate_pair_is_admitted_in_ascii(webhook):
    body = WHOLE.replace(b'"/var/log/orders/*.log"', rb'"/var/log/\ud800/*.log"')
    reply = webhook.call("POST", "/mutate", body, JSON)

    assert reply.status == 200
    assert reply.response["allowed"] is True
    assert reply.body.isascii()


def test_42_a_deletion_is_admitted_without_a_patch(webhook):
    response = webhook.post(review_of(operation="DELETE", object=None, oldObject=POD)).response

    assert response == {"uid": review_of()["request"]["uid"], "allowed": True}


def test_45_another_resource_is_admitted_and_not_logged(webhook):
    secret = {"kind": "Pod", "metadata": {"name": "x"}, "data": {"token": "aHVudGVyMg=="}}
    resource = {"group": "", "version": "v1", "resource": "secrets"}
    response = webhook.post(review_of(secret, resource=resource, uid="about-a-secret")).response

    assert response == {"uid": "about-a-secret", "allowed": True}
    eventually(lambda: any(line.get("uid") == "about-a-secret" for line in webhook.log), "its line")
    assert "aHVudGVyMg" not in json.dumps(webhook.log)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: text/plain",
        "Content-Type: application/json; charset=utf-16",
        "Content-Type: application/json; charset=x",
        "Content-Type: application/json\r\nContent-Type: text/plain",
        "Content-Type: application/json\r\nContent-Encoding: gzip",
        "Content-Type: application/json\r\nContent-Encoding: deflate",
        "X: no-content-type",
    ],
)
def test_46_47_other_types_and_encodings_are_415(webhook, header):
    sent = f"POST /mutate HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {len(WHOLE)}\r\n\r\n"

    assert statuses(webhook.exchange(sent.encode() + WHOLE)) == [415]


def test_47_utf_8_may_be_said(webhook):
    headers = {"Content-Type": "application/json; charset=utf-8"}

    assert webhook.call("POST", "/mutate", WHOLE, headers).status == 200


# --- 48 and W13: the body's length ----------------------------------------------------------


def test_48_a_body_of_6_9_mib_is_taken(webhook):
    reply = webhook.call("POST", "/mutate", padded(69 * MIB // 10), JSON)

    assert reply.status == 200
    assert reply.response["allowed"] is True


def test_48_a_body_of_just_7_mib_is_taken(webhook):
    assert webhook.call("POST", "/mutate", padded(BODY_LIMIT), JSON).status == 200


@pytest.mark.parametrize("size", [BODY_LIMIT + 1, 71 * MIB // 10, 8 * MIB, 10**15])
def test_48_a_larger_body_is_413_before_it_is_sent(webhook, size):
    answer = webhook.exchange(HEAD + b"Content-Length: %d\r\n\r\n" % size)

    assert statuses(answer) == [413]


def test_48_the_413_reaches_a_client_that_sends_all_the_same(webhook):
    body = b"x" * (8 * MIB)
    with webhook.connect() as connection:
        with contextlib.suppress(OSError):  # it may be cut off after the two seconds
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = read_to_end(connection)

    assert statuses(answer) == [413]


def test_48_endless_chunks_are_413(webhook):
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with webhook.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(chunk)
        answer = read_to_end(connection)

    assert statuses(answer) == [413]


def test_48_bodies_that_never_end_are_answered_in_time(webhook):
    stalled = {
        "length-larger-than-body": HEAD + b"Content-Length: 5000\r\n\r\n" + WHOLE[:100],
        "chunk-without-end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + WHOLE[:100],
        "head-without-end": HEAD,
        "no-newline": b"POST /mut",
    }
    with contextlib.ExitStack() as stack:
        connections = {name: stack.enter_context(webhook.connect()) for name in stalled}
        began = time.monotonic()
        for name, sent in stalled.items():
            connections[name].sendall(sent)
        answers = {name: read_to_end(connections[name], 30) for name in stalled}
        took = time.monotonic() - began

    assert {name: statuses(answer) for name, answer in answers.items()} == {
        name: [408] for name in stalled
    }
    assert took > 8  # it really waited for the rest


def test_48_a_client_that_ends_in_the_middle_is_told(webhook):
    """On the plain port: Python's client cannot say half a goodbye over TLS."""
    with socket.create_connection(("127.0.0.1", webhook.metrics_port), 30) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + WHOLE[:100])
        connection.shutdown(socket.SHUT_WR)
        answer = read_to_end(connection, 30)

    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\n Content-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5 6\r\n",
    ],
)
def test_48_a_framing_that_can_be_read_in_two_ways_is_400_and_the_end(webhook, framing):
    """What follows the ambiguous body must never be taken for a request of its own."""
    smuggled = raw_post(WHOLE)
    answer = webhook.exchange(HEAD + framing + b"\r\n0\r\n\r\n" + smuggled)

    assert statuses(answer) == [400]


# --- 49: methods and paths ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE", "PATCH", "OPTIONS", "FOO"])
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_49_other_methods_are_405(webhook, method, path):
    answer = webhook.exchange(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert statuses(answer) == [405]
    assert b"\r\nAllow: POST\r\n" in answer


def test_49_no_path_is_ever_redirected(webhook):
    paths = [
        "/mutate/", "//mutate", "/mutate//", "/../mutate", "/./mutate", "/mutate/..", "/", "//",
        "/mutate%2f", "/%6dutate", "/mutate;a=b", "/mutate%00", "/mutate.", "/MUTATE", "/mutate/x",
        "/validate/", "//validate", "///validate", "/validate/.", "/static/", "/static", "/login",
        "/livez", "/readyz", "/metrics", "/http://evil.test/", "//evil.test/mutate", "/\\evil.test",
        "/%2e%2e/mutate", "/mutate?next=//evil.test", "/mutate/?x", "/index.html", "/favicon.ico",
    ]  # fmt: skip
    found = {}
    with contextlib.closing(webhook.client()) as client:
        for path in paths:
            for method in ("GET", "POST", "HEAD"):
                found[method, path] = call(client, method, path, WHOLE, JSON).status

    assert set(found.values()) <= {200, 404, 405}
    answered = {path for (method, path), status in found.items() if status == 200}
    assert answered == {"/mutate?next=//evil.test"}


def test_49_the_api_servers_own_query_is_answered(webhook):
    for query in (
        "timeout=5s",
        "timeout=30s",
        "timeout=1m0s",
        "timeout=",
        "x=%zz",
        "timeout=9999s",
    ):
        assert webhook.call("POST", f"/mutate?{query}", WHOLE, JSON).status == 200


# --- 50: heads ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(
            HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
            [431],
            id="1,000-headers",
        ),
        pytest.param(HEAD + b"X: " + b"y" * 65536 + b"\r\n\r\n", [431], id="header-of-64-KiB"),
        pytest.param(
            b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [431], id="target-of-64-KiB"
        ),
        pytest.param(HEAD + b"X: a\0b\r\n\r\n", [400], id="nul-in-a-header"),
        pytest.param(
            b"POST https://evil.test/mutate HTTP/1.1\r\nHost: x\r\n\r\n", [400], id="absolute-form"
        ),
        pytest.param(b"GARBAGE\r\n\r\n", [400], id="garbage"),
        pytest.param(b"\0" * 1000 + b"\r\n\r\n", [400], id="nuls"),
        pytest.param(b"POST /mutate HTTP/1.1\r\n\r\n", [400], id="no-host"),
        pytest.param(b"POST /mutate HTTP/9.9\r\nHost: x\r\n\r\n", [505], id="http-9.9"),
        pytest.param(b"\n" * 100, [400], id="newlines"),
    ],
)
def test_50_a_bad_head_is_answered_once_and_ends_the_connection(webhook, sent, expected):
    assert statuses(webhook.exchange(sent + raw_post(WHOLE))) == expected


def test_50_http_1_0_is_answered_and_closed(webhook):
    sent = (
        b"POST /mutate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(WHOLE)
    )

    assert statuses(webhook.exchange(sent + WHOLE)) == [200]


def test_50_a_hundred_pipelined_requests_get_a_hundred_answers_in_order(webhook):
    sent = b"".join(
        raw_post(json.dumps(review_of(uid=f"pipelined-{number}")).encode()) for number in range(100)
    )
    answer = webhook.exchange(sent + b"GET /end HTTP/1.1\r\nHost: x\r\n\r\n")

    assert statuses(answer) == [200] * 100 + [404]
    order = [part.split(b'"')[0] for part in answer.split(b'"uid":"')[1:]]
    assert order == [b"pipelined-%d" % number for number in range(100)]


def test_50_expect_100_continue_is_answered(webhook):
    with webhook.connect() as connection:
        connection.sendall(
            HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(WHOLE)
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(WHOLE)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_50_a_body_that_is_too_large_is_refused_instead_of_asked_for(webhook):
    answer = webhook.exchange(HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")

    assert statuses(answer) == [413]


# --- 51: TLS --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_51_older_tls_is_refused(webhook, version):
    context = client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = version
        context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        webhook.connect(context)


@pytest.mark.parametrize("name", [None, "elsewhere.test"])
def test_51_a_client_may_name_nobody_or_somebody_else(webhook, name):
    context = client_context()
    context.check_hostname = False
    with (
        webhook.connect_tcp() as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(raw_post(WHOLE))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_51_plain_http_on_the_tls_port_is_closed(webhook):
    began = time.monotonic()
    answer = webhook.exchange(raw_post(WHOLE), plain=True)

    assert b"200" not in answer
    assert time.monotonic() - began < 30


def test_48_a_client_that_is_cut_off_in_the_middle_is_forgotten(webhook):
    with webhook.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + WHOLE[:100])
    eventually(lambda: webhook.metrics().total("sidetail_webhook_body_bytes") == 0, "its body")


def test_51_garbage_instead_of_tls_is_closed(webhook):
    for sent in (b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\x80\x2e\x01\0\x02" * 50):
        with webhook.connect_tcp() as plain:
            plain.sendall(sent)
            read_to_end(plain, 30)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="Python's client cannot ask for it")
def test_51_a_client_that_wants_to_renegotiate_is_refused_or_ended(webhook):
    client = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{webhook.port}", "-tls1_2"],
        input=b"R\n" * 3,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert b"RENEGOTIATING" in client.stdout + client.stderr
    assert b"verify return" in client.stdout + client.stderr or client.returncode != 0
    assert webhook.metrics().total("sidetail_webhook_connection_events_total", event="fault") == 0


# --- 52 and 53: size and secrets ------------------------------------------------------------


def large_pod() -> dict:
    pod = json.loads(json.dumps(POD))
    pod["spec"]["containers"][0]["env"] = [
        {"name": f"VARIABLE_{number:04}", "value": f"hunter2-{number}-" + "v" * 2300}
        for number in range(1000)
    ]
    return pod


def test_52_a_pod_with_1000_variables_in_2_3_mib_is_answered(webhook):
    reply = webhook.post(review_of(large_pod(), uid="large"))

    assert reply.response["allowed"] is True
    assert reply.response["uid"] == "large"


def test_53_no_value_of_a_variable_is_in_any_log(webhook):
    """The fixture's log level is debug."""
    webhook.post(review_of(large_pod(), uid="secretive"))
    eventually(lambda: any(line.get("uid") == "secretive" for line in webhook.log), "its line")

    assert "hunter2" not in json.dumps(webhook.log)
    assert "VARIABLE_" not in json.dumps(webhook.log)
