"""Sidetail on the API server of `tests.kube`: the webhook's processes, and pods to create.

There is no kubelet and no controller: a Deployment of install.yaml starts nothing, so its pods are
processes here, with the account, flags and config that the manifests give them.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from contract.annotations import PATHS, STATUS
from contract.names import SYSTEM_NAMESPACE
from manifests.build import INSTALL
from runtime.kube import Json, KubeApi, UnreachableError
from tests.kube import ApiServer, wait_for
from tests.manifests.objects import documents, find
from tests.webhook_process import Webhook

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
MUTATING = f"{ADMISSION}/mutatingwebhookconfigurations/sidetail"
VALIDATING = f"{ADMISSION}/validatingwebhookconfigurations/sidetail"
SECRETS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"


@dataclass
class Cluster:
    """The API server with install.yaml applied, and the webhook's processes."""

    server: ApiServer
    folder: Path
    replicas: list[Webhook] = field(default_factory=list)

    @property
    def api(self) -> KubeApi:
        return self.server.api

    def start_replica(self) -> Webhook:
        """Start a process as the Deployment would: with its account, its flags and its config."""
        kubeconfig = self.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-webhook")
        return self.add(
            Webhook(
                self.new_folder(),
                config=operator_config(),
                flags=["--kubeconfig", str(kubeconfig)],
                environ={"POD_NAMESPACE": SYSTEM_NAMESPACE},
                standalone=False,
                with_files=False,
            )
        )

    def new_folder(self) -> Path:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        return folder

    def add(self, replica: Webhook) -> Webhook:
        """Start a process and lead the Service to it."""
        self.replicas.append(replica.start())
        wait_for(lambda: replica.probe("/readyz").status == 200)
        self.route()
        return replica

    def end_replicas(self) -> None:
        for replica in self.replicas:
            replica.end()
        self.replicas.clear()
        self.route()

    def route(self) -> None:
        """Lead the Service to the replicas that live, as its endpoints would."""
        ports = [replica.port for replica in self.replicas if replica.exit_code() is None]
        self.server.route(f"sidetail-webhook.{SYSTEM_NAMESPACE}.svc:443", ports)

    def namespace(self, labels: dict[str, str], annotations: dict[str, str] | None = None) -> str:
        name = f"install-{uuid.uuid4().hex[:8]}"
        metadata = {"name": name, "labels": labels, "annotations": annotations or {}}
        self.api.create(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        )
        return name

    def create(self, namespace: str, pod: Json) -> Json:
        return self.api.create(f"/api/v1/namespaces/{namespace}/pods", pod)

    def wait_until_called(self, namespace: str) -> None:
        """Wait until the API server has seen the bundle; the first calls may come too early."""
        self.wait_until_injected(namespace, a_pod())

    def wait_until_injected(self, namespace: str, pod: Json) -> None:
        """Create such pods until one is injected; where none ever is, say what came instead."""
        came: list[object] = []

        def injected() -> bool:
            try:
                made = self.create(namespace, pod)
            except UnreachableError as error:
                came.append(error)  # no answer in ten seconds, on a machine that is busy
                return False
            came.append(made["metadata"].get("annotations"))
            return is_injected(made)

        try:
            wait_for(injected)
        except AssertionError as error:
            logs = [line for one in self.replicas for line in list(one.log)]
            odd = [line for line in logs if line["level"] != "info"]
            raise AssertionError(
                f"{error}: {len(came)} tries, last {came[-1]!r}; {odd[-20:]}"
            ) from error


@contextmanager
def install(server: ApiServer, folder: Path) -> Iterator[Cluster]:
    """Apply install.yaml and start two replicas; take all of it away in the end."""
    made = Cluster(server, folder)
    applied = server.kubectl("apply", "-f", str(INSTALL))
    assert applied.stderr == ""
    try:
        a_node(made.api)
        made.start_replica()
        made.start_replica()
        yield made
    finally:
        made.end_replicas()
        remove_all(server, documents(INSTALL))
        server.kubectl("delete", "node", "node-1")


def operator_config() -> Json:
    config = find(documents(INSTALL), "ConfigMap", "sidetail-config")
    return dict(yaml.safe_load(config["data"]["config.yaml"]))


def configurations() -> list[Json]:
    objects = documents(INSTALL)
    return [one for one in objects if one["kind"].endswith("WebhookConfiguration")]


def a_node(api: KubeApi) -> None:
    """Register a node, as its kubelet would: its version decides on native sidecars."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    made = api.create("/api/v1/nodes", node)
    made["status"]["nodeInfo"]["kubeletVersion"] = "v1.34.1"
    api.replace("/api/v1/nodes/node-1/status", made)


def remove_all(server: ApiServer, objects: list[Json]) -> None:
    """Delete all but the namespace, which no controller would ever empty."""
    rest = [one for one in objects if one["kind"] != "Namespace"]
    server.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(rest))
    server.kubectl("-n", SYSTEM_NAMESPACE, "delete", "secrets", "--all")


def a_pod(**metadata: Any) -> Json:
    """Return a pod as a careful author writes it, with one path."""
    annotations = {PATHS: "/var/log/app/*.log", **metadata.pop("annotations", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "app-", "annotations": annotations, **metadata},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example/app:1",
                    "securityContext": {
                        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}
                    },
                }
            ],
        },
    }  # fmt: skip


def is_injected(pod: Json) -> bool:
    names = {one["name"] for one in pod["spec"].get("initContainers", [])}
    status = json.loads(pod["metadata"].get("annotations", {}).get(STATUS, "{}"))
    return "sidetail" in names and status.get("outcome") == "injected"
