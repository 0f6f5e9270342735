"""What the end-to-end tests run in the cluster: objects as plain values."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tests.judge
from tests.e2e.cluster import Json, Options

PROGRAMS = Path(__file__).parent / "programs"
COLLECTOR_PORT = 8080
CODE = "e2e-code"
"""The ConfigMap with our programs."""

RESTRICTED_POD = {
    "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def code(namespace: str) -> Json:
    """Return the ConfigMap that every pod of ours mounts at /e2e."""
    files = [*PROGRAMS.glob("*.py"), Path(tests.judge.__file__)]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CODE, "namespace": namespace},
        "data": {file.name: file.read_text("utf-8") for file in files},
    }


def python_pod(options: Options, program: str, *arguments: str) -> Json:
    """Return a pod's spec with one container, `app`, that runs one of our programs."""
    return {
        "terminationGracePeriodSeconds": 30,
        "containers": [
            {
                "name": "app",
                "image": options.app_image,
                "imagePullPolicy": options.pull_policy,
                "command": ["python3", "-B", f"/e2e/{program}", *arguments],
                "resources": {
                    "requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
                },
                "volumeMounts": [{"name": "e2e-code", "mountPath": "/e2e", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "e2e-code", "configMap": {"name": CODE}}],
    }  # fmt: skip


def collector(options: Options, namespace: str) -> Json:
    spec = python_pod(options, "collector.py", str(COLLECTOR_PORT))
    spec["containers"][0] |= {
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": COLLECTOR_PORT}},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": RESTRICTED_CONTAINER,
    }
    spec["securityContext"] = RESTRICTED_POD
    return pod("collector", namespace, spec)


@dataclass(frozen=True)
class Writer:
    """A pod's template whose application writes numbered lines."""

    options: Options
    namespace: str
    collector_url: str
    run: str
    """The first word of every line."""
    file: str | None = "/var/log/app/app.log"
    paths: str | None = "/var/log/app/app.log*"
    stdout: bool = True
    plan: Json = field(default_factory=dict)
    """More keys of `programs/writer.py`'s Plan."""
    annotations: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def template(self, **spec: Any) -> Json:
        """Return `metadata` and `spec` of a pod; `spec` has more of its keys."""
        plan = {
            "run": self.run, "namespace": self.namespace, "collector": self.collector_url,
            "file": self.file, "stdout": self.stdout, **self.plan,
        }  # fmt: skip
        made = python_pod(self.options, "writer.py")
        made["containers"][0]["env"] = [{"name": "PLAN", "value": json.dumps(plan)}]
        annotations = dict(self.annotations)
        if self.file and self.paths:
            annotations["sidetail.dev/paths"] = self.paths
        if self.stdout:
            annotations["sidetail.dev/stdout"] = "mirror"
        return {
            "metadata": {"labels": self.labels, "annotations": annotations},
            "spec": made | spec,
        }


def pod(name: str, namespace: str, spec: Json, **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def bare_pod(name: str, namespace: str, template: Json) -> Json:
    """Return the pod of a template."""
    return pod(name, namespace, template["spec"], **template["metadata"])


def deployment(name: str, namespace: str, template: Json, *, replicas: int) -> Json:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return _workload("Deployment", name, namespace, template, replicas=replicas, strategy=rolling)


def stateful_set(name: str, namespace: str, template: Json) -> Json:
    return _workload("StatefulSet", name, namespace, template, replicas=1, serviceName=name)


def daemon_set(name: str, namespace: str, template: Json) -> Json:
    return _workload("DaemonSet", name, namespace, template)


def job(name: str, namespace: str, template: Json) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": job_spec(template),
    }


def job_spec(template: Json) -> Json:
    return {"backoffLimit": 0, "template": template}


def cron_job(name: str, namespace: str, template: Json) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "schedule": "* * * * *",
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": job_spec(template)},
        },
    }


def _workload(kind: str, name: str, namespace: str, template: Json, **spec: Any) -> Json:
    labels = {"app": name}
    template = {
        "metadata": {
            **template["metadata"], "labels": {**template["metadata"].get("labels", {}), **labels}
        },
        "spec": template["spec"],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }
