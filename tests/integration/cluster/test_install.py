"""install.yaml on a real API server: two webhook processes with just the rights it gives them.

There is no kubelet and no controller: pods stay Pending, and what a controller would create is
created here with the owner that it would have.
"""

import base64
import json
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from certs.keep import Place
from contract.annotations import PATHS, STATUS
from contract.names import SYSTEM_NAMESPACE
from manifests.build import INSTALL, render
from runtime.kube import Json, KubeApi, StatusError
from tests.installation import (
    MUTATING,
    SECRETS,
    VALIDATING,
    Cluster,
    a_pod,
    configurations,
    install,
    is_injected,
)
from tests.kube import ApiServer, api_server, wait_for, whole_cluster
from tests.manifests.objects import documents, find, rendered

__all__ = ["api_server", "whole_cluster"]

pytestmark = [pytest.mark.kube, pytest.mark.timeout(600)]

GOLDEN = Path(__file__).with_name("rights.txt")


@pytest.fixture(scope="module")
def cluster(
    whole_cluster: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with install(whole_cluster, tmp_path_factory.mktemp("install")) as made:
        yield made


@pytest.fixture(scope="module")
def labelled(cluster: Cluster) -> str:
    """A namespace with the label, which also enforces the strictest Pod Security."""
    name = cluster.namespace(
        {"sidetail.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted"}
    )
    cluster.wait_until_called(name)
    return name


@pytest.fixture(scope="module")
def plain(cluster: Cluster, labelled: str) -> str:
    return cluster.namespace({})


def test_a_pod_of_a_labelled_namespace_is_injected_and_passes_restricted(
    cluster: Cluster, labelled: str
) -> None:
    pod = cluster.create(labelled, a_pod())

    assert is_injected(pod)
    sidecar = find_container(pod, "sidetail")
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["ports"] == [{"name": "sidetail", "containerPort": 19095, "protocol": "TCP"}]


def find_container(pod: Json, name: str) -> Json:
    return next(
        one
        for one in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
        if one["name"] == name
    )


@pytest.mark.parametrize(
    ("label", "expected"), [(None, True), ("true", True), ("yes", True), ("false", False)]
)
def test_the_truth_table_with_the_namespaces_label(
    cluster: Cluster, labelled: str, label: str | None, expected: bool
) -> None:
    labels = {} if label is None else {"sidetail.dev/inject": label}

    assert is_injected(cluster.create(labelled, a_pod(labels=labels))) is expected


@pytest.mark.parametrize(
    ("label", "expected"), [(None, False), ("true", True), ("yes", False), ("false", False)]
)
def test_the_truth_table_without_the_namespaces_label(
    cluster: Cluster, plain: str, label: str | None, expected: bool
) -> None:
    labels = {} if label is None else {"sidetail.dev/inject": label}

    assert is_injected(cluster.create(plain, a_pod(labels=labels))) is expected


def test_annotations_of_the_namespace_ask_for_its_pods(cluster: Cluster, labelled: str) -> None:
    del labelled  # the webhook is known to be called
    name = cluster.namespace(
        {"sidetail.dev/inject": "enabled"}, {PATHS: "/var/log/app/from-namespace.log"}
    )
    pod = a_pod()
    del pod["metadata"]["annotations"]
    # It is in memory as soon as the watch has said so.
    cluster.wait_until_injected(name, pod)


def test_a_dry_run_shows_what_would_come(cluster: Cluster, labelled: str) -> None:
    pod = cluster.api.create(f"/api/v1/namespaces/{labelled}/pods", a_pod(), {"dryRun": "All"})

    assert is_injected(pod)


WORKLOADS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


def a_workload(kind: str, namespace: str, annotations: dict[str, str]) -> Json:
    """Return a workload whose template is wrong in nothing; `annotations` are its own."""
    template: Json = {"metadata": {"labels": {"app": "x"}}, "spec": a_pod()["spec"]}
    spec: Json = {"template": template}
    if kind in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}:
        spec["selector"] = {"matchLabels": {"app": "x"}}
    else:
        template["spec"]["restartPolicy"] = "Never"
    if kind == "StatefulSet":
        spec["serviceName"] = "x"
    if kind == "CronJob":
        spec = {"schedule": "0 0 * * *", "jobTemplate": {"spec": spec}}
    return {
        "apiVersion": WORKLOADS[kind],
        "kind": kind,
        "metadata": {"name": "x", "namespace": namespace, "annotations": annotations},
        "spec": spec,
    }


