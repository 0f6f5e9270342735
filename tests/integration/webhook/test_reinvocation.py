"""Two injectors before a real API server: ours is called again after the other."""

import base64
import json
import secrets
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contract.annotations import PREFIX
from contract.names import DEFAULT_CONTAINER
from tests.injection import container, document_of, status_of
from tests.kube import ApiServer, api_server  # noqa: F401 - a fixture
from tests.sidecar_process import eventually
from tests.webhook_process import CA, Webhook, new_leaf

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300)]

REGISTRATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
MESH = {"name": "mesh", "image": "mesh:1", "command": ["/mesh"]}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "annotations": {
            PREFIX + "paths": "/srv/logs/*.log",
            PREFIX + "stdout": "mirror",
            PREFIX + "seed": "true",
            PREFIX + "native": "true",
        },
    },
    "spec": {"containers": [{"name": "app", "image": "app:1", "command": ["/bin/app"]}]},
}


class Mesh(BaseHTTPRequestHandler):
    """An injector that stands first, says so, and takes the second container's mounts away."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        response = {"uid": request["uid"], "allowed": True}
        if request["object"]["spec"]["containers"][0]["name"] != "mesh":
            annotation = "/metadata/annotations/" + DEFAULT_CONTAINER.replace("/", "~1")
            patch = [
                {"op": "add", "path": "/spec/containers/0", "value": MESH},
                {"op": "add", "path": annotation, "value": "mesh"},
                {"op": "add", "path": "/spec/containers/1/volumeMounts", "value": []},
            ]
            text = base64.b64encode(json.dumps(patch).encode()).decode()
            response |= {"patchType": "JSONPatch", "patch": text}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        body = json.dumps(review | {"response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mesh_port(tmp_path: Path) -> Iterator[int]:
    pair = new_leaf()
    file = tmp_path / "mesh.pem"
    file.write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with ThreadingHTTPServer(("127.0.0.1", 0), Mesh) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(60)


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    folder = tmp_path / "webhook"
    folder.mkdir()
    made = Webhook(folder)
    try:
        yield made.start()
    finally:
        made.end()


@pytest.fixture
def place(api_server: ApiServer, webhook: Webhook, mesh_port: int) -> Iterator[str]:  # noqa: F811
    """A namespace for whose pods both are called: ours, the other, and ours if need be."""
    name = f"mesh-{secrets.token_hex(3)}"
    api_server.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = {"metadata": {"name": "default"}}
    api_server.api.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)
    entries = [
        entry("pods.sidetail.test", name, webhook.port, "IfNeeded"),
        entry("pods.mesh.test", name, mesh_port, "Never"),
    ]
    api_server.api.create(REGISTRATIONS, {"metadata": {"name": name}, "webhooks": entries})
    yield name
    api_server.kubectl("delete", "mutatingwebhookconfiguration", name)
    api_server.kubectl("delete", "namespace", name, "--wait=false", check=False)


def entry(name: str, namespace: str, port: int, reinvocation: str) -> dict[str, object]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "reinvocationPolicy": reinvocation,
        "timeoutSeconds": 30,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [rule | {"operations": ["CREATE"]}],
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/mutate",
            "caBundle": base64.b64encode(CA.certificate).decode(),
        },
    }


def test_what_the_other_injector_did_is_repaired_and_what_was_decided_is_kept(
    api_server: ApiServer,  # noqa: F811
    place: str,
) -> None:
    pods = f"/api/v1/namespaces/{place}/pods"

    def created() -> dict:
        return api_server.api.create(pods, POD, {"dryRun": "All"})

    eventually(lambda: created()["spec"]["containers"][0]["name"] == "mesh", "being called")
    pod = created()
    app = container(pod, "app")
    mounted = {mount["mountPath"]: mount.get("subPath") for mount in app["volumeMounts"]}
    seed = container(pod, "sidetail-seed-1")

    assert [found["name"] for found in pod["spec"]["containers"]] == ["mesh", "app"]
    assert pod["metadata"]["annotations"][DEFAULT_CONTAINER] == "mesh"
    assert container(pod, "mesh")["command"] == ["/mesh"]
    assert status_of(pod)["default_container"] == "app"
    assert {entry["container"] for entry in status_of(pod)["plan"]} == {"app"}
    assert {source["container"] for source in document_of(pod)["sources"]} == {"app"}
    assert mounted["/srv/logs"] == "app/srv-logs"
    assert mounted["/sidetail/stdout/app"] == "app/stdout"
    assert (seed["image"], seed["command"][2]) == ("app:1", "/srv/logs")
