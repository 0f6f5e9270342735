"""The certificates that are kept in the Secret: its data come in, what can be trusted goes out.

Whatever cannot be read, does not belong together or is not what its place asks for is left out as
if it were not there: a Secret that was emptied, half written or filled with garbage is a keyring
with holes, and `certs.rotation` fills holes. Times are not looked at here. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.issue import Pair, general_name

KEYS = ("tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.crt", "next-ca.key", "previous.crt")
"""The keys of the Secret that are ours; others in it are left alone."""

_UNREADABLE = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises on bytes that are no certificate, no key, or not ones of ours."""

_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign."""

    pair: Pair
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Leaf:
    """A serving certificate that one of the keyring's CAs signed, for the names asked for."""

    pair: Pair
    issuer: bytes
    """PEM of the CA that signed it."""
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class Retired:
    """A CA that signs no more, kept in the bundle until the last leaf that it signed has ended."""

    certificate: bytes
    last_leaf: bytes
    """PEM of that leaf's certificate."""
    ends: datetime
    """When that leaf ends, or the CA itself if that is sooner."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """Everything the Secret holds that can be trusted; a hole is None."""

    authority: Authority | None = None
    """The CA that signs."""
    leaf: Leaf | None = None
    """What is served."""
    coming: Authority | None = None
    """The CA that will sign next: in the bundle, but not yet used."""
    retired: tuple[Retired, ...] = ()

    @property
    def bundle(self) -> bytes:
        """The CAs that the API server has to know, as `caBundle` holds them: PEM, no leaf."""
        signing = [one.pair.certificate for one in (self.authority, self.coming) if one is not None]
        return b"".join(dict.fromkeys([*signing, *(one.certificate for one in self.retired)]))


def read_keyring(data: Mapping[str, bytes], names: Sequence[str]) -> Keyring:
    """Return what of the Secret's `data` can be trusted to serve `names`."""
    authority, coming = _authority(data, "ca"), _authority(data, "next-ca")
    retired = _retired(data.get("previous.crt", b""))
    first = _certificate(data.get("ca.crt", b""))
    first = first if first is not None and _is_authority(first) else None
    issuers = [*([first] if first is not None else []), *(_load(one) for one in retired)]
    leaf = _leaf(data, names, issuers)
    if authority is None and leaf is not None and first is not None and leaf.issuer == _pem(first):
        # The CA's key is lost: it signs no more, but what it signed is good until it ends.
        retired = (retire(leaf), *retired)
    return Keyring(authority=authority, leaf=leaf, coming=coming, retired=retired)


def secret_data(keyring: Keyring) -> dict[str, bytes]:
    """Return what `read_keyring` reads back as `keyring`."""
    data: dict[str, bytes] = {}
    for prefix, pair in (
        ("tls", keyring.leaf.pair if keyring.leaf else None),
        ("ca", keyring.authority.pair if keyring.authority else None),
        ("next-ca", keyring.coming.pair if keyring.coming else None),
    ):
        if pair is not None:
            data[f"{prefix}.crt"] = pair.certificate
            data[f"{prefix}.key"] = pair.key
    if keyring.retired:
        data["previous.crt"] = b"".join(one.certificate + one.last_leaf for one in keyring.retired)
    return data


def authority_of(pair: Pair) -> Authority:
    """Return a pair that `issue_ca` made, with its times."""
    ca = x509.load_pem_x509_certificate(pair.certificate)
    return Authority(pair=pair, begins=ca.not_valid_before_utc, ends=ca.not_valid_after_utc)


def leaf_of(pair: Pair, authority: Authority) -> Leaf:
    """Return a pair that `issue_leaf` made with `authority`, with its times."""
    leaf = x509.load_pem_x509_certificate(pair.certificate)
    return Leaf(
        pair=pair,
        issuer=authority.pair.certificate,
        begins=leaf.not_valid_before_utc,
        ends=leaf.not_valid_after_utc,
    )


def retire(leaf: Leaf) -> Retired:
    """Return the CA that signed `leaf` as one whose last leaf this was."""
    ca = x509.load_pem_x509_certificate(leaf.issuer)
    return Retired(
        certificate=leaf.issuer,
        last_leaf=leaf.pair.certificate,
        ends=min(leaf.ends, ca.not_valid_after_utc),
    )


def _authority(data: Mapping[str, bytes], prefix: str) -> Authority | None:
    found = _pair(data, prefix)
    return authority_of(found[1]) if found is not None and _is_authority(found[0]) else None


def _leaf(
    data: Mapping[str, bytes], names: Sequence[str], issuers: Sequence[x509.Certificate]
) -> Leaf | None:
    found = _pair(data, "tls")
    if found is None or not _serves(found[0], names):
        return None
    certificate, pair = found
    for issuer in issuers:
        if _signed(certificate, issuer):
            return Leaf(
                pair=pair,
                issuer=_pem(issuer),
                begins=certificate.not_valid_before_utc,
                ends=certificate.not_valid_after_utc,
            )
    return None


def _retired(pem: bytes) -> tuple[Retired, ...]:
    found = [_certificate(match[0]) for match in _PEM_CERTIFICATE.finditer(pem)]
    certificates = [one for one in found if one is not None]
    retired: list[Retired] = []
    for ca in filter(_is_authority, certificates):
        leaves = [one for one in certificates if not _may_sign(one) and _signed(one, ca)]
        if leaves:
            last = max(leaves, key=lambda one: one.not_valid_after_utc)
            ends = min(last.not_valid_after_utc, ca.not_valid_after_utc)
            retired.append(Retired(certificate=_pem(ca), last_leaf=_pem(last), ends=ends))
    return tuple(retired)


def _pair(data: Mapping[str, bytes], prefix: str) -> tuple[x509.Certificate, Pair] | None:
    """Return the pair at `prefix`, if it is a certificate and the EC key that belongs to it."""
    certificate = _certificate(data.get(f"{prefix}.crt", b""))
    pem = data.get(f"{prefix}.key", b"")
    if certificate is None:
        return None
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            return None
        if key.public_key() != certificate.public_key():
            return None
    except _UNREADABLE:
        return None
    return certificate, Pair(certificate=_pem(certificate), key=pem)


def _certificate(pem: bytes) -> x509.Certificate | None:
    """Return the first certificate of `pem`, if it can be read whole."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # Read lazily by the library: let what is broken in it show here and not later.
        _ = (certificate.extensions, certificate.not_valid_before_utc, certificate.public_key())
        _ = (certificate.not_valid_after_utc, certificate.signature_hash_algorithm)
    except _UNREADABLE:
        return None
    return certificate


def _load(retired: Retired) -> x509.Certificate:
    return x509.load_pem_x509_certificate(retired.certificate)


def _is_authority(certificate: x509.Certificate) -> bool:
    """Return whether it may sign, and is whole: its own signature is its checksum."""
    return _may_sign(certificate) and _signed(certificate, certificate)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca and usage.value.key_cert_sign


def _serves(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    asked = {general_name(name) for name in names}
    return (
        asked <= set(held)
        and ExtendedKeyUsageOID.SERVER_AUTH in purposes
        and not _may_sign(certificate)
    )


def _signed(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except _UNREADABLE:
        return False
    return True


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
