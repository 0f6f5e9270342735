"""Threats T19, T20 and fault S12: backends that mean harm, and links that are not to be trusted."""

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.backend import (
    OK,
    Answer,
    endless_headers,
    gzip_bomb,
    huge_body,
    retry_after,
    status,
)
from tests.fakes.certificates import Authority, Pair
from tests.integration.sidecar.stage import Stage
from tests.integration.sidecar.test_backend_faults import _tried, as_config, fleet
from tests.sidecar_process import eventually

DAY = dt.timedelta(days=1)
HOSTILE: dict[str, Answer] = {
    "endless-head": Answer(raw=endless_headers),
    "huge-503": Answer(raw=huge_body),
    # A success stands in its first line: what follows is of no use to anybody.
    "huge-200": Answer(raw=lambda: huge_body(code=200), stored=True),
    "huge-302": Answer(raw=lambda: huge_body(code=302)),
    "bomb-200": Answer(raw=gzip_bomb(), stored=True),
    "bomb-503": Answer(raw=gzip_bomb(code=503)),
    "forever": retry_after("1e12"),
    "drip": Answer(status=503, drip_seconds=0.2, body=b"x" * 1000),
    "drip-200": Answer(status=200, drip_seconds=0.2, body=b"x" * 1000, stored=True),
    "http09": Answer(raw=b"<html>stored, thanks</html>"),
    "nothing": Answer(raw=b""),
    "nul": Answer(raw=bytes(5000)),
    "half-line": Answer(raw=b"HTTP/1.1 20"),
    "no-length": Answer(raw=b"HTTP/1.1 503 no\r\n\r\nsome body"),
    "negative": Answer(raw=b"HTTP/1.1 503 no\r\nContent-Length: -1\r\n\r\n"),
    "two-lengths": Answer(
        raw=b"HTTP/1.1 503 no\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    ),
    "bad-chunks": Answer(raw=b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "endless-chunks": Answer(
        raw=lambda: (
            b"HTTP/1.1 503 no\r\nTransfer-Encoding: chunked\r\n\r\n" if not n else b"1\r\nx\r\n"
            for n in iter(int, 1)
        )
    ),
    "long-status": Answer(raw=b"HTTP/1.1 " + b"9" * 100_000 + b" no\r\n\r\n"),
    "upgrade": Answer(raw=b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nnoise"),
    "continue": Answer(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "second-answer": Answer(raw=b"HTTP/1.1 503 a\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 b\r\n"),
    "tls-alert": Answer(raw=b"\x15\x03\x03\x00\x02\x02\x28"),
}


def test_t19_twenty_behaviours_cost_no_memory_and_no_line(stage: Stage):
    members = fleet(stage, HOSTILE)
    for name, member in members.items():
        member.backend.answers(HOSTILE[name])
    log = stage.log()
    log.write(200)
    sidecar = stage.started(backends=as_config(members), limits={"request_seconds": 2})
    for name, member in members.items():
        tries = 1 if name in {"forever", "drip-200", "huge-200", "bomb-200"} else 2
        eventually(lambda m=member, t=tries: _tried(m, t), name)  # type: ignore[misc] # a lambda with defaults
    assert sidecar.peak_mib < 96
    asked_to_wait = {"forever"}
    for member in members.values():
        member.backend.answers(OK)
    log.write(20)
    for name, member in members.items():
        if name not in asked_to_wait:
            stage.settle(member.judge, where=name)
    verdicts = {name: member.judge.verdict() for name, member in members.items()}

    for name, verdict in verdicts.items():
        if name in asked_to_wait:
            continue
        # A success that does not end well is ambiguous: its batch may come again.
        verdict.assert_at_least_once(duplicates=400 if name.endswith("-200") else 0)
    assert sidecar.peak_mib < 96
    assert sidecar.metric("sidetail_lines_dropped_total") == 0
    assert len(sidecar.log) < 8 * len(members)


# --- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def good(authority: Authority) -> Pair:
    return authority.issue("127.0.0.1", "localhost")


def credentials(stage: Stage, **files: bytes) -> Path:
    folder = stage.folder / "credentials"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return folder


def old_tls(good: Pair, folder: Path) -> ssl.SSLContext:
    context = good.server(folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


UNTRUSTED: dict[str, Callable[[Authority, Pair, Path], ssl.SSLContext]] = {
    "wrong name": lambda ca, _, folder: ca.issue("elsewhere.example").server(folder),
    "wrong address": lambda ca, _, folder: ca.issue("127.0.0.2").server(folder),
    "expired": lambda ca, _, folder: ca.issue("127.0.0.1", begins_in=-2 * DAY, life=DAY).server(
        folder
    ),
    "not yet valid": lambda ca, _, folder: ca.issue("127.0.0.1", begins_in=5 * DAY).server(folder),
    "another CA": lambda _ca, _, folder: Authority().issue("127.0.0.1").server(folder),
    "TLS 1.1": lambda _ca, good, folder: old_tls(good, folder),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_t20_not_one_byte_goes_over_a_link_that_is_not_verified(
    stage: Stage, authority: Authority, good: Pair
):
    names = {name: name.replace(" ", "-").replace(".", "-").lower() for name in UNTRUSTED}
    folder = credentials(stage, ca_crt=authority.certificate)
    members = fleet(stage, names.values())
    for name, short in names.items():
        context = UNTRUSTED[name](authority, good, stage.folder)
        members[short].backend.present(context)
    log = stage.log()
    log.write(50)
    sidecar = stage.started(
        backends=as_config(members, credentials={"dir": str(folder)}),
        limits={"request_seconds": 3},
    )
    for name, short in names.items():
        eventually(lambda m=members[short]: m.backend.connections >= 3, name)  # type: ignore[misc] # a lambda with a default
        assert members[short].backend.bytes_received == 0, name
    assert sidecar.metric("sidetail_lines_dropped_total") == 0
    for member in members.values():
        member.backend.present(good.server(stage.folder))
    for member in members.values():
        stage.settle(member.judge)
        member.judge.verdict().assert_exact()


def test_t20_https_is_never_lowered_to_http(stage: Stage, authority: Authority):
    folder = credentials(stage, ca_crt=authority.certificate)
    stage.log().write(5)
    url = stage.backend.url.replace("http:", "https:")
    stage.started(backend={"url": url, "credentials": {"dir": str(folder)}})
    eventually(lambda: stage.backend.connections >= 3)

    # What came is a ClientHello that is no HTTP, and nothing of a line.
    assert stage.backend.requests == []


def test_s12_a_ca_that_is_replaced_on_disk_is_read_without_a_restart(
    stage: Stage, authority: Authority
):
    new = Authority()
    folder = credentials(stage, ca_crt=authority.certificate)
    stage.backend.present(authority.issue("127.0.0.1").server(stage.folder))
    log = stage.log()
    log.write(20)
    sidecar = stage.started(
        backend={"url": f"{stage.backend.url}/in", "credentials": {"dir": str(folder)}}
    )
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    # The backend's certificate comes from another CA now; its old connections are gone.
    stage.backend.present(new.issue("127.0.0.1").server(stage.folder))
    stage.backend.cut()
    before = stage.backend.bytes_received
    refused = stage.backend.connections
    log.write(20)
    eventually(lambda: stage.backend.connections >= refused + 2)
    assert stage.backend.bytes_received == before
    credentials(stage, ca_crt=new.certificate)

    stage.verdict().assert_exact()


def test_s12_a_client_certificate_that_is_renewed_on_disk_is_used(
    stage: Stage, authority: Authority
):
    clients = Authority("clients")
    strangers = Authority("strangers")
    wrong = strangers.issue("sidecar", client=True)
    folder = credentials(
        stage, ca_crt=authority.certificate, tls_crt=wrong.certificate, tls_key=wrong.key
    )
    context = authority.issue("127.0.0.1").server(stage.folder, client_ca=clients.certificate)
    stage.backend.present(context)
    log = stage.log()
    log.write(20)
    sidecar = stage.started(
        backend={"url": f"{stage.backend.url}/in", "credentials": {"dir": str(folder)}}
    )
    eventually(lambda: stage.backend.connections >= 3)
    assert stage.backend.bytes_received == 0
    right = clients.issue("sidecar", client=True)
    credentials(stage, tls_crt=right.certificate, tls_key=right.key)

    stage.verdict().assert_exact()
    assert b"PRIVATE KEY" not in sidecar.stderr


@pytest.mark.parametrize(
    "broken",
    [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "garbage", "broken"],
)
def test_s12_a_ca_file_that_cannot_be_used_holds_and_never_falls_back(
    stage: Stage, authority: Authority, broken: bytes
):
    folder = credentials(stage, ca_crt=broken)
    stage.backend.present(authority.issue("127.0.0.1").server(stage.folder))
    stage.log().write(20)
    sidecar = stage.started(
        backend={"url": f"{stage.backend.url}/in", "credentials": {"dir": str(folder)}}
    )
    eventually(lambda: sidecar.metric("sidetail_retries_total") >= 2)
    assert stage.backend.bytes_received == 0
    credentials(stage, ca_crt=authority.certificate)

    stage.verdict().assert_exact()


def test_a_missing_secret_holds_and_is_said_once_a_minute(stage: Stage):
    folder = stage.folder / "credentials"
    stage.backend.answers(lambda request: OK if request.header("authorization") else status(401))
    stage.log().write(20)
    sidecar = stage.started(backend={"credentials": {"dir": str(folder)}})
    eventually(lambda: sidecar.metric("sidetail_retries_total") >= 2)
    assert stage.backend.stored == []
    said = len([line for line in sidecar.log if line["level"] in {"error", "warning"}])
    credentials(stage, token=b"now it is there")

    stage.verdict().assert_exact()
    assert 1 <= said <= 3, sidecar.tail()