@pytest.mark.parametrize("kind", WORKLOADS)
def test_who_applies_a_workload_is_warned_of_annotations_in_the_wrong_place(
    cluster: Cluster, labelled: str, kind: str
) -> None:
    wrong = a_workload(kind, labelled, {PATHS: "/var/log/app/*.log"})
    right = a_workload(kind, labelled, {})

    def apply(workload: Json) -> str:
        return cluster.server.kubectl(
            "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(workload)
        ).stderr

    assert PATHS in apply(wrong)
    assert apply(right) == ""


def test_an_event_on_the_owner_says_what_is_left_out(cluster: Cluster, labelled: str) -> None:
    uid = str(uuid.uuid4())
    owner = {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": uid,
        "controller": True,
    }  # fmt: skip
    bad = a_pod(annotations={PATHS: "/var/log/app/ok.log,/etc/passwd"}, ownerReferences=[owner])
    cluster.create(labelled, bad)

    def told() -> bool:
        events = cluster.api.get(f"/api/v1/namespaces/{labelled}/events")["items"]
        return any(
            event["involvedObject"]["uid"] == uid and event["type"] == "Warning" for event in events
        )

    wait_for(told)


def test_the_certificate_that_is_served_is_the_secrets_and_the_bundle_knows_its_ca(
    cluster: Cluster, labelled: str
) -> None:
    del labelled
    secret = cluster.api.get(f"{SECRETS}/{Place().secret}")["data"]
    bundles = {
        entry["clientConfig"]["caBundle"]
        for path in (MUTATING, VALIDATING)
        for entry in cluster.api.get(path)["webhooks"]
    }
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret["tls.crt"]))

    assert bundles == {secret["ca.crt"]}
    leaf.verify_directly_issued_by(
        x509.load_pem_x509_certificate(base64.b64decode(secret["ca.crt"]))
    )
    for replica in cluster.replicas:
        assert replica.metrics().total("sidetail_ca_bundle_in_sync") == 1


def versions(cluster: Cluster) -> dict[str, str]:
    """Return the version of each object of the file, as it is stored."""
    found = json.loads(cluster.server.kubectl("get", "-f", str(INSTALL), "-o", "json").stdout)
    return {
        f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"]
        for one in found["items"]
    }


def test_applying_the_file_again_changes_nothing(cluster: Cluster, labelled: str) -> None:
    before = versions(cluster)
    cluster.server.kubectl("apply", "-f", str(INSTALL))

    assert versions(cluster) == before
    assert is_injected(cluster.create(labelled, a_pod()))


