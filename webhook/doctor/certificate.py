"""Does the API server believe the certificate that is served?"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.keep import Place as CertificatePlace
from runtime.kube import Json, KubeError
from webhook.doctor.findings import Finding, broken, odd, ok, unseen
from webhook.doctor.installed import WEBHOOK
from webhook.doctor.registration import ENTRIES, Entry, entries_of
from webhook.doctor.sight import Sight

_ENDING = timedelta(hours=36)
"""A leaf of ours is renewed with two to three days left."""
_MEND_BUNDLE = (
    "a replica that runs writes it within 30 s: see its log and its rights; or run python -m certs"
    " (docs/certificates.md)"
)


def check_certificate(sight: Sight) -> Iterator[Finding]:
    """Does every entry trust a certificate that is valid now and made for our Service?"""
    entries = [one for kind in ENTRIES for one in entries_of(sight, kind) or ()]
    for entry in entries:
        yield from _check_bundle(entry, sight.now)
    deployment = _deployment(sight)
    name = _secret_name(deployment or {})
    secret = sight.find(sight.system("/api/v1", "secrets", name))
    if secret is None and deployment is None:
        yield unseen(f"not allowed to look at Deployment {WEBHOOK}, which names the Secret")
        return
    if secret is None:
        yield broken(f"there is no Secret {name} with the serving certificate", _MEND_BUNDLE)
        return
    # The rest of the Secret is keys, and nobody's business here.
    chain = _chain((secret.get("data") or {}).get("tls.crt"))
    if not chain:
        yield broken(f"Secret {name} holds no serving certificate in tls.crt", _MEND_BUNDLE)
        return
    yield from _check_leaf(chain[0], name, sight)
    for entry in entries:
        authorities = _authorities(entry)
        if authorities and not _is_trusted(chain, authorities, sight.now):
            text = f"caBundle of {entry.name} does not hold the CA of the serving certificate"
            yield broken(text, _MEND_BUNDLE)


def _check_bundle(entry: Entry, now: datetime) -> Iterator[Finding]:
    authorities = _authorities(entry)
    if "url" in entry.client and not authorities:
        return  # the API server's own CAs may be meant
    if not authorities:
        text = f"caBundle of {entry.name} is empty: the API server believes nobody"
        yield broken(text, _MEND_BUNDLE)
    elif all(one.not_valid_after_utc <= now for one in authorities):
        yield broken(f"every CA in caBundle of {entry.name} has expired", _MEND_BUNDLE)


def _check_leaf(leaf: x509.Certificate, secret: str, sight: Sight) -> Iterator[Finding]:
    host = f"{WEBHOOK}.{sight.place.system}.svc"
    ends = leaf.not_valid_after_utc
    if not leaf.not_valid_before_utc <= sight.now < ends:
        text = f"the certificate in Secret {secret} is not valid now: until {ends:%Y-%m-%d %H:%M}Z"
        yield broken(text, _MEND_BUNDLE)
    elif host not in _names(leaf):
        yield broken(f"the certificate in Secret {secret} is not for {host}", _MEND_BUNDLE)
    elif ends - sight.now < _ENDING:
        text = f"the serving certificate ends {ends:%Y-%m-%d %H:%M}Z and was not renewed"
        yield odd(text, _MEND_BUNDLE)
    else:
        yield ok(f"valid until {ends:%Y-%m-%d %H:%M}Z, for {host}")


def _deployment(sight: Sight) -> Json | None:
    """Return the Deployment, empty where there is none; None where it cannot be seen."""
    try:
        return sight.find(sight.system("/apis/apps/v1", "deployments", WEBHOOK)) or {}
    except KubeError:
        return None


def _secret_name(deployment: Json) -> str:
    """Return which Secret the replicas serve from: a mounted one, else that which they keep."""
    spec = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    mounted = [
        volume["secret"].get("secretName")
        for volume in spec.get("volumes") or ()
        if volume.get("name") == "certificates" and volume.get("secret")
    ]
    return str(mounted[0]) if mounted else CertificatePlace().secret


def _authorities(entry: Entry) -> list[x509.Certificate]:
    """Return the CAs of `caBundle`; none where it holds nothing that can be read."""
    return _chain(entry.client.get("caBundle"))


def _chain(encoded: object) -> list[x509.Certificate]:
    try:
        return _certificates(base64.b64decode(encoded)) if isinstance(encoded, str) else []
    except (ValueError, binascii.Error):
        return []


def _certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem) if pem.strip() else []


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _is_trusted(
    chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime
) -> bool:
    """Return whether the chain, leaf first, ends in one of the CAs that is valid now."""
    leaf, *between = chain
    for issuer in authorities:
        if issuer.not_valid_after_utc > now and (_issued(leaf, issuer) or leaf == issuer):
            return True
    rest = [one for one in between if _issued(leaf, one)]
    return any(
        _is_trusted([one, *(other for other in between if other is not one)], authorities, now)
        for one in rest
    )


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
