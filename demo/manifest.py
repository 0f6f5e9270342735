"""A manifest file goes in, the pod comes out as the API server would hand it to a webhook."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from demo.screen import DemoError

Json = dict[str, Any]

_TEMPLATED = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def read_pod(path: Path) -> Json:
    """Return the first pod of a manifest: a Pod, or the template of a workload.

    Raises:
        DemoError: it cannot be read, is not YAML, or holds no pod.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DemoError(
            f"cannot read {path}: {error.strerror}; give POD=path/to/pod.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}" if where else ""
        raise DemoError(f"{path} is not YAML{place}: mend it or give another POD=") from None
    for document in documents:
        pod = _pod_of(document) if isinstance(document, dict) else None
        if pod is not None:
            return _with_defaults(pod)
    kinds = ", ".join(["Pod", *_TEMPLATED])
    raise DemoError(f"{path} holds no pod: give a manifest of one of {kinds}")


def _pod_of(document: Json) -> Json | None:
    kind = document.get("kind")
    if kind == "Pod":
        return document
    keys = _TEMPLATED.get(str(kind))
    if keys is None:
        return None
    template: Any = document
    for key in keys:
        template = template.get(key) if isinstance(template, dict) else None
    if not isinstance(template, dict):
        return None
    above = document.get("metadata") or {}
    name = str(above.get("name", "pod"))
    metadata = {"generateName": f"{name}-", **(template.get("metadata") or {})}
    if "namespace" in above:
        metadata["namespace"] = above["namespace"]
    return {"metadata": metadata, "spec": template.get("spec")}


def _with_defaults(pod: Json) -> Json:
    """Return the pod with what the API server fills in before it calls webhooks."""
    spec = pod.get("spec")
    metadata = pod.get("metadata")
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        raise DemoError("the pod has no metadata or no spec: mend the manifest")
    containers = spec.get("containers")
    if not isinstance(containers, list) or not all(
        isinstance(each, dict) and each.get("name") for each in containers
    ):
        raise DemoError("the pod has no containers with a name: mend the manifest")
    token = f"kube-api-access-{uuid4().hex[:5]}"
    mount = {
        "name": token,
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    for container in containers:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    projected = {"name": token, "projected": {"sources": [], "defaultMode": 420}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", **metadata},
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "securityContext": {},
            **spec,
            "volumes": [*(spec.get("volumes") or []), projected],
        },
    }