def test_a_bundle_that_is_wiped_by_hand_is_repaired_within_thirty_seconds(
    cluster: Cluster, labelled: str
) -> None:
    for path in (MUTATING, VALIDATING):
        entries = cluster.api.get(path)["webhooks"]
        cluster.api.patch(
            path,
            [
                {"op": "replace", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": ""}
                for index in range(len(entries))
            ],
        )
    wiped_at = time.monotonic()
    cluster.wait_until_called(labelled)

    assert time.monotonic() - wiped_at <= 30


def test_a_secret_that_is_deleted_comes_back_and_no_pod_is_missed(
    cluster: Cluster, labelled: str
) -> None:
    cluster.server.kubectl("-n", SYSTEM_NAMESPACE, "delete", "secret", Place().secret)
    missed = 0

    def is_back() -> bool:
        nonlocal missed
        missed += not is_injected(cluster.create(labelled, a_pod()))
        try:
            return bool(cluster.api.get(f"{SECRETS}/{Place().secret}"))
        except StatusError:
            return False

    wait_for(is_back)
    assert missed == 0


def test_of_the_replicas_one_is_enough(cluster: Cluster, labelled: str) -> None:
    again = cluster.start_replica()
    for other in cluster.replicas[:-1]:
        other.end()
    cluster.replicas[:-1] = []
    cluster.route()

    assert is_injected(cluster.create(labelled, a_pod()))
    assert again.metrics().total("sidetail_ca_bundle_in_sync") == 1


def test_with_no_replica_pods_start_as_they_are(cluster: Cluster, labelled: str) -> None:
    cluster.end_replicas()
    try:
        pod = cluster.create(labelled, a_pod())

        assert not is_injected(pod)
        assert STATUS not in pod["metadata"]["annotations"]
    finally:
        cluster.start_replica()
        cluster.wait_until_called(labelled)


def test_closed_pods_of_the_label_wait_and_ours_do_not(cluster: Cluster, labelled: str) -> None:
    closed = find(rendered("fail-closed"), "MutatingWebhookConfiguration", "sidetail")
    cluster.server.kubectl("apply", "-f", "-", stdin=json.dumps(closed))
    cluster.end_replicas()
    try:
        wait_for(lambda: is_refused(cluster, labelled))
        ours = find(documents(INSTALL), "Deployment", "sidetail-webhook")["spec"]["template"]
        ours = {"apiVersion": "v1", "kind": "Pod", **ours}
        ours["metadata"] = {**ours["metadata"], "generateName": "sidetail-webhook-"}
        assert cluster.create(SYSTEM_NAMESPACE, ours)["metadata"]["name"]
        assert cluster.create("kube-system", a_pod())["metadata"]["name"]
    finally:
        opened = find(documents(INSTALL), "MutatingWebhookConfiguration", "sidetail")
        cluster.server.kubectl("apply", "-f", "-", stdin=json.dumps(opened))
        cluster.start_replica()
        cluster.wait_until_called(labelled)


def is_refused(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.create(namespace, a_pod())
    except StatusError as error:
        return error.status == 500
    return False


def test_the_account_may_do_what_a_golden_file_says(cluster: Cluster) -> None:
    """What every account may do is left out: it differs from version to version."""

    def rights(account: str) -> set[str]:
        done = cluster.server.kubectl(
            "auth", "can-i", "--list", "-n", SYSTEM_NAMESPACE,
            f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:{account}",
            "--as-group=system:serviceaccounts", "--as-group=system:authenticated",
        )  # fmt: skip
        return {" ".join(line.split()) for line in done.stdout.splitlines()[1:]}

    ours = "".join(f"{row}\n" for row in sorted(rights("sidetail-webhook") - rights("nobody")))
    assert ours == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("get", "secrets/other"),
        ("list", "secrets"),
        ("delete", f"secrets/{Place().secret}"),
        ("update", "mutatingwebhookconfigurations/sidetail"),
        ("patch", "mutatingwebhookconfigurations/other"),
        ("create", "mutatingwebhookconfigurations"),
        ("delete", "mutatingwebhookconfigurations/sidetail"),
        ("create", "pods"),
        ("delete", "pods"),
        ("get", "pods --subresource=log"),
        ("create", "pods --subresource=exec"),
        ("get", "configmaps/sidetail-config"),
        ("create", "serviceaccounts/sidetail-webhook/token"),
        ("impersonate", "users"),
    ],
)
def test_the_account_may_not(cluster: Cluster, verb: str, what: str) -> None:
    done = cluster.server.kubectl(
        "auth", "can-i", verb, *what.split(), "-n", SYSTEM_NAMESPACE,
        f"--as=system:serviceaccount:{SYSTEM_NAMESPACE}:sidetail-webhook",
        check=False,
    )  # fmt: skip

    assert done.stdout.strip() == "no"


