"""What the tests of whole backends stand on: certificates, and a sidecar with a folder of logs."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.issue import Pair, issue_ca, issue_leaf
from certs.system import SystemRandomness
from tests.fakes.backend import Backend
from tests.integration.backends.scene import Scene


@dataclass(frozen=True, slots=True)
class Trust:
    """A CA, a serving certificate for 127.0.0.1, and a client's pair, as files."""

    authority: Pair
    folder: Path

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """The server's key."""
        return self.folder / "server.key"

    def server(self, *, asks_client: bool = False) -> ssl.SSLContext:
        """Return a server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if asks_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def secret(self, folder: Path, **files: str) -> str:
        """Make a credentials folder that knows the CA; return its path."""
        folder.mkdir()
        (folder / "ca.crt").write_bytes(self.authority.certificate)
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)
        return str(folder)

    def client_secret(self, folder: Path) -> str:
        """Make a credentials folder with a client's certificate; return its path."""
        certificate, key = _client_pair(self.authority)
        return self.secret(folder, tls_crt=certificate, tls_key=key)


def _client_pair(authority: Pair) -> tuple[str, str]:
    ca = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = serialization.load_pem_private_key(authority.key, password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a sidecar")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=2))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


def make_trust(folder: Path, *names: str) -> Trust:
    """Return a CA and a server's certificate for `names`."""
    now = datetime.now(UTC)
    authority = issue_ca(now=now - timedelta(days=1), random=SystemRandomness())
    leaf = issue_leaf(authority, names, now=now, random=SystemRandomness(), life=timedelta(hours=2))
    (folder / "ca.crt").write_bytes(authority.certificate)
    (folder / "server.crt").write_bytes(leaf.certificate)
    (folder / "server.key").write_bytes(leaf.key)
    return Trust(authority, folder)


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """Certificates that fit."""
    return make_trust(tmp_path_factory.mktemp("trust"), "127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def other_trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """Certificates of somebody else."""
    return make_trust(tmp_path_factory.mktemp("other"), "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Backend]:
    """An HTTP server that answers as it is told."""
    with Backend() as one:
        yield one


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A folder of logs and a sidecar."""
    made = Scene(tmp_path.resolve())
    try:
        yield made
    finally:
        made.close()
