"""`python -m certs`, as a person runs it."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.__main__ import main


def issued(folder: Path, *more: str) -> int:
    return main(["issue", "--dir", str(folder), "--dns", "localhost", "127.0.0.1", *more], {})


def test_the_three_files_are_there_and_nobody_else_may_read_them(tmp_path: Path) -> None:
    assert issued(tmp_path / "new" / "folder") == 0

    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["ca.crt", "tls.crt", "tls.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_tls_server_takes_the_pair_and_a_client_the_ca(tmp_path: Path) -> None:
    issued(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT

    assert handshake(client, server, "localhost") == "TLSv1.3"
    assert handshake(client, server, "127.0.0.1") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, "example.com")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str | None:
    """Return the protocol that both agree on, in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    open_ends = [near, far]
    for _ in range(10):
        for end in list(open_ends):
            try:
                end.do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not open_ends
    return near.version()


def test_a_second_issue_replaces_the_first_whole(tmp_path: Path) -> None:
    issued(tmp_path)
    first = (tmp_path / "tls.crt").read_bytes()
    issued(tmp_path)

    assert (tmp_path / "tls.crt").read_bytes() != first
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("days", "seconds"), [("1", 86_400), ("3652", 3652 * 86_400)])
def test_certificates_live_as_many_days_as_asked(tmp_path: Path, days: str, seconds: int) -> None:
    issued(tmp_path, "--days", days)

    leaf = x509.load_pem_x509_certificate((tmp_path / "tls.crt").read_bytes())
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    assert abs(left - timedelta(seconds=seconds)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    "names",
    [
        ["a b"],
        ["a/b"],
        [""],
        ["ä.example"],
        ["a" * 64 + ".example"],
        ["a-"],
        ["x." * 127 + "toolong"],
    ],
)
def test_what_is_no_name_is_refused_with_what_one_is(
    tmp_path: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["issue", "--dir", str(tmp_path), "--dns", *names], {})

    assert ended.value.code == 2
    assert "expected a DNS name or an IP address" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("days", ["0", "-1", "3653", "x", "1.5", "٣"])
def test_days_are_a_whole_number_in_range(tmp_path: Path, days: str) -> None:
    with pytest.raises(SystemExit) as ended:
        issued(tmp_path, "--days", days)

    assert ended.value.code == 2


def test_a_folder_that_cannot_be_made_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert issued(tmp_path / "file" / "below") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    assert issued(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_way_to_an_api_server_it_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none"

    assert main(["--kubeconfig", str(missing)], {}) == 2
    assert str(missing) in capsys.readouterr().err