@pytest.fixture
def policies(cluster: Cluster, labelled: str) -> Iterator[None]:
    """What overlay `policy` adds, in force."""
    del labelled
    added = [one for one in rendered("policy") if one["kind"].startswith("ValidatingAdmission")]
    text = yaml.safe_dump_all(added)
    assert cluster.server.kubectl("apply", "-f", "-", stdin=text).stderr == ""
    try:
        ours = cluster.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-webhook")
        wait_for(lambda: is_forbidden(cluster.server.api_as(ours), [retimed()]))
        yield
    finally:
        cluster.server.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text)
        cluster.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(configurations()))


def retimed() -> Json:
    """Return an operation that changes something each time: no change is no offence."""
    value = random.randrange(6, 30)
    return {"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": value}


def is_forbidden(api: KubeApi, operations: list[Json], path: str = MUTATING) -> bool:
    try:
        api.patch(path, operations)
    except StatusError as error:
        return "this account may" in error.message
    return False


STOLEN: dict[str, Json] = {
    "another service": {
        "op": "replace", "path": "/webhooks/0/clientConfig/service/namespace", "value": "evil",
    },
    "another path": {
        "op": "replace", "path": "/webhooks/0/clientConfig/service/path", "value": "/evil",
    },
    "all pods": {"op": "remove", "path": "/webhooks/0/objectSelector"},
    "all namespaces": {"op": "remove", "path": "/webhooks/1/namespaceSelector"},
    "more resources": {
        "op": "add", "path": "/webhooks/0/rules/0/resources/-", "value": "secrets",
    },
    "fail": {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"},
    "condition": {
        "op": "add", "path": "/webhooks/0/matchConditions",
        "value": [{"name": "never", "expression": "false"}],
    },
    "no entry": {"op": "remove", "path": "/webhooks/1"},
    "label": {"op": "add", "path": "/metadata/labels/x", "value": "y"},
    "annotation": {"op": "add", "path": "/metadata/annotations/x", "value": "y"},
    "finalizer": {"op": "add", "path": "/metadata/finalizers", "value": ["evil.example/x"]},
}  # fmt: skip


def test_with_the_policy_a_stolen_account_can_change_the_ca_bundle_alone(
    cluster: Cluster, labelled: str, policies: None
) -> None:
    ours = cluster.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-webhook")
    api = cluster.server.api_as(ours)
    for what, operation in STOLEN.items():
        assert is_forbidden(api, [operation]), what
    assert is_forbidden(api, [retimed()], VALIDATING)

    bundle = {"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}
    api.patch(MUTATING, [bundle])
    cluster.wait_until_called(labelled)  # repaired by the webhook, which the policy does not hinder


def test_the_policy_binds_nobody_else(cluster: Cluster, policies: None) -> None:
    cluster.api.patch(MUTATING, [retimed()])


def warnings_for(cluster: Cluster, namespace: str, pod: Json) -> str:
    pod = json.loads(json.dumps(pod))
    pod["metadata"].update(name=f"x-{uuid.uuid4().hex}", namespace=namespace)
    pod["metadata"].pop("generateName", None)
    return cluster.server.kubectl(
        "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod)
    ).stderr


def test_the_policy_warns_of_a_pod_that_asked_and_was_missed(
    cluster: Cluster, labelled: str, plain: str, policies: None
) -> None:
    asked_nothing = a_pod()
    del asked_nothing["metadata"]["annotations"]
    by_label = {**asked_nothing, "metadata": {"labels": {"sidetail.dev/inject": "true"}}}
    refused = a_pod(labels={"sidetail.dev/inject": "false"})
    assert warnings_for(cluster, labelled, a_pod()) == ""

    cluster.end_replicas()
    try:
        wait_for(lambda: "Sidetail was not asked" in warnings_for(cluster, labelled, a_pod()))
        assert "Sidetail was not asked" in warnings_for(cluster, plain, by_label)
        assert "Sidetail" not in warnings_for(cluster, labelled, asked_nothing)
        assert "Sidetail" not in warnings_for(cluster, labelled, refused)
        assert "Sidetail" not in warnings_for(cluster, plain, a_pod())
    finally:
        cluster.start_replica()
        cluster.wait_until_called(labelled)


def test_the_policy_warns_of_a_sidecar_that_was_taken_out_again(
    cluster: Cluster, plain: str, policies: None
) -> None:
    """As another plugin would leave the pod; nobody is asked about it, so this stands for that."""
    status = {STATUS: json.dumps({"outcome": "injected", "collector": "sidecar"})}
    skipped = {STATUS: json.dumps({"outcome": "skipped", "collector": "sidecar"})}
    by_node = {STATUS: json.dumps({"outcome": "injected", "collector": "node"})}
    cluster.end_replicas()
    try:

        def warned(annotations: dict[str, str]) -> bool:
            pod = a_pod(labels={"sidetail.dev/inject": "true"}, annotations=annotations)
            return "taken out" in warnings_for(cluster, plain, pod)

        wait_for(lambda: warned(status))  # two policies are not in force at the same moment
        assert not warned(skipped)
        assert not warned(by_node)
    finally:
        cluster.start_replica()


def test_with_match_conditions_who_is_asked_stays_the_same(cluster: Cluster, labelled: str) -> None:
    matched = [one for one in rendered("match") if one["kind"].endswith("WebhookConfiguration")]
    applied = cluster.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(matched))
    try:
        assert applied.stderr == ""
        assert is_injected(cluster.create(labelled, a_pod()))
        wrong = a_workload("ReplicaSet", labelled, {PATHS: "/x"})
        create = ("create", "--dry-run=server", "-f", "-")
        assert PATHS in cluster.server.kubectl(*create, stdin=json.dumps(wrong)).stderr
        wrong["metadata"]["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": str(uuid.uuid4()),
             "controller": True}
        ]  # fmt: skip
        assert cluster.server.kubectl(*create, stdin=json.dumps(wrong)).stderr == ""
    finally:
        cluster.server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(configurations()))


