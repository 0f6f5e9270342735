"""Is a pod injected? One is created by dry run: looked at by everybody and stored by nobody."""

import json
from collections.abc import Iterator
from typing import Any

from contract import VERSION
from contract.annotations import INJECT_LABEL, PATHS, STATUS
from contract.names import EXCLUDED_NAMESPACES
from runtime.kube import Json, StatusError
from webhook.doctor.findings import Finding, Level, broken, odd, ok, unseen
from webhook.doctor.reasons import read_left_out, worded_reason
from webhook.doctor.sight import Sight
from webhook.ours import is_ours
from webhook.settings import DEFAULT_CONFIG

MAX_TRIES = 3
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_UNREACHED = (
    "if all above is in order the API server cannot reach port 8443 of the replicas: a firewall"
    " between control plane and nodes, a NetworkPolicy; its log says `failed calling webhook`"
)


def check_dry_run(sight: Sight) -> Iterator[Finding]:
    """Does a pod come back injected, by the label of a namespace and by one of its own?"""
    tried = False
    for namespaces, labels in _trials(sight):
        tried = True
        yield _try_in_one(sight, namespaces, labels)
    if not tried:
        yield unseen("there is no namespace to try a pod in", "--namespace names one")


def _trials(sight: Sight) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield namespaces and labels of each pod to try: one for each entry that is registered."""
    known = sight.facts.namespaces
    by_label = {INJECT_LABEL: "true"}
    if known is None:
        yield [sight.place.namespace or "default"], by_label
        return
    names = sorted(name for name in known if name not in EXCLUDED_NAMESPACES)
    enabled = [name for name in names if known[name].labels.get(INJECT_LABEL) == "enabled"]
    others = [name for name in names if name not in enabled]
    if enabled:
        yield enabled, {}
    if others:
        yield sorted(others, key=lambda name: name != "default"), by_label


def _try_in_one(sight: Sight, namespaces: list[str], labels: dict[str, str]) -> Finding:
    """Try a pod in the first namespace that takes it: a quota or a policy may refuse it."""
    findings = []
    for namespace in namespaces[:MAX_TRIES]:
        findings.append(_try(sight, namespace, labels))
        if findings[-1].level is not Level.UNSEEN:
            return findings[-1]
    return findings[0]


def _try(sight: Sight, namespace: str, labels: dict[str, str]) -> Finding:
    how = f"a pod in {namespace}" + (f" with label {INJECT_LABEL}=true" if labels else "")
    if not _may_create(sight, namespace):
        return unseen(
            f"not allowed to create pods in {namespace}, which a dry run needs as well",
            "--namespace names another, or ask somebody who may",
        )
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        answer = sight.api.create(path, _pod(sight, labels), {"dryRun": "All"})
    except StatusError as error:
        return _refused(how, error)
    return _judge(how, answer)


def _may_create(sight: Sight, namespace: str) -> bool:
    """Ask whether we may: a 403 alone could as well be an admission plugin's."""
    asked = {"namespace": namespace, "verb": "create", "resource": "pods"}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    return (sight.api.create(_REVIEWS, review).get("status") or {}).get("allowed") is True


def _pod(sight: Sight, labels: dict[str, str]) -> Json:
    """Return a pod that no policy should mind, of an image that the operator trusts."""
    figures = {"cpu": "10m", "memory": "16Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "sidetail-doctor-",
            "labels": labels,
            "annotations": {PATHS: "/var/log/sidetail-doctor/*.log"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "trial",
                    "image": (sight.config or DEFAULT_CONFIG).image,
                    "resources": {"requests": figures, "limits": figures},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                }
            ],
        },
    }


def _refused(how: str, error: StatusError) -> Finding:
    if error.status >= 500:
        return broken(f"{how} is not created: {error.message or error.reason}", _UNREACHED)
    text = f"{how} is refused, so nothing is known: {error.message or error.reason}"
    return unseen(text, "--namespace names another to try")


def _judge(how: str, answer: Json) -> Finding:
    status = _status(answer)
    if status is None:
        text = f"{how} comes back as it was: the webhook was not asked, or did not answer in time"
        return broken(text, _UNREACHED)
    reasons = [worded_reason(row) for row in read_left_out(status)]
    version = str(status.get("version"))
    if status.get("outcome") != "injected":
        text = f"{how} is answered with `{status.get('outcome')}`: the webhook was asked"
        return odd(text, "docs/reasons.md", reasons)
    if status.get("collector") == "sidecar" and _sidecar(answer) is None:
        text = f"{how} bears a status and no sidecar: another plugin takes it out again"
        return broken(
            text, "see the other mutating webhooks: kubectl get mutatingwebhookconfiguration"
        )
    if version != VERSION:
        return odd(f"{how} is injected by version {version}; this doctor is of {VERSION}")
    return ok(f"{how} is injected")


def _status(pod: Json) -> dict[str, Any] | None:
    text = (pod["metadata"].get("annotations") or {}).get(STATUS)
    try:
        status = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return status if isinstance(status, dict) else None


def _sidecar(pod: Json) -> Json | None:
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((one for one in containers if is_ours(one)), None)
