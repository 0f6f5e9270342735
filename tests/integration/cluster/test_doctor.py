"""The doctor and the count of missed pods on a real API server.

What the controllers would write, ready replicas and endpoints, is written here. The API server is
shared with other tests, so the doctor is mostly shown one namespace.
"""

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.annotations import PATHS
from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from manifests.build import INSTALL
from runtime.kube import Json, StatusError
from tests.installation import MUTATING, VALIDATING, Cluster, a_pod, install, is_injected
from tests.kube import ApiServer, api_server, wait_for, whole_cluster
from tests.webhook_process import ROOT
from webhook.doctor.__main__ import main

__all__ = ["api_server", "whole_cluster"]

pytestmark = [pytest.mark.kube, pytest.mark.timeout(600)]

SYSTEM = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/endpointslices"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/sidetail-webhook"


@pytest.fixture(scope="module")
def cluster(
    whole_cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with install(whole_cluster, tmp_path_factory.mktemp("doctor")) as made:
        say_ready(made, 2)
        made.api.create(SLICES, endpoint_slice())
        yield made
    whole_cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "endpointslices", "--all")


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> str:
    """A namespace in which no pod was ever missed."""
    wait_until_called(cluster)
    name = cluster.namespace({"sidetail.dev/inject": "enabled"})
    cluster.api.create(f"/apis/apps/v1/namespaces/{name}/deployments", deployment("orders"))
    assert is_injected(cluster.create(name, a_pod()))
    return name


def wait_until_called(cluster: Cluster) -> None:
    """Wait, in a namespace apart: the first pods may be missed."""
    cluster.wait_until_called(cluster.namespace({"sidetail.dev/inject": "enabled"}))


def say_ready(cluster: Cluster, replicas: int) -> None:
    status = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": replicas}
    value = {key: number for key, number in status.items() if number}
    cluster.api.patch(
        f"{DEPLOYMENT}/status", [{"op": "replace", "path": "/status", "value": value}]
    )


def endpoint_slice() -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "x", "labels": {"kubernetes.io/service-name": "sidetail-webhook"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
    }


def deployment(name: str, annotations: dict[str, str] | None = None) -> Json:
    metadata = {"labels": {"app": name}, "annotations": annotations or a_pod_annotations()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": metadata, "spec": a_pod()["spec"]},
        },
    }


def a_pod_annotations() -> dict[str, str]:
    return dict(a_pod()["metadata"]["annotations"])


class Examined:
    """What the doctor said."""

    def __init__(self, cluster: Cluster, *flags: str, kubeconfig: Path | None = None) -> None:
        stdout, stderr = io.StringIO(), io.StringIO()
        file = str(kubeconfig or cluster.server.kubeconfig)
        self.status = main(["--kubeconfig", file, "--json", *flags], {}, stdout, stderr)
        assert stderr.getvalue() == ""
        self.text = stdout.getvalue()
        self.levels = {row["name"]: row["level"] for row in json.loads(self.text)["checks"]}
        assert "the doctor failed" not in self.text

    @property
    def broken(self) -> list[str]:
        return [name for name, level in self.levels.items() if level == "broken"]


def test_where_every_link_holds_it_ends_with_0(cluster: Cluster, shop: str) -> None:
    done = Examined(cluster, "--namespace", shop)

    assert done.broken == []
    assert done.status == 0
    # The image of the file as it stands is the one thing that is odd.
    assert {name for name, level in done.levels.items() if level != "ok"} == {"config"}


def test_as_a_process_it_prints_a_line_for_each_check(cluster: Cluster, shop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webhook.doctor", "-n", shop],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(cluster.server.kubeconfig)},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      dry run         a pod in" in done.stdout
    assert done.stdout.endswith("\nno link is broken\n")


@pytest.mark.parametrize(
    "flags",
    [
        ["--context", "nowhere"],
        ["--namespace", "No!"],
        ["--config", "/nowhere/config.yaml"],
        ["--kubeconfig", "/nowhere/config"],
        ["--odd"],
    ],
)
def test_wrong_usage_ends_with_2(cluster: Cluster, flags: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "webhook.doctor", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(cluster.server.kubeconfig)},
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@contextmanager
def without(cluster: Cluster, path: str) -> Iterator[None]:
    """Take an object away for a while; the file brings it back."""
    kind, name = path.rsplit("/", 2)[1:]
    place = ["-n", SYSTEM_NAMESPACE] if "/namespaces/" in path else []
    cluster.server.kubectl(*place, "delete", kind, name)
    try:
        yield
    finally:
        cluster.server.kubectl("apply", "-f", str(INSTALL))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (MUTATING, {"webhooks", "dry run"}),
        (VALIDATING, {"webhooks"}),
        (f"{SYSTEM}/configmaps/{CONFIG_MAP}", {"config"}),
        (f"{SYSTEM}/services/sidetail-webhook", {"endpoints", "dry run"}),
    ],
    ids=["mutating", "validating", "config", "service"],
)
def test_an_object_that_is_gone_is_named(
    cluster: Cluster, shop: str, path: str, named: set[str]
) -> None:
    with without(cluster, path):
        # The dry run asks an API server that learns of it a moment later, and knows Services here
        # by other means than an object.
        wait_for(lambda: set(Examined(cluster, "-n", shop).broken) >= named - {"dry run"})
        done = Examined(cluster, "-n", shop)
        assert set(done.broken) <= named
        assert done.status == 1
    wait_until_called(cluster)
    wait_for(lambda: Examined(cluster, "-n", shop).broken == [])  # the other bundle is written too