@pytest.mark.parametrize("overlay", ["ha", "fail-closed", "restricted", "match"])
def test_the_api_server_takes_each_overlay_without_a_warning(
    cluster: Cluster, overlay: str
) -> None:
    objects = render(INSTALL.parent / "overlays" / overlay)
    done = cluster.server.kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects)
    )

    assert done.stderr == ""


def test_uninstalled_by_the_file_pods_start_and_those_that_run_are_unharmed(
    cluster: Cluster, labelled: str
) -> None:
    running = cluster.create(labelled, a_pod())
    gone = cluster.server.kubectl("delete", "--wait=false", "-f", str(INSTALL)).stdout.splitlines()
    try:
        assert "mutatingwebhookconfiguration" in gone[0]
        assert "validatingwebhookconfiguration" in gone[1]
        assert not is_injected(cluster.create(labelled, a_pod()))
        path = f"/api/v1/namespaces/{labelled}/pods/{running['metadata']['name']}"
        assert cluster.api.get(path)["spec"] == running["spec"]
    finally:
        reinstall(cluster)
        cluster.wait_until_called(labelled)


def reinstall(cluster: Cluster) -> None:
    """Finish what the namespace's controller would have done, and apply the file again."""
    cluster.end_replicas()
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"
    namespace = cluster.api.get(path)
    namespace["spec"]["finalizers"] = []
    cluster.api.replace(f"{path}/finalize", namespace)
    cluster.server.kubectl("apply", "-f", str(INSTALL))
    cluster.start_replica()
