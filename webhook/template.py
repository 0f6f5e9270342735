"""The review of a workload's pod template: what `POST /validate` tells who applies it.

In: the template. Out: findings, by the same steps that admit its pods later; a pod's own warnings
go to the controller that creates it, where nobody reads them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contract.annotations import KEYS
from webhook.cluster import ClusterFacts
from webhook.eligibility import decide, odd_keys
from webhook.faults import worded
from webhook.mutate import work_out
from webhook.pod import MalformedPodError, Pod, read_pod
from webhook.settings import OperatorConfig


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell the person who applies a workload."""

    text: str
    """Printable; the response cuts and counts."""
    reason: str | None = None
    """A code of `contract.reasons`; None for a mere warning."""
    denies: bool = False
    """Whether `on_error: deny` denies for it (what the template's author can mend)."""


def review_template(  # noqa: PLR0913 - keyword-only facts of one workload
    template: Any,
    namespace: str,
    *,
    kind: str,
    claims: Sequence[str] = (),
    replicas: int | None = None,
    settings: OperatorConfig,
    facts: ClusterFacts,
) -> list[Finding]:
    """Return what would go wrong with the pods of `template`: `spec.template` of a workload.

    `kind` is the workload's (`Deployment`, `CronJob`, …), `claims` the names of
    `spec.volumeClaimTemplates[]`, `replicas` is None where the workload has no such number.
    """
    try:
        pod = _pod_of(template, namespace, kind, claims, replicas)
    except MalformedPodError:
        return []
    place = facts.namespace(namespace)
    skip = decide(pod, place)
    if skip is not None and not _is_worth_a_look(skip.reason, pod):
        return [Finding(worded(text)) for text in skip.warnings]
    _, fitted = work_out(pod, place, settings, facts)
    denies = settings.on_error == "deny"
    findings = [
        Finding(fault.warning(), fault.reason, denies=denies and fault.is_mendable)
        for fault in fitted.faults
    ]
    warnings = dict.fromkeys((*fitted.warnings, *odd_keys(pod, place)))
    return findings + [Finding(worded(text)) for text in warnings]


def _is_worth_a_look(reason: str, pod: Pod) -> bool:
    """Return whether the template asks, though its namespace does not let its pods come by."""
    return reason == "not-enabled" and any(key in pod.annotations for key in KEYS)


def _pod_of(
    template: Any, namespace: str, kind: str, claims: Sequence[str], replicas: int | None
) -> Pod:
    """Return a pod of the template as its controller would make it.

    Raises:
        MalformedPodError: it is none.
    """
    if not isinstance(template, Mapping):
        raise MalformedPodError
    pod = read_pod(template, namespace)
    # What is made from a claim template is the pod's own, like an ephemeral volume.
    own = {name: {"name": name, "ephemeral": {}} for name in claims}
    if kind == "DaemonSet":
        replicas = None
    return replace(pod, volumes={**pod.volumes, **own}, replicas=replicas)
