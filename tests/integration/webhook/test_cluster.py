"""The running webhook beside a real API server: what it learns from it, what it writes to it."""

import contextlib
import copy
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.kube import METADATA_EVENTS, METADATA_LIST, StatusError
from runtime.stop import Stop
from tests.kube import ApiServer, api_server, whole_cluster  # noqa: F401 - fixtures
from tests.sidecar_process import eventually
from tests.webhook_process import POD, Webhook, review_of

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300)]

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"


class Relay:
    """Stands between a webhook and the API server, and can hold back what they say."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        document = json.loads(kubeconfig.read_text())
        cluster = document["clusters"][0]["cluster"]
        self._target = int(cluster["server"].rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        cluster["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(document))
        self._flows = threading.Event()
        self._flows.set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Let nothing pass; connections hang."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._ended = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError), source:
            while received := source.recv(65536):
                self._flows.wait(120)
                to.sendall(received)
            to.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def relay(tmp_path_factory, whole_cluster: ApiServer) -> Iterator[Relay]:  # noqa: F811
    """Nobody else looks at the nodes meanwhile: some here are very old."""
    made = Relay(whole_cluster.kubeconfig, tmp_path_factory.mktemp("relay"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def connected(tmp_path_factory, api_server: ApiServer, relay: Relay) -> Iterator[Webhook]:  # noqa: F811
    """A webhook that serves with files and knows the cluster."""
    put_node(api_server, "a-node", "v1.31.0")
    webhook = Webhook(
        tmp_path_factory.mktemp("webhook"),
        standalone=False,
        flags=["--kubeconfig", str(relay.kubeconfig)],
    )
    try:
        webhook.start()
        eventually(lambda: webhook.probe("/readyz").status == 200, "ready")
        yield webhook
    finally:
        webhook.end()
        api_server.kubectl("delete", "node", "--all", check=False)
    assert webhook.not_json == []


@pytest.fixture
def place(api_server: ApiServer) -> Iterator[str]:  # noqa: F811
    """A namespace with the label."""
    name = f"shop-{secrets.token_hex(3)}"
    labels = {"sidetail.dev/inject": "enabled"}
    api_server.api.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    yield name
    api_server.kubectl("delete", "namespace", name, "--wait=false", check=False)


def put_node(server: ApiServer, name: str, version: str) -> None:
    with suppress(StatusError):
        server.api.create(NODES, {"metadata": {"name": name}})
    patch = [{"op": "add", "path": "/status/nodeInfo", "value": node_info(version)}]
    server.api.patch(f"{NODES}/{name}/status", patch)


def node_info(version: str) -> dict[str, str]:
    keys = (
        "machineID systemUUID bootID kernelVersion osImage containerRuntimeVersion "
        "kubeProxyVersion operatingSystem architecture"
    )
    return dict.fromkeys(keys.split(), "x") | {"kubeletVersion": version}


def pod_in(namespace: str, **annotations: str) -> dict:
    pod = copy.deepcopy(POD)
    pod["metadata"]["namespace"] = namespace
    pod["metadata"]["annotations"].update(
        {f"sidetail.dev/{key}": value for key, value in annotations.items()}
    )
    return pod


def sidecar_is_native(webhook: Webhook, namespace: str) -> bool | None:
    """Return where the sidecar goes; None without one."""
    reply = webhook.post(review_of(pod_in(namespace), namespace=namespace))
    for operation in reply.patch:
        text = json.dumps(operation)
        if '"sidetail"' in text and "initContainers" in operation["path"]:
            return True
        if '"sidetail"' in text and operation["path"].startswith("/spec/containers"):
            return False
    return None


def test_a_new_namespace_is_known_at_once(connected, place):
    eventually(lambda: is_known(connected, place), "the namespace")

    assert not is_known(connected, "never-made")
    assert sidecar_is_native(connected, place) is not None


def is_known(webhook: Webhook, namespace: str) -> bool:
    """Whether a pod of that namespace is not counted as one of a namespace not in memory."""
    before = webhook.metrics().total("sidetail_namespaces_unknown_total")
    webhook.post(review_of(pod_in(namespace), namespace=namespace))
    return webhook.metrics().total("sidetail_namespaces_unknown_total") == before


def test_a_namespace_that_loses_its_label_is_left_alone(connected, api_server, place):  # noqa: F811
    eventually(lambda: sidecar_is_native(connected, place) is not None, "its injection")
    api_server.kubectl("label", "namespace", place, "sidetail.dev/inject-")

    eventually(lambda: sidecar_is_native(connected, place) is None, "the change")


def test_annotations_of_a_namespace_ask_for_its_pods(connected, api_server, place):  # noqa: F811
    pod = pod_in(place)
    del pod["metadata"]["annotations"]
    assert connected.post(review_of(pod, namespace=place)).patch == []
    api_server.kubectl("annotate", "namespace", place, "sidetail.dev/stdout=mirror")

    eventually(lambda: connected.post(review_of(pod, namespace=place)).patch, "the mirror")


def test_one_old_kubelet_takes_native_sidecars_away(connected, api_server, place):  # noqa: F811
    eventually(lambda: sidecar_is_native(connected, place) is True, "a native sidecar")
    put_node(api_server, "old-node", "v1.27.3")
    try:
        eventually(lambda: sidecar_is_native(connected, place) is False, "an ordinary one")
    finally:
        api_server.kubectl("delete", "node", "old-node")
    eventually(lambda: sidecar_is_native(connected, place) is True, "a native one again")


def test_a_limit_range_is_respected(connected, api_server, place):  # noqa: F811
    limit = {"type": "Container", "min": {"memory": "100Mi"}}
    api_server.api.create(
        f"{NAMESPACES}/{place}/limitranges",
        {"metadata": {"name": "least"}, "spec": {"limits": [limit]}},
    )

    def raised() -> bool:
        reply = connected.post(review_of(pod_in(place), namespace=place))
        return "100Mi" in json.dumps(reply.patch)

    eventually(raised, "the namespace's minimum")


def test_an_event_about_what_is_left_out_stands_on_the_owner(connected, api_server, place):  # noqa: F811
    template = {
        "metadata": {"labels": {"app": "orders"}},
        "spec": {"containers": [{"name": "app", "image": "orders:1"}]},
    }
    owner = api_server.api.create(
        f"/apis/apps/v1/namespaces/{place}/replicasets",
        {
            "metadata": {"name": "orders-56f4db6b86"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "orders"}},
                "template": template,
            },
        },
    )
    pod = pod_in(place, paths="var/log/orders.log")
    pod["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "orders-56f4db6b86",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
    ]
    eventually(lambda: sidecar_is_native(connected, place) is not None, "the namespace")
    connected.post(review_of(pod, namespace=place, dryRun=True))
    for _ in range(3):
        connected.post(review_of(pod, namespace=place))

    def events() -> list[dict]:
        return api_server.api.get(f"{NAMESPACES}/{place}/events")["items"]

    eventually(events, "the Event")
    sent = "sidetail_events_total"
    eventually(lambda: connected.metrics().total(sent, result="repeated") >= 2, "the others")
    (event,) = events()
    assert event["type"] == "Warning"
    assert event["involvedObject"]["uid"] == owner["metadata"]["uid"]
    assert "bad-path" in event["message"]
    assert "var/log/orders.log" in event["message"]
    assert place in api_server.kubectl("get", "events", "-A").stdout


def test_while_the_api_server_is_away_admissions_go_on(connected, relay, api_server, place):  # noqa: F811
    eventually(lambda: sidecar_is_native(connected, place) is True, "the namespace")
    with relay.away():
        for _ in range(50):
            assert sidecar_is_native(connected, place) is True
        assert connected.probe("/readyz").status == 200
    api_server.kubectl("label", "namespace", place, "sidetail.dev/inject-")

    eventually(lambda: sidecar_is_native(connected, place) is None, "news after the break")


def test_a_start_without_the_api_server_serves_and_heals(tmp_path, relay, api_server, place):  # noqa: F811
    webhook = Webhook(tmp_path, standalone=False, flags=["--kubeconfig", str(relay.kubeconfig)])
    try:
        with relay.away():
            webhook.start()
            pod = pod_in(place)
            assert webhook.post(review_of(pod, namespace=place)).response["allowed"] is True
            assert webhook.metrics().total("sidetail_namespaces_unknown_total") == 1
            eventually(lambda: webhook.probe("/readyz").status == 200, "ready all the same")
        # Known is what can be lost: without the label its pods are left alone.
        api_server.kubectl("label", "namespace", place, "sidetail.dev/inject-")
        eventually(lambda: sidecar_is_native(webhook, place) is None, "the facts")
    finally:
        webhook.end()


def test_the_api_server_understands_that_metadata_alone_is_wanted(api_server, place):  # noqa: F811
    pages = api_server.api.pages(NAMESPACES, {"limit": "500"}, accept=METADATA_LIST)
    (page,) = pages
    assert page["kind"] == "PartialObjectMetadataList"
    version = page["metadata"]["resourceVersion"]
    api_server.kubectl("annotate", "namespace", place, "a=b")
    watch = api_server.api.watch(
        NAMESPACES, resource_version=version, stop=Stop(), accept=METADATA_EVENTS, seconds=60
    )
    found = next(event for event in watch if event["object"]["metadata"]["name"] == place)

    assert found["object"]["kind"] == "PartialObjectMetadata"
    assert found["object"]["metadata"]["annotations"]["a"] == "b"