def test_without_replicas_each_link_that_hangs_on_them_is_named(
    cluster: Cluster, shop: str
) -> None:
    cluster.end_replicas()
    say_ready(cluster, 0)
    cluster.server.kubectl("-n", SYSTEM_NAMESPACE, "delete", "endpointslice", "x")
    try:
        done = Examined(cluster, "-n", shop)
        assert done.broken == ["replicas", "endpoints", "dry run"]
        assert done.status == 1

        # Nobody is there to repair it.
        cluster.api.patch(
            MUTATING,
            [{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}],
        )
        assert "certificate" in Examined(cluster, "-n", shop).broken
    finally:
        cluster.api.create(SLICES, endpoint_slice())
        say_ready(cluster, 2)
        cluster.start_replica()
        wait_until_called(cluster)
        wait_for(lambda: Examined(cluster, "-n", shop).broken == [])


def test_a_config_that_cannot_be_used_is_named(cluster: Cluster, shop: str) -> None:
    path = f"{SYSTEM}/configmaps/{CONFIG_MAP}"
    good = cluster.api.get(path)["data"]["config.yaml"]
    key = "/data/config.yaml"
    cluster.api.patch(path, [{"op": "replace", "path": key, "value": "on_error: explode"}])
    try:
        done = Examined(cluster, "-n", shop)
        assert done.broken == ["config"]
        assert "on_error" in done.text
    finally:
        cluster.api.patch(path, [{"op": "replace", "path": key, "value": good}])


def test_workloads_that_ask_in_vain_are_named_with_the_reason(cluster: Cluster) -> None:
    plain = cluster.namespace({})
    path = f"/apis/apps/v1/namespaces/{plain}/deployments"
    cluster.api.create(path, deployment("lost"))
    done = Examined(cluster, "-n", plain)
    assert done.broken == ["workloads"]
    assert f"kubectl label namespace {plain} sidetail.dev/inject=enabled" in done.text

    enabled = cluster.namespace({"sidetail.dev/inject": "enabled"})
    path = f"/apis/apps/v1/namespaces/{enabled}/deployments"
    cluster.api.create(path, deployment("forbidden", {PATHS: "/etc/app/*.log"}))
    done = Examined(cluster, "-n", enabled)
    assert done.broken == ["workloads"]
    assert "forbidden-directory" in done.text


