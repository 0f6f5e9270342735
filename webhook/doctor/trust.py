"""Are the webhooks registered, and does the API server believe the certificate that is served?"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certs.keep import Place as CertificatePlace
from runtime.kube import Json
from webhook.doctor.findings import Finding, broken, odd, ok
from webhook.doctor.installed import APPLY, WEBHOOK
from webhook.doctor.sight import Sight

ENTRIES = {
    "mutating": ("labelled-namespaces.sidetail.dev", "labelled-pods.sidetail.dev"),
    "validating": ("workloads.sidetail.dev",),
}
"""The entries in `webhooks[]` of the two configurations."""
PATHS = {"mutating": "/mutate", "validating": "/validate"}
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations/{}"
_ENDING = timedelta(hours=36)
"""A leaf of ours is renewed with two to three days left."""
_MEND_BUNDLE = (
    "a replica that runs writes it within 30 s: see its log and its rights; or run python -m certs"
    " (docs/certificates.md)"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of ours as the API server has it."""

    kind: str
    """`mutating` or `validating`."""
    name: str
    raw: Json

    @property
    def authorities(self) -> list[x509.Certificate]:
        """The CAs of `clientConfig.caBundle`; none where it holds nothing that can be read."""
        bundle = (self.raw.get("clientConfig") or {}).get("caBundle")
        try:
            return _certificates(base64.b64decode(bundle or "", validate=True))
        except (TypeError, ValueError, binascii.Error):
            return []


def check_webhooks(sight: Sight) -> Iterator[Finding]:
    """Are both configurations there, with each entry, and do they lead to our Service?"""
    found = {kind: _entries(sight, kind) for kind in ENTRIES}
    if sight.is_absent:
        yield from _left_over([kind for kind, entries in found.items() if entries is not None])
        return
    good: list[Entry] = []
    for kind, entries in found.items():
        if entries is None:
            what = "no pod is injected" if kind == "mutating" else "nobody is warned of mistakes"
            yield broken(f"there is no {kind} webhook configuration: {what}", APPLY)
            continue
        by_name = {one.name: one for one in entries}
        for name in ENTRIES[kind]:
            fault = _fault(by_name.get(name), kind, sight.place.system)
            if fault is not None:
                yield broken(f"{kind} entry {name} {fault}", APPLY)
            else:
                good.append(by_name[name])
    yield from _policies(good)


def _left_over(kinds: Sequence[str]) -> Iterator[Finding]:
    """Say what an installation that is gone has left: calls that can only fail."""
    remedy = "kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration sidetail"
    for kind in kinds:
        yield broken(f"the {kind} webhook configuration is left over", remedy)
    if not kinds:
        yield ok("nothing is left over")


def _policies(good: Sequence[Entry]) -> Iterator[Finding]:
    if not good:
        return
    closed = [one.name for one in good if one.raw.get("failurePolicy") == "Fail"]
    how = "pods wait while no replica answers" if closed else "pods start while no replica answers"
    yield ok(f"{len(good)} of {sum(map(len, ENTRIES.values()))} entries lead to {WEBHOOK}; {how}")


def _fault(entry: Entry | None, kind: str, namespace: str) -> str | None:
    """Return what is wrong with an entry, None for nothing."""
    if entry is None:
        return "is not there"
    client = entry.raw.get("clientConfig") or {}
    if "url" in client:
        return None  # somebody's own way, which cannot be judged from here
    service = client.get("service") or {}
    leads_to = (service.get("namespace"), service.get("name"), service.get("path"))
    wanted = (namespace, WEBHOOK, PATHS[kind])
    if leads_to != wanted:
        return f"leads to {leads_to}, expected {wanted}"
    if kind == "mutating" and not any(
        _is_about_new_pods(one) for one in entry.raw.get("rules") or ()
    ):
        return "is not asked about new pods: its rules were changed"
    return None


def _is_about_new_pods(rule: Json) -> bool:
    operations, resources = rule.get("operations") or (), rule.get("resources") or ()
    return ("CREATE" in operations or "*" in operations) and (
        "pods" in resources or "*" in resources
    )


def check_certificate(sight: Sight) -> Iterator[Finding]:
    """Does every entry trust a certificate that is valid now and made for our Service?"""
    entries = [one for kind in ENTRIES for one in _entries(sight, kind) or ()]
    for entry in entries:
        yield from _check_bundle(entry, sight.now)
    name = _secret_name(sight)
    secret = sight.find(sight.system("/api/v1", "secrets", name))
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
        if entry.authorities and not _is_trusted(chain, entry.authorities, sight.now):
            text = f"caBundle of {entry.name} does not hold the CA of the serving certificate"
            yield broken(text, _MEND_BUNDLE)


def _check_bundle(entry: Entry, now: datetime) -> Iterator[Finding]:
    authorities = entry.authorities
    if "url" in (entry.raw.get("clientConfig") or {}) and not authorities:
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


def _entries(sight: Sight, kind: str) -> list[Entry] | None:
    """Return our entries; None where the configuration is not there."""
    found = sight.find(_CONFIGURATIONS.format(kind, CertificatePlace().configurations))
    if found is None:
        return None
    rows = [Entry(kind, str(row.get("name")), row) for row in found.get("webhooks") or ()]
    return [one for one in rows if one.name in ENTRIES[kind]]


def _secret_name(sight: Sight) -> str:
    """Return which Secret the replicas serve from: a mounted one, else that which they keep."""
    deployment = sight.find(sight.system("/apis/apps/v1", "deployments", WEBHOOK)) or {}
    spec = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    mounted = [
        volume["secret"].get("secretName")
        for volume in spec.get("volumes") or ()
        if volume.get("name") == "certificates" and volume.get("secret")
    ]
    return str(mounted[0]) if mounted else CertificatePlace().secret


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
