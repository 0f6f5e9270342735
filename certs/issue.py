"""A CA and serving certificates: times, keys and serial numbers come in, PEM goes out. Pure.

Everything is ECDSA on P-256 with SHA-256, which each TLS library that an API server was ever
built with can verify.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW = timedelta(hours=1)
"""A certificate begins this long before it was made: the API server's clock may be behind ours."""

CA_LIFE = timedelta(days=3652)
"""Ten years."""

LEAF_LIFE = timedelta(days=7)


class Randomness(Protocol):
    """Where keys, serial numbers and jitter come from: the system's, or a test's."""

    def key(self) -> ec.EllipticCurvePrivateKey:
        """Return a new private key on P-256."""
        ...

    def serial(self) -> int:
        """Return a new serial number, more than 0 and less than 2**159."""
        ...

    def fraction(self) -> float:
        """Return a number from 0 to 1, without 1."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: bytes
    """PEM, one certificate."""
    key: bytes = field(repr=False)
    """PEM, PKCS #8, not encrypted."""


def service_names(service: str, namespace: str, domain: str = "cluster.local") -> tuple[str, ...]:
    """Return the names by which a Service is called; the API server uses the third."""
    return (
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.{domain}",
    )


def issue_ca(*, now: datetime, random: Randomness, life: timedelta = CA_LIFE) -> Pair:
    """Return a new CA, valid from an hour before `now` until `life` after it.

    Its name holds its serial number: two CAs in one bundle are told apart by name too.
    """
    key, serial = random.key(), random.serial()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sidetail CA {serial:x}")])
    builder = (
        _validity(now - CLOCK_SKEW, now + life)
        .subject_name(name)
        .issuer_name(name)
        .serial_number(serial)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue_leaf(
    authority: Pair,
    names: Sequence[str],
    *,
    now: datetime,
    random: Randomness,
    life: timedelta = LEAF_LIFE,
) -> Pair:
    """Return a serving certificate for `names` (DNS names or IP addresses), signed by `authority`.

    It is valid from an hour before `now` until `life` after it, and never outside the CA's own
    time: a verifier refuses the chain as soon as one of its two certificates has expired.

    Raises:
        ValueError: `authority` is not a CA with its key, or a name is no DNS name.
    """
    ca = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = _signing_key(authority.key)
    key = random.key()
    builder = (
        _validity(
            max(now - CLOCK_SKEW, ca.not_valid_before_utc), min(now + life, ca.not_valid_after_utc)
        )
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sidetail webhook")]))
        .issuer_name(ca.subject)
        .serial_number(random.serial())
        .public_key(key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
            critical=False,
        )
    )
    return _pair(builder.sign(ca_key, hashes.SHA256()), key)


def _validity(begin: datetime, end: datetime) -> x509.CertificateBuilder:
    # X.509 times have whole seconds; cut here so that what is read back equals what was asked.
    return (
        x509.CertificateBuilder()
        .not_valid_before(begin.replace(microsecond=0))
        .not_valid_after(end.replace(microsecond=0))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def general_name(name: str) -> x509.GeneralName:
    """Return `name` as a SAN holds it: an IP address, else a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _signing_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the CA's key: got another kind, expected an elliptic-curve key")  # noqa: TRY004 - the value, not the caller's type, is wrong
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
