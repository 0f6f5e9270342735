"""Facts of a file under the names of the Elastic Common Schema.

Where the schema has no name, the one that Elastic's own shippers use for Kubernetes stands, and
else OpenTelemetry's as it is. Source: Elastic Common Schema 8.11; Beats, "Kubernetes fields".
"""

from functools import lru_cache

from contract import record
from sidecar.block import FileFacts
from sidecar.ndjson import json_text
from sidecar.settings import Source

_NAMES = {
    "k8s.cluster.name": "orchestrator.cluster.name",
    "k8s.namespace.name": "kubernetes.namespace",
    "k8s.pod.name": "kubernetes.pod.name",
    "k8s.pod.uid": "kubernetes.pod.uid",
    "k8s.node.name": "kubernetes.node.name",
    "k8s.container.name": "kubernetes.container.name",
    "k8s.deployment.name": "kubernetes.deployment.name",
    "k8s.statefulset.name": "kubernetes.statefulset.name",
    "k8s.daemonset.name": "kubernetes.daemonset.name",
    "k8s.replicaset.name": "kubernetes.replicaset.name",
    "k8s.job.name": "kubernetes.job.name",
    "k8s.cronjob.name": "kubernetes.cronjob.name",
    "service.instance.id": "service.node.name",
    "deployment.environment.name": "service.environment",
}
_POD_LABEL = "k8s.pod.label."
_OURS = frozenset(
    {"@timestamp", "message", "message_raw", "log", "log.file.path", "log.offset", "log.level",
     "log.iostream", "truncated", "parsed", "parse_error", "labels", "kubernetes", "ecs.version"}
)  # fmt: skip


def ecs_constants(facts: FileFacts) -> bytes:
    """Return what all documents of a file say alike: members of a JSON object, each with a comma.

    The author's fields are `labels`; dots in their keys and in the keys of pod labels become `_`
    (a key that has parts and one that is its beginning cannot stand in one index).
    """
    path = json_text(facts.path)
    return b'"ecs.version":"8.11.0","log.file.path":' + path + b"," + _of_source(facts.source)


@lru_cache(maxsize=256)
def _of_source(source: Source) -> bytes:
    members: dict[str, object] = {}
    pod_labels: dict[str, str] = {}
    for name, value in source.attributes.items():
        if name.startswith(_POD_LABEL):
            pod_labels.setdefault(_one_key(name.removeprefix(_POD_LABEL)), value)
            continue
        ecs_name = _NAMES.get(name, name)
        if not _is_ours(ecs_name):
            members.setdefault(ecs_name, value)
    if pod_labels:
        members["kubernetes.labels"] = pod_labels
    fields = {_one_key(name): value for name, value in source.fields.items()}
    if fields:
        members["labels"] = fields
    return b"".join(
        json_text(name) + b":" + json_text(value) + b"," for name, value in members.items()
    )


def _one_key(name: str) -> str:
    return name.replace(".", "_")


def _is_ours(name: str) -> bool:
    """Return whether a name is one of ours, or would make an object of one."""
    return name in _OURS or name.split(".", 1)[0] in ("@timestamp", record.MESSAGE, "labels")
