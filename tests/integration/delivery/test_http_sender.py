"""One attempt over real sockets: what goes out, and what each way of answering comes to."""

import gzip
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import pytest

from certs.issue import Pair, issue_ca, issue_leaf
from certs.system import SystemRandomness
from sidecar.backends.answers import Answer, Delivered, Hold, Refused, Retry, TooLarge
from sidecar.backends.connection import ConnectError, connect
from sidecar.backends.credentials import Credentials
from sidecar.backends.http_sender import HttpSender, PlainWire, parse_retry_after
from sidecar.batch import Batch, Part, Piece
from sidecar.settings import BackendSettings
from sidecar.url import parse_url
from tests.fakes import backend as fake
from tests.fakes.backend import Backend

SECONDS = 20.0


class _Lines(PlainWire):
    def target(self) -> str:
        return "/ingest?a=1"

    def headers(self, batch: Batch, credentials: Credentials) -> list[tuple[str, str]]:
        del batch
        return credentials.authorization()

    def body(self, batch: Batch) -> list[Piece]:
        return batch.pieces()


def _settings(url: str, **changes: object) -> BackendSettings:
    values: dict[str, object] = {
        "name": "main", "type": "http", "url": parse_url(url), "compression": "none",
        "compression_level": 1, "credentials_dir": None, "insecure": False,
        "allow_link_local": False, "only": None, "options": {},
    }  # fmt: skip
    return BackendSettings(**{**values, **changes})  # type: ignore[arg-type] # a test's shorthand


def _batch(*pieces: bytes) -> Batch:
    return Batch(parts=[Part(None, None, piece) for piece in pieces])  # type: ignore[arg-type] # only the bytes are looked at


def _sender(url: str, **changes: object) -> HttpSender:
    return HttpSender(_settings(url, **changes), _Lines())


def _attempt(sender: HttpSender, *pieces: bytes, seconds: float = SECONDS) -> Answer:
    return sender.attempt(_batch(*pieces), seconds=seconds)


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as one:
        yield one


def test_the_pieces_arrive_as_one_body_over_one_connection(backend: Backend):
    sender = _sender(backend.url)

    answers = [_attempt(sender, b"a\n", b"b\n" * 100_000, b"c\n") for _ in range(3)]
    sender.close()

    assert answers == [Delivered()] * 3
    assert backend.connections == 1
    assert backend.requests[0].body == b"a\n" + b"b\n" * 100_000 + b"c\n"
    assert backend.requests[0].target == "/ingest?a=1"
    assert sender.sent_bytes == 3 * 200_004


def test_gzip_is_undone_to_the_same_bytes(backend: Backend):
    sender = _sender(backend.url, compression="gzip")

    assert _attempt(sender, b"line\n" * 1000, b"end\n") == Delivered()
    sender.close()

    request = backend.requests[0]
    assert request.header("content-encoding") == "gzip"
    assert gzip.decompress(request.body) == b"line\n" * 1000 + b"end\n"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Delivered()), (204, Delivered()),
        (400, Refused("status_400")), (422, Refused("status_422")), (413, TooLarge()),
        (408, Retry("status_408")), (425, Retry("status_425")), (429, Retry("status_429")),
        (500, Retry("status_500")), (503, Retry("status_503")), (599, Retry("status_599")),
        (301, Hold("status_301")), (307, Hold("status_307")), (308, Hold("status_308")),
        (401, Hold("status_401")), (403, Hold("status_403")), (404, Hold("status_404")),
        (405, Hold("status_405")), (410, Hold("status_410")), (451, Hold("status_451")),
    ],
)  # fmt: skip
def test_each_status_means_what_the_design_says(backend: Backend, status: int, expected: Answer):
    backend.answers(fake.status(status, ("Location", "http://127.0.0.1:1/")))
    sender = _sender(backend.url)

    assert _attempt(sender, b"x\n") == expected
    sender.close()
    assert len(backend.requests) == 1


def test_a_closed_keep_alive_connection_is_noticed_before_anything_is_sent(backend: Backend):
    sender = _sender(backend.url)
    assert _attempt(sender, b"1\n") == Delivered()
    backend.cut()
    time.sleep(0.05)

    assert _attempt(sender, b"2\n") == Delivered()
    sender.close()
    assert [request.body for request in backend.requests] == [b"1\n", b"2\n"]


