"""Which pods were missed: they ask to be injected, and nobody looked at them at their creation.

The webhook was down, could not be reached, or the label or annotation came later. By the same
step that decides on an admission (step 2). Pure.
"""

from collections.abc import Mapping
from typing import Any

from contract.annotations import INJECT_LABEL, STATUS
from webhook.admission import Owner
from webhook.cluster import Namespace
from webhook.eligibility import decide
from webhook.ours import NOTHING_OURS
from webhook.pod import MalformedPodError, controller_of, read_pod

Json = Mapping[str, Any]

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
"""The field selector of pods of which something can still be collected."""
_ANY_SPEC = {"containers": [{"name": "app"}]}
"""Stands for the spec where only `metadata` is known."""


def is_missed(pod: Json, namespace: Namespace | None) -> bool:
    """Return whether `pod` (a v1 Pod that exists) was missed.

    `namespace` is None where it is not in memory: then only the pod's own label is believed.
    """
    metadata = pod.get("metadata") or {}
    if STATUS in (metadata.get("annotations") or {}) or metadata.get("deletionTimestamp"):
        return False
    if namespace is None and (metadata.get("labels") or {}).get(INJECT_LABEL) != "true":
        return False
    try:
        author = read_pod(pod, str(metadata.get("namespace") or ""))
    except MalformedPodError:
        return False
    # A status that found no room in the annotations leaves the containers to tell by.
    return author.ours is NOTHING_OURS and decide(author, namespace) is None


def may_be_missed(metadata: Json, namespace: Namespace | None) -> bool:
    """Return whether a pod of which only `metadata` is known was missed, as far as that tells."""
    return is_missed({"metadata": metadata, "spec": _ANY_SPEC}, namespace)


def workload_of(metadata: Json) -> Owner:
    """Return who would hear of the pod: its controlling owner, else the pod itself."""
    controller = controller_of(metadata.get("ownerReferences"))
    return controller or Owner("v1", "Pod", str(metadata.get("name")), str(metadata.get("uid")))
