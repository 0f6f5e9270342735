"""Whether a pod's sidecar is a native one (design D13).

| API server and all kubelets, or the pinned one | `auto`  | `true`            | `false` |
|-------------------------------------------------|---------|-------------------|---------|
| known, ≥ 1.29                                   | native  | native            | classic |
| known, one is older                             | classic | bad value, classic | classic |
| not known                                       | classic | native            | classic |

A cluster that has no nodes yet, as it grows from nothing, is as new as the oldest kubelet that may
join. A sidecar that already stands in the pod stays where it is: one of two would be refused.
"""

from dataclasses import dataclass
from typing import Any

from contract.annotations import NATIVE
from contract.reasons import BAD_VALUE
from webhook.cluster import NATIVE_SIDECAR_MINOR, ClusterFacts
from webhook.faults import Fault
from webhook.options import Options
from webhook.pod import Pod

NO_OLDER_KUBELETS = NATIVE_SIDECAR_MINOR + 3
"""An API server from which on no kubelet without native sidecars can join: one may be three minor
versions older. Source: Kubernetes, version skew policy."""


@dataclass(frozen=True, slots=True)
class Native:
    """The decision."""

    is_native: bool
    fault: Fault | None = None
    """Set where `true` was asked for and cannot be."""


def choose_native(pod: Pod, options: Options, facts: ClusterFacts) -> Native:
    """Return whether the sidecar is to be a native one."""
    wanted = options.choices.native
    is_possible = _is_possible(pod, facts)
    fault = None
    if wanted == "true" and is_possible is False:
        message = f"expected auto: API server or kubelet is older than 1.{NATIVE_SIDECAR_MINOR}"
        fault = Fault(NATIVE, BAD_VALUE, message, from_pod=NATIVE in pod.annotations)
    if pod.ours.sidecar_is_native is not None:
        return Native(pod.ours.sidecar_is_native, fault)
    if wanted == "auto" or fault is not None:
        return Native(is_possible is True, fault)
    return Native(wanted == "true")


def _is_possible(pod: Pod, facts: ClusterFacts) -> bool | None:
    """Return whether the pod's API server and kubelet know native sidecars; None: not known."""
    kubelet = facts.oldest_kubelet_minor
    if facts.has_no_nodes and (facts.api_server_minor or 0) >= NO_OLDER_KUBELETS:
        kubelet = NATIVE_SIDECAR_MINOR
    node = pinned_node(pod)
    if node is not None:
        kubelet = facts.kubelet_minor_by_node.get(node, kubelet)
    minors = (facts.api_server_minor, kubelet)
    if any(minor is not None and minor < NATIVE_SIDECAR_MINOR for minor in minors):
        return False
    return None if None in minors else True


def pinned_node(pod: Pod) -> str | None:
    """Return the one node that the pod can run on: by `nodeName`, or as DaemonSets pin theirs."""
    name = pod.spec.get("nodeName")
    if isinstance(name, str) and name:
        return name
    terms: Any = pod.spec.get("affinity")
    for key in (
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ):
        terms = terms.get(key) if isinstance(terms, dict) else None
    if not isinstance(terms, list) or len(terms) != 1 or not isinstance(terms[0], dict):
        return None
    fields = terms[0].get("matchFields")
    for field in fields if isinstance(fields, list) else ():
        if isinstance(field, dict) and field.get("key") == "metadata.name":
            values = field.get("values")
            if field.get("operator") == "In" and isinstance(values, list) and len(values) == 1:
                return values[0] if isinstance(values[0], str) else None
    return None
