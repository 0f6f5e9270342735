"""A cluster in memory in which Sidetail is installed and everything is as it should be.

Made from the manifests; a test breaks one link of it.
"""

import base64
import copy
from datetime import UTC, datetime
from typing import Any

import jsonpatch
import yaml

from certs.issue import issue_ca, issue_leaf, service_names
from certs.keep import Place
from certs.system import SystemRandomness
from contract.annotations import INJECT_LABEL
from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube import StatusError
from tests.fakes.kube_api import FakeKubeApi
from tests.manifests.objects import Json, rendered
from webhook.cluster import ClusterFacts, Namespace
from webhook.mutate import admit_pod
from webhook.settings import load_operator_config

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
SECRETS = "/api/v1/secrets"
CONFIG_MAPS = "/api/v1/configmaps"
SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
DEPLOYMENTS = "/apis/apps/v1/deployments"
STATEFUL_SETS = "/apis/apps/v1/statefulsets"
JOBS = "/apis/batch/v1/jobs"
MUTATING = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SECRET_VALUE = "s3cr3t-never-to-be-shown"

_RANDOM = SystemRandomness()
AUTHORITY = issue_ca(now=NOW, random=_RANDOM)
OTHER_AUTHORITY = issue_ca(now=NOW, random=_RANDOM)
LEAF = issue_leaf(
    AUTHORITY, service_names("sidetail-webhook", SYSTEM_NAMESPACE), now=NOW, random=_RANDOM
)
CONFIG = {
    "image": "registry.test/sidetail-sidecar:1.0.0",
    "backends": [
        {
            "name": "main",
            "type": "loki",
            "url": "https://loki.test",
            "credentials": {"secret": "loki-auth"},
        }
    ],
}


