"""Are the webhooks registered, each entry of them, and do they lead to our Service?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from certs.keep import Place as CertificatePlace
from runtime.kube import Json
from webhook.doctor.findings import Finding, broken, ok
from webhook.doctor.installed import APPLY, WEBHOOK
from webhook.doctor.sight import Sight

ENTRIES = {
    "mutating": ("labelled-namespaces.sidetail.dev", "labelled-pods.sidetail.dev"),
    "validating": ("workloads.sidetail.dev",),
}
"""The entries in `webhooks[]` of the two configurations."""
PATHS = {"mutating": "/mutate", "validating": "/validate"}
_CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations/{}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of ours as the API server has it."""

    kind: str
    """`mutating` or `validating`."""
    name: str
    raw: Json

    @property
    def client(self) -> Json:
        """How the webhook is called: `clientConfig`."""
        return self.raw.get("clientConfig") or {}


def entries_of(sight: Sight, kind: str) -> list[Entry] | None:
    """Return our entries; None where the configuration is not there."""
    found = sight.find(_CONFIGURATIONS.format(kind, CertificatePlace().configurations))
    if found is None:
        return None
    rows = [Entry(kind, str(row.get("name")), row) for row in found.get("webhooks") or ()]
    return [one for one in rows if one.name in ENTRIES[kind]]


def check_webhooks(sight: Sight) -> Iterator[Finding]:
    """Are both configurations there, with each entry, and do they lead to our Service?"""
    found = {kind: entries_of(sight, kind) for kind in ENTRIES}
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
    if "url" in entry.client:
        return None  # somebody's own way, which cannot be judged from here
    service = entry.client.get("service") or {}
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
