"""Which namespaces have the label, and is what stands on them what it was meant to be?"""

from collections.abc import Iterator

from contract.annotations import INJECT_LABEL, KEYS, PREFIX
from contract.names import EXCLUDED_NAMESPACES
from contract.reasons import BY_CODE
from webhook.cluster import ClusterFacts, Namespace
from webhook.doctor.findings import Finding, broken, counted, odd, ok
from webhook.doctor.reasons import known_reasons, worded_reason
from webhook.doctor.sight import Sight
from webhook.eligibility import odd_keys
from webhook.mutate import admit_pod
from webhook.pod import read_pod
from webhook.settings import DEFAULT_CONFIG

_POD = {
    "metadata": {"labels": {INJECT_LABEL: "true"}},
    "spec": {"containers": [{"name": "app", "image": "app", "command": ["/app"]}]},
}
"""Stands for any pod of a namespace."""


def check_namespaces(sight: Sight) -> Iterator[Finding]:
    """Does any namespace have the label, and does each that speaks of us do so rightly?"""
    namespaces = sight.namespaces
    if sight.place.namespace and not namespaces:
        yield broken(
            f"there is no namespace {sight.place.namespace}", "kubectl get namespaces lists them"
        )
        return
    enabled = sorted(name for name, one in namespaces.items() if _is_enabled(name, one))
    for name, namespace in sorted(namespaces.items()):
        yield from _check(name, namespace, sight)
    if enabled:
        yield ok(
            f"{counted(len(enabled), 'namespace')} with label {INJECT_LABEL}=enabled",
            [", ".join(enabled)],
        )
    else:
        which = sight.place.namespace or "NAME"
        yield odd(
            f"no namespace has the label {INJECT_LABEL}=enabled",
            f"kubectl label namespace {which} {INJECT_LABEL}=enabled",
        )


def _is_enabled(name: str, namespace: Namespace) -> bool:
    return namespace.labels.get(INJECT_LABEL) == "enabled" and name not in EXCLUDED_NAMESPACES


def _check(name: str, namespace: Namespace, sight: Sight) -> Iterator[Finding]:
    speaks = any(key.startswith(PREFIX) for key in (*namespace.labels, *namespace.annotations))
    if not speaks:
        return
    if name in EXCLUDED_NAMESPACES:
        yield odd(f"{name}: its pods are never injected, whatever stands on it")
        return
    yield from _check_label(name, namespace)
    for text in odd_keys(read_pod(_POD, name), namespace):
        yield odd(f"{name}: {text}", "docs/annotations.md lists all keys")
    yield from _check_values(name, namespace, sight)


def _check_label(name: str, namespace: Namespace) -> Iterator[Finding]:
    value = namespace.labels.get(INJECT_LABEL)
    relabel = f"kubectl label --overwrite namespace {name} {INJECT_LABEL}=enabled"
    if value not in (None, "enabled", "disabled", "false"):
        yield odd(f"{name}: label {INJECT_LABEL} is {value!r}, expected 'enabled'", relabel)
    elif value is None and any(key in namespace.annotations for key in KEYS):
        yield odd(f"{name}: it has annotations of ours, and not the label {INJECT_LABEL}", relabel)


def _check_values(name: str, namespace: Namespace, sight: Sight) -> Iterator[Finding]:
    """Admit a pod that sets nothing itself: what is left out is the namespace's fault."""
    if not any(key in namespace.annotations for key in KEYS):
        return
    facts = ClusterFacts(namespaces={name: namespace})
    admission = admit_pod(_POD, name, settings=sight.config or DEFAULT_CONFIG, facts=facts)
    for row in known_reasons(admission.left_out, sight.config):
        if "key" in row and row["key"] in namespace.annotations:
            yield odd(f"{name}: {worded_reason(row)}", BY_CODE[row["reason"]].remedy)