def test_nobody_listening_is_a_retry(backend: Backend):
    backend.down()
    sender = _sender(backend.url)

    assert _attempt(sender, b"x\n") == Retry("connection")
    backend.up()
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


def test_a_name_that_nobody_knows_is_a_retry():
    sender = _sender("http://no-such-host.invalid/")

    assert _attempt(sender, b"x\n") == Retry("dns")


def test_a_reset_half_way_through_the_body_is_a_retry(backend: Backend):
    backend.before_request = lambda _: fake.Answer(reset="in-request")
    sender = _sender(backend.url)

    assert isinstance(_attempt(sender, b"x" * 3_000_000), Retry)
    backend.before_request = None
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


@pytest.mark.parametrize("place", ["before-answer", "in-answer"])
def test_a_reset_is_a_retry(backend: Backend, place: str):
    backend.answers(fake.in_turn(fake.Answer(reset=place)))  # type: ignore[arg-type] # one of its literals
    sender = _sender(backend.url)

    answer = _attempt(sender, b"x" * 300_000 + b"\n")
    assert isinstance(answer, Retry)
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


def test_a_server_that_hangs_is_given_up_at_the_deadline(backend: Backend):
    backend.answers(fake.in_turn(fake.Answer(hang=True)))
    sender = _sender(backend.url)

    started_at = time.monotonic()
    assert _attempt(sender, b"x\n", seconds=0.5) == Retry("timeout")
    assert time.monotonic() - started_at >= 0.5
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


def test_a_server_that_drips_is_given_up_at_the_deadline(backend: Backend):
    backend.answers(fake.in_turn(fake.Answer(drip_seconds=0.2, body=b"slow" * 10)))
    sender = _sender(backend.url)

    assert _attempt(sender, b"x\n", seconds=0.6) == Retry("timeout")
    sender.close()


def test_a_server_that_does_not_read_is_given_up_at_the_deadline(backend: Backend):
    backend.silent = True
    sender = _sender(backend.url)

    assert _attempt(sender, b"x" * 32_000_000, seconds=0.6) == Retry("timeout")
    sender.close()


def test_an_answer_that_comes_before_the_body_was_read_is_heard(backend: Backend):
    backend.before_request = lambda head: fake.status(413) if b"POST" in head else None
    sender = _sender(backend.url)

    assert _attempt(sender, b"x" * 30_000_000) == TooLarge()
    sender.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00\x01\x02 nonsense\r\n\r\n",
        b"HTTP/1.1 200\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"<html>hello from 1993</html>",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
    ],
)
def test_nonsense_is_a_retry_and_never_an_acknowledgement(backend: Backend, noise: bytes):
    backend.answers(fake.in_turn(fake.Answer(raw=noise)))
    sender = _sender(backend.url)

    assert isinstance(_attempt(sender, b"x\n"), Retry)
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


def test_headers_without_end_are_a_retry(backend: Backend):
    backend.answers(fake.in_turn(fake.Answer(raw=fake.endless_headers)))
    sender = _sender(backend.url)

    assert isinstance(_attempt(sender, b"x\n"), Retry)
    sender.close()


def test_of_a_huge_answer_only_the_beginning_is_read(backend: Backend):
    backend.answers(fake.in_turn(fake.Answer(raw=fake.huge_body)))
    sender = _sender(backend.url)

    assert _attempt(sender, b"x\n") == Retry("status_503")
    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()


# --- TLS and credentials --------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Pair:
    return issue_ca(now=datetime.now(UTC) - timedelta(days=1), random=SystemRandomness())


def _server_context(authority: Pair, folder: Path, *names: str, hours: float = 0) -> ssl.SSLContext:
    now = datetime.now(UTC) + timedelta(hours=hours)
    leaf = issue_leaf(authority, names, now=now, random=SystemRandomness(), life=timedelta(hours=2))
    (folder / "server.crt").write_bytes(leaf.certificate)
    (folder / "server.key").write_bytes(leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


@pytest.fixture
def secret(tmp_path: Path, authority: Pair) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "token").write_text("t0ken\n")
    return folder