class HealthyCluster(FakeKubeApi):
    """The API server, and behind it the webhook's own engine."""

    def __init__(self, overlay: str = "base") -> None:
        super().__init__()
        self.version = {"major": "1", "minor": "34", "gitVersion": "v1.34.1"}
        self.may_create_pods = True
        self.is_asked = True
        """Whether the webhook is asked about pods that are created."""
        self.on_create = self._answer
        for one in rendered(overlay):
            if one["kind"] in _COLLECTIONS:
                self.put(_COLLECTIONS[one["kind"]], copy.deepcopy(one))
        self.configure(CONFIG)
        self.trust(AUTHORITY.certificate)
        self.serve(LEAF.certificate)
        self.put(NODES, node("node-1"))
        self.put(DEPLOYMENTS, self._with_replicas())
        self.put(SLICES, endpoint_slice({"ready": True}))
        self.put(NAMESPACES, namespace("default"))
        self.put(NAMESPACES, namespace("shop", {INJECT_LABEL: "enabled"}))
        self.put(SECRETS, secret("loki-auth", "shop", {"token": SECRET_VALUE.encode()}))
        self.put(DEPLOYMENTS, deployment("orders", PATHS))
        self.put(PODS, self.injected(pod("orders-1", PATHS)))

    # --- what a test changes ----------------------------------------------------------------

    def configure(self, config: Json | str) -> None:
        """Put an operator config in place, as an object or as text."""
        text = config if isinstance(config, str) else yaml.safe_dump(config)
        found = self.take(CONFIG_MAPS, CONFIG_MAP, SYSTEM_NAMESPACE)
        self.put(CONFIG_MAPS, found | {"data": {"config.yaml": text}})

    def trust(self, bundle: bytes) -> None:
        """Write `caBundle` of every entry."""
        for path in (MUTATING, VALIDATING):
            found = self.take(path, "sidetail")
            for entry in found["webhooks"]:
                entry["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
            self.put(path, found)

    def serve(self, certificate: bytes) -> None:
        """Put a certificate into the Secret, beside a key that nobody may show."""
        data = {"tls.crt": certificate, "tls.key": SECRET_VALUE.encode()}
        self.put(SECRETS, secret(Place().secret, SYSTEM_NAMESPACE, data))

    def take(self, path: str, name: str, namespace: str | None = None) -> Json:
        """Return a copy of an object, to be changed and put back."""
        key = f"{namespace}/{name}" if namespace else name
        return copy.deepcopy(self.collections[path][key])

    def injected(self, wanted: Json) -> Json:
        """Return the pod as the webhook gives it back, with its containers running."""
        admission = admit_pod(
            wanted, wanted["metadata"]["namespace"], settings=self._config(), facts=self._facts()
        )
        operations: list[Any] = list(admission.patch)
        made: Json = jsonpatch.apply_patch(wanted, operations)
        return made

    # --- what stands behind it --------------------------------------------------------------

    def _answer(self, path: str, body: Json) -> Json:
        if path.endswith("selfsubjectaccessreviews"):
            return body | {"status": {"allowed": self.may_create_pods}}
        body["metadata"]["namespace"] = path.split("/")[4]
        return self.injected(body) if self.is_asked else body

    def _config(self) -> Any:
        found = self.take(CONFIG_MAPS, CONFIG_MAP, SYSTEM_NAMESPACE)
        return load_operator_config(found["data"]["config.yaml"])

    def _facts(self) -> ClusterFacts:
        known = {
            name: Namespace(item["metadata"]["labels"] or {}, item["metadata"]["annotations"] or {})
            for name, item in self.collections[NAMESPACES].items()
            if "annotations" in item["metadata"]
        }
        return ClusterFacts(34, 34, namespaces=known)

    def _with_replicas(self) -> Json:
        found = self.take(DEPLOYMENTS, "sidetail-webhook", SYSTEM_NAMESPACE)
        number = found["spec"]["replicas"]
        return found | {"status": {"replicas": number, "readyReplicas": number}}


_COLLECTIONS = {
    "Namespace": NAMESPACES,
    "ConfigMap": CONFIG_MAPS,
    "Service": SERVICES,
    "Deployment": DEPLOYMENTS,
    "MutatingWebhookConfiguration": MUTATING,
    "ValidatingWebhookConfiguration": VALIDATING,
}
PATHS = {"sidetail.dev/paths": "/var/log/orders/*.log"}


def node(name: str, version: str = "v1.34.1") -> Json:
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": version}}}


def namespace(
    name: str, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> Json:
    return {"metadata": {"name": name, "labels": labels, "annotations": annotations}}


def secret(name: str, in_namespace: str, data: dict[str, bytes]) -> Json:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"metadata": {"name": name, "namespace": in_namespace}, "data": encoded}


def endpoint_slice(conditions: dict[str, bool]) -> Json:
    labels = {"kubernetes.io/service-name": "sidetail-webhook"}
    return {
        "metadata": {"name": "x", "namespace": SYSTEM_NAMESPACE, "labels": labels},
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
    }


def template(annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    app = {"name": "app", "image": "orders:1", "command": ["/orders"]}
    return {
        "metadata": {"labels": {"app": "orders"}, "annotations": annotations},
        "spec": {"containers": [app]} | spec,
    }


def deployment(
    name: str,
    annotations: dict[str, str] | None = None,
    *,
    in_namespace: str = "shop",
    **metadata: Any,
) -> Json:
    """Return a Deployment whose template has `annotations`; `metadata` is its own."""
    return {
        "metadata": {"name": name, "namespace": in_namespace, **metadata},
        "spec": {"template": template(annotations)},
    }


def pod(
    name: str,
    annotations: dict[str, str] | None = None,
    *,
    in_namespace: str = "shop",
    owner: str | None = "orders-5d4f",
    **spec: Any,
) -> Json:
    owners = owner and [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}",
         "controller": True}
    ]  # fmt: skip
    made = template(annotations, **spec)
    made["metadata"] |= {
        "name": name,
        "namespace": in_namespace,
        "uid": f"uid-of-{name}",
        "ownerReferences": owners,
    }
    return made | {"status": {"phase": "Running"}}


def forbidden(*paths: str) -> Any:
    """Return what refuses to show these collections, as RBAC does."""

    def refuse(verb: str, path: str) -> StatusError | None:
        if verb != "create" and any(path.startswith(one) for one in paths):
            message = f'User "dev" cannot {verb} {path}'
            return StatusError(f"GET {path}", 403, "Forbidden", message)
        return None

    return refuse
