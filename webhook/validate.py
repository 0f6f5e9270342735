"""`POST /validate`: what the person who applies a workload should know, before its pods exist.

A pod's warnings go to the controller that creates it, and nobody reads them there. So the pod
template is looked at when the workload itself is created or updated. In: a review. Out: warnings,
and a denial where the operator wants one (`on_error: deny`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from contract.annotations import INJECT_LABEL, PREFIX, STATUS
from contract.names import EXCLUDED_NAMESPACES
from webhook.admission import Denial
from webhook.cluster import ClusterFacts
from webhook.request import Json, Review
from webhook.settings import OperatorConfig
from webhook.template import Finding, review_template

_TEMPLATE = ("spec", "template")
WORKLOADS = {
    ("apps", "deployments"): ("Deployment", _TEMPLATE),
    ("apps", "statefulsets"): ("StatefulSet", _TEMPLATE),
    ("apps", "daemonsets"): ("DaemonSet", _TEMPLATE),
    ("apps", "replicasets"): ("ReplicaSet", _TEMPLATE),
    ("batch", "jobs"): ("Job", _TEMPLATE),
    ("batch", "cronjobs"): ("CronJob", ("spec", "jobTemplate", *_TEMPLATE)),
}
"""API group and resource → kind, and where its pod template is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to answer for one workload."""

    warnings: tuple[str, ...] = ()
    denied: Denial | None = None
    reason: str | None = None
    """The first finding's code; for the log."""


def validate_workload(
    review: Review, *, settings: OperatorConfig, facts: ClusterFacts
) -> Verdict | None:
    """Return the verdict; None for what is not looked at.

    That is: all but the six kinds of workload, and what another object controls (its owner was
    looked at), what is being deleted (a denial would keep its finalizers for ever), and the
    namespaces that are never injected.
    """
    workload = _looked_at(review)
    if workload is None:
        return None
    kind, path = WORKLOADS[review.group, review.resource]
    template = _at(workload, *path)
    warnings = _misplaced(workload, kind, path)
    unlabelled = _says_nothing_is_collected(template, review.namespace, facts)
    if unlabelled is not None:
        warnings = [*warnings, unlabelled]
    findings = _findings(review, workload, template, kind, settings=settings, facts=facts)
    return _judge(warnings, findings, may_deny=unlabelled is None)


def _looked_at(review: Review) -> Json | None:
    if (review.group, review.resource) not in WORKLOADS or review.subresource:
        return None
    if review.operation not in ("CREATE", "UPDATE") or review.namespace in EXCLUDED_NAMESPACES:
        return None
    workload = review.object
    metadata = _at(workload, "metadata")
    if not isinstance(workload, dict) or not isinstance(metadata, dict):
        return None
    if metadata.get("deletionTimestamp") is not None or is_controlled(metadata):
        return None
    return workload


def is_controlled(metadata: Json) -> bool:
    """Return whether an object has a controller, whatever else `metadata` holds."""
    owners = metadata.get("ownerReferences")
    return isinstance(owners, list) and any(
        isinstance(owner, dict) and owner.get("controller") is True for owner in owners
    )


def _misplaced(workload: Json, kind: str, path: Sequence[str]) -> list[str]:
    """Return a warning for keys of ours that stand around the template, where they do nothing."""
    places = [(kind, workload)]
    if kind == "CronJob":
        places.append(("jobTemplate", _at(workload, "spec", "jobTemplate")))
    where = ".".join((*path, "metadata"))
    found = []
    for (what, place), section in product(places, ("annotations", "labels")):
        ours = [key for key in _texts(place, section) if key.startswith(PREFIX)]
        if ours:
            shown = ", ".join(key[:64] for key in ours[:3]) + (", …" if len(ours) > 3 else "")
            found.append(
                f"sidetail: {shown}: {section} of the {what} do nothing; expected them under"
                f" {where}.{section}"
            )
    return found


def _says_nothing_is_collected(template: Any, name: str, facts: ClusterFacts) -> str | None:
    """Return a warning if the template asks, and its pods will not come by."""
    namespace = facts.namespace(name)
    if namespace is None or namespace.labels.get(INJECT_LABEL) == "enabled":
        return None
    if _texts(template, "labels").get(INJECT_LABEL) in ("true", "false"):
        return None
    # A status that was copied from a live pod asks for nothing.
    asked = [key for key in _texts(template, "annotations") if key.startswith(PREFIX)]
    if asked in ([], [STATUS]):
        return None
    return (
        f"sidetail: nothing is collected: namespace {name} lacks the label"
        f" {INJECT_LABEL}=enabled, and the pod template the label {INJECT_LABEL}=true"
    )


def _findings(
    review: Review,
    workload: Json,
    template: Any,
    kind: str,
    *,
    settings: OperatorConfig,
    facts: ClusterFacts,
) -> list[Finding]:
    claims = _at(workload, "spec", "volumeClaimTemplates")
    listed = claims if isinstance(claims, list) else []
    names = [_at(claim, "metadata", "name") for claim in listed]
    replicas = _at(workload, "spec", "replicas")
    return review_template(
        template,
        review.namespace,
        kind=kind,
        claims=[name for name in names if isinstance(name, str)],
        replicas=replicas if type(replicas) is int else None,
        settings=settings,
        facts=facts,
    )


def _judge(warnings: Sequence[str], findings: Sequence[Finding], *, may_deny: bool) -> Verdict:
    denying = [finding for finding in findings if finding.denies and may_deny]
    texts = (*warnings, *(finding.text for finding in findings if finding not in denying))
    reason = next((finding.reason for finding in findings if finding.reason), None)
    if not denying:
        return Verdict(texts, reason=reason)
    code = 403 if all(finding.reason == "not-allowed" for finding in denying) else 400
    message = "; ".join(finding.text for finding in denying)
    return Verdict(texts, Denial(code, message), reason)


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _texts(value: Any, section: str) -> Mapping[str, Any]:
    """Return `metadata.annotations` or `metadata.labels` of an object or template."""
    found = _at(value, "metadata", section)
    return found if isinstance(found, dict) else {}
