"""Which workloads ask, by the engine of the webhook itself, and are not collected, and why?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contract.annotations import INJECT_LABEL, KEYS, PREFIX
from contract.names import EXCLUDED_NAMESPACES
from contract.reasons import NOTHING_ASKED
from runtime.kube import Json
from webhook.admission import Admission
from webhook.doctor.findings import Finding, Level, broken, counted, odd, ok
from webhook.doctor.reasons import known_reasons, remedy_for, worded_reason
from webhook.doctor.sight import Sight
from webhook.inject import find_pods
from webhook.mutate import admit_pod
from webhook.settings import DEFAULT_CONFIG
from webhook.validate import WORKLOADS, is_controlled


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload and the pod that its controller would create."""

    title: str
    """Such as `Deployment shop/orders`."""
    kind: str
    namespace: str
    metadata: Json
    pod: dict[str, Any]


def check_workloads(sight: Sight) -> Iterator[Finding]:
    """Would the pods of each workload that asks be injected, with all that it asks for?"""
    asking = 0
    for workload in _workloads(sight):
        admission = _admit(workload, sight)
        finding = _judge(workload, admission, sight)
        asking += admission.outcome != "none" or finding is not None
        if finding is not None:
            yield finding
    yield ok(f"{counted(asking, 'workload')} with something asked for")


def _workloads(sight: Sight) -> Iterator[Workload]:
    for (group, resource), (kind, _) in WORKLOADS.items():
        for item in sight.each(f"/apis/{group}/v1", resource):
            if _is_looked_at(item):
                document = {**item, "kind": kind, "apiVersion": f"{group}/v1"}
                for found in find_pods([document], "default"):
                    pod = _with_claims(found.pod, item)
                    yield Workload(found.title, kind, found.namespace, item["metadata"], pod)


def _is_looked_at(item: Json) -> bool:
    """Return whether it stands for itself, and will make pods."""
    metadata = item["metadata"]
    is_over = bool((item.get("status") or {}).get("completionTime"))
    excluded = metadata.get("namespace") in EXCLUDED_NAMESPACES
    return not (is_controlled(metadata) or is_over or excluded or metadata.get("deletionTimestamp"))


def _with_claims(pod: dict[str, Any], item: Json) -> dict[str, Any]:
    """Return the pod with the volumes that a StatefulSet makes for it."""
    claims = (item.get("spec") or {}).get("volumeClaimTemplates") or ()
    names = [claim["metadata"]["name"] for claim in claims]
    made = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    spec = pod.get("spec") or {}
    return {**pod, "spec": {**spec, "volumes": [*(spec.get("volumes") or ()), *made]}}


def _admit(workload: Workload, sight: Sight) -> Admission:
    settings = sight.config or DEFAULT_CONFIG
    return admit_pod(workload.pod, workload.namespace, settings=settings, facts=sight.facts)


def _judge(workload: Workload, admission: Admission, sight: Sight) -> Finding | None:
    if admission.skip == "not-enabled" and _asks(workload.pod):
        label = f"kubectl label namespace {workload.namespace} {INJECT_LABEL}=enabled"
        text = f"{workload.title}: nothing is collected, as its namespace lacks the label"
        return broken(text, f"{label}; or label its pod template {INJECT_LABEL}=true")
    rows = known_reasons(admission.left_out, sight.config)
    if rows:
        nothing = admission.outcome == "skipped"
        harmless = all(row["reason"] == NOTHING_ASKED for row in rows)
        level = Level.BROKEN if nothing and not harmless else Level.ODD
        what = "nothing is collected" if nothing else "not all is collected"
        details = tuple(worded_reason(row) for row in rows)
        return Finding(level, f"{workload.title}: {what}", details, remedy_for(rows))
    return _misplaced(workload, admission)


def _misplaced(workload: Workload, admission: Admission) -> Finding | None:
    """Return what to say of keys of ours that stand on the workload, where they do nothing."""
    keys = sorted(key for key in _marks(workload.metadata) if key.startswith(PREFIX))
    if not keys:
        return None
    text = f"{workload.title}: {', '.join(keys[:3])} stand on the {workload.kind} and do nothing"
    remedy = "write them under the pod template's metadata"
    return broken(text, remedy) if admission.outcome == "none" else odd(text, remedy)


def _marks(metadata: Json) -> Mapping[str, Any]:
    return {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}


def _asks(pod: Json) -> bool:
    metadata = pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    return any(key in annotations for key in KEYS)