def test_secrets_that_pods_need_are_named_and_their_values_never(
    cluster: Cluster, shop: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    row = {
        "name": "main", "type": "loki", "url": "https://loki.test",
        "credentials": {"secret": "loki-auth"},
    }  # fmt: skip
    file.write_text(json.dumps({"backends": [row]}))
    done = Examined(cluster, "-n", shop, "--config", str(file))
    assert done.levels["secrets"] == "odd"
    assert f"kubectl -n {shop} create secret generic loki-auth" in done.text

    cluster.server.kubectl(
        "-n", shop, "create", "secret", "generic", "loki-auth", "--from-literal=token=never-shown"
    )
    done = Examined(cluster, "-n", shop, "--config", str(file))
    assert done.levels["secrets"] == "ok"
    assert "never-shown" not in done.text


def test_a_developer_sees_his_namespace_and_is_told_what_he_may_not_see(
    cluster: Cluster, shop: str
) -> None:
    kubectl = cluster.server.kubectl
    kubectl("-n", shop, "create", "serviceaccount", "dev")
    # As `edit`, which a controller would fill.
    kubectl(
        "-n", shop, "create", "role", "dev", "--verb=get,list,create",
        "--resource=pods,secrets,namespaces,limitranges,deployments.apps,statefulsets.apps,"
        "daemonsets.apps,replicasets.apps,jobs.batch,cronjobs.batch",
    )  # fmt: skip
    kubectl(
        "-n", shop, "create", "rolebinding", "dev", "--role=dev", f"--serviceaccount={shop}:dev"
    )
    config = cluster.server.account_kubeconfig(shop, "dev")
    wait_for(lambda: Examined(cluster, "-n", shop, kubeconfig=config).levels["pods"] == "ok")
    done = Examined(cluster, "-n", shop, kubeconfig=config)

    assert done.status == 0
    assert done.levels["dry run"] == "ok"
    assert {name for name, level in done.levels.items() if level == "unseen"} >= {
        "native sidecars", "installed", "config", "replicas", "endpoints", "webhooks",
        "certificate",
    }  # fmt: skip
    assert "not allowed to look" in done.text


def test_the_webhooks_own_account_may_ask_too(cluster: Cluster, shop: str) -> None:
    ours = cluster.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-webhook")
    done = Examined(cluster, "-n", shop, kubeconfig=ours)

    assert done.broken == []
    assert done.status == 0
    assert done.levels["namespaces"] == done.levels["pods"] == "ok"


def test_pods_that_no_replica_looked_at_are_counted_told_and_named(cluster: Cluster) -> None:
    place = cluster.namespace({"sidetail.dev/inject": "enabled"})
    cluster.end_replicas()
    uid = str(uuid.uuid4())
    owner = {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": uid,
        "controller": True,
    }  # fmt: skip
    pods = [cluster.create(place, a_pod(ownerReferences=[owner])) for _ in range(3)]
    asks_nothing = a_pod()
    del asks_nothing["metadata"]["annotations"]
    cluster.create(place, asks_nothing)
    assert not any(is_injected(pod) for pod in pods)
    replicas = [cluster.start_replica(), cluster.start_replica()]

    def missed() -> list[float]:
        name = "sidetail_missed_pods"
        return [one.metrics().total(name, pod_namespace=place) for one in replicas]

    wait_for(lambda: missed() == [3, 3])
    wait_for(lambda: len(events_about(cluster, place, uid)) == 1)
    (event,) = events_about(cluster, place, uid)
    assert (event["reason"], event["type"]) == ("LogsMissed", "Warning")
    watched = "sidetail_missed_pods_watched"
    wait_for(lambda: all(one.metrics().total(watched) == 1 for one in replicas))
    done = Examined(cluster, "-n", place)
    assert done.broken == ["pods"]
    assert "web-5d4f: nobody looked at pod" in done.text

    for pod in pods:
        path = f"/api/v1/namespaces/{place}/pods/{pod['metadata']['name']}"
        done_with = [{"op": "add", "path": "/status/phase", "value": "Failed"}]
        cluster.api.patch(f"{path}/status", done_with)
    wait_for(lambda: missed() == [0, 0])
    assert Examined(cluster, "-n", place).broken == []
    assert len(events_about(cluster, place, uid)) == 1


def events_about(cluster: Cluster, namespace: str, uid: str) -> list[Json]:
    events = cluster.api.get(f"/api/v1/namespaces/{namespace}/events")["items"]
    return [event for event in events if event["involvedObject"]["uid"] == uid]


def test_without_the_right_to_pods_the_webhook_says_so_once_and_goes_on(
    cluster: Cluster, shop: str
) -> None:
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/sidetail-webhook"
    rules = cluster.api.get(role)["rules"]
    kept = [rule for rule in rules if rule["resources"] != ["pods"]]
    assert len(kept) == len(rules) - 1
    cluster.api.patch(role, [{"op": "replace", "path": "/rules", "value": kept}])
    ours = cluster.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-webhook")
    wait_for(lambda: is_forbidden(cluster, ours))
    try:
        replica = cluster.start_replica()
        sentence = "the account may not watch this; the webhook does without"
        wait_for(lambda: bool(replica.said(sentence)))
        assert is_injected(cluster.create(shop, a_pod()))
        assert replica.metrics().total("sidetail_missed_pods_watched") == 0
    finally:
        cluster.api.patch(role, [{"op": "replace", "path": "/rules", "value": rules}])


def is_forbidden(cluster: Cluster, kubeconfig: Path) -> bool:
    try:
        cluster.server.api_as(kubeconfig).get("/api/v1/pods", {"limit": "1"})
    except StatusError as error:
        return error.status == 403
    return False