def test_a_server_with_a_right_certificate_gets_the_token(
    authority: Pair, tmp_path: Path, secret: Path
):
    with Backend(tls=_server_context(authority, tmp_path, "127.0.0.1")) as backend:
        sender = _sender(backend.url, credentials_dir=str(secret))
        answers = [_attempt(sender, b"x\n") for _ in range(3)]
        sender.close()

        assert answers == [Delivered()] * 3
        assert backend.connections == 1
        assert backend.requests[0].header("authorization") == "Bearer t0ken"


@pytest.mark.parametrize("fault", ["name", "expired", "unknown-ca"])
def test_not_a_byte_of_log_reaches_a_server_that_cannot_prove_itself(
    authority: Pair, tmp_path: Path, secret: Path, fault: str
):
    name = "elsewhere.example" if fault == "name" else "127.0.0.1"
    context = _server_context(authority, tmp_path, name, hours=-5 if fault == "expired" else 0)
    if fault == "unknown-ca":
        other = issue_ca(now=datetime.now(UTC), random=SystemRandomness())
        (secret / "ca.crt").write_bytes(other.certificate)
    with Backend(tls=context) as backend:
        sender = _sender(backend.url, credentials_dir=str(secret))

        assert _attempt(sender, b"a secret line\n") == Retry("tls")
        assert backend.bytes_received == 0


def test_a_rotated_ca_and_token_are_used_without_a_restart(
    authority: Pair, tmp_path: Path, secret: Path
):
    other = issue_ca(now=datetime.now(UTC), random=SystemRandomness())
    with Backend(tls=_server_context(authority, tmp_path, "127.0.0.1")) as backend:
        sender = _sender(backend.url, credentials_dir=str(secret))
        assert _attempt(sender, b"1\n") == Delivered()
        backend.present(_server_context(other, tmp_path, "127.0.0.1"))
        (secret / "ca.crt").write_bytes(other.certificate)
        (secret / "token").write_text("another")

        assert _attempt(sender, b"2\n") == Delivered()
        sender.close()
        assert backend.requests[1].header("authorization") == "Bearer another"
        assert backend.connections == 2


def test_plain_http_at_a_tls_port_is_a_retry(backend: Backend, secret: Path):
    sender = _sender(backend.url.replace("http:", "https:"), credentials_dir=str(secret))

    assert isinstance(_attempt(sender, b"x\n"), Retry)
    assert backend.requests == []


def test_a_secret_that_is_not_there_holds_the_backend_and_nothing_is_sent(
    backend: Backend, tmp_path: Path
):
    folder = tmp_path / "late"
    sender = _sender(backend.url, credentials_dir=str(folder))
    assert _attempt(sender, b"x\n") == Hold("credentials_missing")
    folder.mkdir()
    (folder / "username").write_text("ada")
    (folder / "password").write_text("p:w")

    assert _attempt(sender, b"x\n") == Delivered()
    sender.close()
    assert backend.requests[0].header("authorization") == "Basic YWRhOnA6dw=="
    assert len(backend.requests) == 1


def test_a_token_with_a_newline_in_it_becomes_no_header(backend: Backend, secret: Path):
    (secret / "token").write_text("a\r\nX-Evil: 1")
    sender = _sender(backend.url, credentials_dir=str(secret))

    assert isinstance(_attempt(sender, b"x\n"), Hold)
    assert backend.requests == []


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/", "http://[fe80::1]/", "http://[::ffff:a9fe:a9fe]/", "http://2852039166/"],
)  # fmt: skip
def test_a_link_local_address_is_never_connected_to(url: str):
    with pytest.raises(ConnectError) as caught:
        connect(parse_url(url), None, seconds=1.0, allow_link_local=False)

    assert caught.value.reason in ("link_local", "dns")


def _at(seconds: float) -> str:
    return formatdate(1_000_000 + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0), ("0", 0.0), ("1000000000000", 1e11), (_at(90), 90.0),
        (_at(-90), None), ("-5", None), ("1e3", None), ("soon", None), ("", None), ("٣", None),
        ("Fri, 99 Foo 2024", None), (None, None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms_and_ignored_where_it_makes_no_sense(
    value: str | None, expected: float | None
):
    assert parse_retry_after(value, wall_clock=lambda: 1_000_000.0) == expected
