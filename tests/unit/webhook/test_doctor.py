"""The doctor on a cluster in memory: each link up to the webhook is broken, and named."""

import base64
from datetime import timedelta

import pytest

from certs.issue import issue_ca, issue_leaf, service_names
from certs.keep import Place as CertificatePlace
from certs.system import SystemRandomness
from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube import StatusError
from tests.doctor import examined, named, said
from tests.fakes.healthy import (
    AUTHORITY,
    CONFIG,
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEAF,
    MUTATING,
    NAMESPACES,
    NODES,
    NOW,
    OTHER_AUTHORITY,
    PODS,
    SECRETS,
    SERVICES,
    SLICES,
    VALIDATING,
    HealthyCluster,
    endpoint_slice,
    namespace,
    node,
    pod,
)
from tests.fakes.kube_api import refused, unreachable
from tests.manifests.objects import OVERLAYS
from webhook.doctor.checkup import CHECKS
from webhook.doctor.findings import (
    Level,
    shown,
)

RANDOM = SystemRandomness()
NAMES = service_names("sidetail-webhook", SYSTEM_NAMESPACE)


@pytest.fixture
def cluster():
    return HealthyCluster()


def test_in_a_healthy_cluster_every_link_holds(cluster):
    results = examined(cluster)

    assert list(results) == [check.name for check in CHECKS]
    assert {name: one.level for name, one in results.items()} == dict.fromkeys(results, Level.OK)
    assert cluster.created == [
        (path, body) for path, body in cluster.created if path.endswith("accessreviews")
    ]


@pytest.mark.parametrize("overlay", [path.name for path in OVERLAYS])
def test_every_overlay_is_healthy_too(overlay):
    cluster = HealthyCluster(overlay)
    if overlay == "cert-manager":
        certificate = cluster.take(SECRETS, CertificatePlace().secret, SYSTEM_NAMESPACE)
        certificate["metadata"]["name"] = "sidetail-webhook-cert-manager"
        cluster.put(SECRETS, certificate)
        cluster.remove(SECRETS, f"{SYSTEM_NAMESPACE}/{CertificatePlace().secret}")

    assert named(cluster, Level.UNSEEN) == []


def test_it_is_one_line_a_check_then(cluster):
    text = "".join(shown(result) for result in examined(cluster).values())

    lines = [line for line in text.splitlines() if not line.startswith(" ")]
    assert len(lines) == len(CHECKS)
    assert all(line.startswith("ok ") for line in lines)


# --- versions ---------------------------------------------------------------------------------


def test_an_api_server_that_is_too_old_is_named(cluster):
    cluster.version |= {"minor": "24", "gitVersion": "v1.24.9"}

    assert named(cluster) == ["api server"]
    assert "v1.24.9" in said(cluster, "api server")


def test_an_old_kubelet_is_named_with_what_follows(cluster):
    cluster.put(NODES, node("old", "v1.28.1"))

    assert named(cluster) == []
    assert "old: 1.28" in said(cluster, "native sidecars")
    assert "left alone" in said(cluster, "native sidecars")


@pytest.mark.parametrize("minor", ["25", "28"])
def test_an_api_server_without_native_sidecars_is_odd_and_not_broken(cluster, minor):
    cluster.version["minor"] = minor

    assert named(cluster, Level.ODD) == ["native sidecars"]


@pytest.mark.parametrize(("minor", "level"), [("31", Level.ODD), ("32", Level.OK)])
def test_a_cluster_without_nodes_is_as_new_as_the_oldest_that_may_join(cluster, minor, level):
    cluster.remove(NODES, "node-1")
    cluster.version["minor"] = minor
    result = examined(cluster)["native sidecars"]

    assert result.level is level
    assert "there is no node" in shown(result)


def test_an_api_server_that_does_not_answer_is_asked_once(cluster):
    cluster.refusal = lambda _verb, _path: unreachable()

    assert list(examined(cluster)) == ["api server"]
    assert named(cluster) == ["api server"]


def test_credentials_that_are_not_taken_are_named(cluster):
    cluster.refusal = lambda _verb, _path: refused(401)

    assert named(cluster) == ["api server"]
    assert "credentials" in said(cluster, "api server")


# --- installation -----------------------------------------------------------------------------


def test_without_the_namespace_nothing_is_installed(cluster):
    cluster.remove(NAMESPACES, SYSTEM_NAMESPACE)
    results = examined(cluster)

    assert results["installed"].level is Level.BROKEN
    assert "not installed" in shown(results["installed"])
    for name in ("config", "replicas", "endpoints", "certificate", "dry run"):
        assert results[name].level is Level.UNSEEN
    assert results["webhooks"].level is Level.BROKEN
    assert "mutating webhook configuration is left over" in shown(results["webhooks"])
    cluster.remove(MUTATING, "sidetail")
    cluster.remove(VALIDATING, "sidetail")
    assert "webhooks" not in named(cluster)


def test_a_namespace_that_is_being_deleted_is_named(cluster):
    found = cluster.take(NAMESPACES, SYSTEM_NAMESPACE)
    found["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    cluster.put(NAMESPACES, found)

    assert named(cluster) == ["installed"]


def test_another_system_namespace_can_be_named(cluster):
    assert "installed" in named(cluster, system="logging")
    assert "logging" in said(cluster, "installed", system="logging")


def test_a_config_map_that_is_gone_is_named(cluster):
    cluster.remove(CONFIG_MAPS, f"{SYSTEM_NAMESPACE}/{CONFIG_MAP}")

    assert named(cluster) == ["config"]


def test_a_config_that_cannot_be_used_is_named_with_each_problem(cluster):
    cluster.configure({"imgae": "x", "on_error": "explode"})

    assert named(cluster) == ["config"]
    text = said(cluster, "config")
    assert "imgae" in text
    assert "on_error" in text


def test_an_image_that_was_never_named_is_odd(cluster):
    cluster.configure({key: value for key, value in CONFIG.items() if key != "image"})

    assert named(cluster, Level.ODD) == ["config"]
    assert "registry.example/" in said(cluster, "config")


def with_status(cluster, **status):
    found = cluster.take(DEPLOYMENTS, "sidetail-webhook", SYSTEM_NAMESPACE)
    cluster.put(DEPLOYMENTS, found | {"status": status})


def replica(name, **status):
    found = pod(name, in_namespace=SYSTEM_NAMESPACE)
    found["metadata"]["labels"] = {
        "app.kubernetes.io/name": "sidetail", "app.kubernetes.io/component": "webhook",
    }  # fmt: skip
    return found | {"status": status}


def test_replicas_that_do_not_start_are_named_with_the_reason(cluster):
    with_status(cluster, replicas=2)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    unschedulable = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3",
    }  # fmt: skip
    cluster.put(PODS, replica("a", containerStatuses=[{"name": "webhook", "state": waiting}]))
    cluster.put(PODS, replica("b", conditions=[unschedulable]))

    assert named(cluster) == ["replicas"]
    text = said(cluster, "replicas")
    assert "a: ImagePullBackOff: no such image" in text
    assert "b: Unschedulable: 0/3" in text


def test_one_replica_of_two_is_odd(cluster):
    with_status(cluster, replicas=2, readyReplicas=1)
    crashed = {
        "name": "webhook",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 2}},
    }
    cluster.put(PODS, replica("a", containerStatuses=[crashed]))
    cluster.put(PODS, replica("b", conditions=[{"type": "Ready", "status": "True"}]))

    assert named(cluster, Level.ODD) == ["replicas"]
    assert "CrashLoopBackOff (ended with status 2)" in said(cluster, "replicas")
    assert "b:" not in said(cluster, "replicas")


def test_a_deployment_scaled_to_nothing_or_gone_is_named(cluster):
    found = cluster.take(DEPLOYMENTS, "sidetail-webhook", SYSTEM_NAMESPACE)
    found["spec"]["replicas"] = 0
    cluster.put(DEPLOYMENTS, found)
    assert "scale deployment" in said(cluster, "replicas")
    cluster.remove(DEPLOYMENTS, f"{SYSTEM_NAMESPACE}/sidetail-webhook")

    assert named(cluster) == ["replicas"]


def test_a_service_without_endpoints_is_named(cluster):
    cluster.put(SLICES, endpoint_slice({"ready": False}))
    assert named(cluster) == ["endpoints"]
    cluster.put(SLICES, endpoint_slice({}))
    assert named(cluster) == []
    cluster.remove(SERVICES, f"{SYSTEM_NAMESPACE}/sidetail-webhook")

    assert named(cluster) == ["endpoints"]


# --- trust ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [MUTATING, VALIDATING])
def test_a_configuration_that_is_gone_is_named(cluster, path):
    cluster.remove(path, "sidetail")

    assert named(cluster) == ["webhooks"]


def change_entry(cluster, path, change):
    found = cluster.take(path, "sidetail")
    change(found["webhooks"])
    cluster.put(path, found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows.pop(), "labelled-pods.sidetail.dev is not there"),
        (lambda rows: rows[0]["clientConfig"]["service"].update(namespace="x"), "leads to"),
        (lambda rows: rows[0]["clientConfig"]["service"].update(path="/validate"), "leads to"),
        (lambda rows: rows[0]["rules"][0].update(operations=["UPDATE"]), "its rules"),
        (lambda rows: rows[0].update(rules=None), "its rules"),
    ],
)
def test_an_entry_that_was_changed_is_named(cluster, change, expected):
    change_entry(cluster, MUTATING, change)

    assert named(cluster) == ["webhooks"]
    assert expected in said(cluster, "webhooks")


def test_an_entry_with_a_way_of_its_own_is_left_to_its_owner(cluster):
    def go_elsewhere(rows):
        for row in rows:
            row["clientConfig"] = {"url": "https://elsewhere.test/mutate"}

    change_entry(cluster, MUTATING, go_elsewhere)

    assert named(cluster) == []


def test_a_closed_registration_is_shown(cluster):
    change_entry(cluster, MUTATING, lambda rows: rows[0].update(failurePolicy="Fail"))

    assert "pods wait" in said(cluster, "webhooks")


@pytest.mark.parametrize(
    ("bundle", "expected"),
    [
        (b"", "is empty"),
        (b"garbage", "is empty"),
        (OTHER_AUTHORITY.certificate, "does not hold the CA"),
        (
            issue_ca(
                now=NOW - timedelta(days=30), random=RANDOM, life=timedelta(days=1)
            ).certificate,
            "has expired",
        ),
    ],
    ids=["empty", "garbage", "another", "expired"],
)
def test_a_bundle_that_does_not_fit_is_named(cluster, bundle, expected):
    cluster.trust(bundle)

    assert named(cluster) == ["certificate"]
    assert expected in said(cluster, "certificate")


def test_during_a_rotation_two_cas_are_right(cluster):
    cluster.trust(OTHER_AUTHORITY.certificate + AUTHORITY.certificate)

    assert named(cluster) == []


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        (b"", "no serving certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no serving"),
        (
            issue_leaf(
                AUTHORITY, NAMES, now=NOW, random=RANDOM, life=timedelta(seconds=-60)
            ).certificate,
            "not valid now",
        ),
        (
            issue_leaf(AUTHORITY, ["other.svc"], now=NOW, random=RANDOM).certificate,
            "not for sidetail-webhook.sidetail-system.svc",
        ),
    ],
    ids=["empty", "garbage", "expired", "another name"],
)
def test_a_certificate_that_cannot_be_served_is_named(cluster, certificate, expected):
    cluster.serve(certificate)

    assert named(cluster) == ["certificate"]
    assert expected in said(cluster, "certificate")


def test_a_certificate_that_nobody_renews_is_odd(cluster):
    leaf = issue_leaf(AUTHORITY, NAMES, now=NOW, random=RANDOM, life=timedelta(hours=20))
    cluster.serve(leaf.certificate)

    assert named(cluster, Level.ODD) == ["certificate"]


def test_a_secret_that_is_gone_is_named_and_a_mounted_one_is_looked_at_instead(cluster):
    cluster.remove(SECRETS, f"{SYSTEM_NAMESPACE}/{CertificatePlace().secret}")
    assert named(cluster) == ["certificate"]
    found = cluster.take(DEPLOYMENTS, "sidetail-webhook", SYSTEM_NAMESPACE)
    mounted = {"name": "certificates", "secret": {"secretName": "from-cert-manager"}}
    found["spec"]["template"]["spec"]["volumes"].append(mounted)
    cluster.put(DEPLOYMENTS, found)
    assert "from-cert-manager" in said(cluster, "certificate")
    data = {"tls.crt": base64.b64encode(LEAF.certificate).decode()}
    metadata = {"name": "from-cert-manager", "namespace": SYSTEM_NAMESPACE}
    cluster.put(SECRETS, {"metadata": metadata, "data": data})

    assert named(cluster) == []


# --- the trial --------------------------------------------------------------------------------


def test_a_webhook_that_is_not_asked_is_named_for_both_entries(cluster):
    cluster.is_asked = False

    assert named(cluster) == ["dry run"]
    text = said(cluster, "dry run")
    assert "a pod in shop comes back as it was" in text
    assert "a pod in default with label sidetail.dev/inject=true comes back as it was" in text
    assert "port 8443" in text


def answering(cluster, error):
    before = cluster.on_create

    def create(path, body):
        if path.endswith("/pods"):
            raise error
        return before(path, body)

    cluster.on_create = create


def test_what_the_api_server_says_of_a_closed_webhook_is_passed_on(cluster):
    message = 'failed calling webhook "labelled-pods.sidetail.dev": connect: connection refused'
    answering(cluster, StatusError("POST /", 500, "InternalError", message))

    assert named(cluster) == ["dry run"]
    assert "connection refused" in said(cluster, "dry run")


def test_a_pod_that_a_policy_refuses_tells_nothing(cluster):
    answering(cluster, StatusError("POST /", 403, "Forbidden", "exceeded quota"))
    result = examined(cluster)["dry run"]

    assert result.level is Level.UNSEEN
    assert "exceeded quota" in shown(result)


def test_where_one_namespace_refuses_it_another_is_tried(cluster):
    cluster.put(NAMESPACES, namespace("a-strict-one", {"sidetail.dev/inject": "enabled"}))
    going = namespace("a-terminating-one", {"sidetail.dev/inject": "enabled"})
    going["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    cluster.put(NAMESPACES, going)
    before = cluster.on_create

    def create(path, body):
        if "/a-" in path:
            raise StatusError("POST /", 403, "Forbidden", "exceeded quota")
        return before(path, body)

    cluster.on_create = create

    assert "a pod in shop is injected" in said(cluster, "dry run")
    assert "terminating" not in said(cluster, "namespaces")


def test_who_may_create_no_pods_is_told_so(cluster):
    cluster.may_create_pods = False
    result = examined(cluster)["dry run"]

    assert result.level is Level.UNSEEN
    assert "not allowed to create pods in shop" in shown(result)


def test_a_pod_of_which_a_part_is_left_out_shows_that_the_webhook_was_asked(cluster):
    cluster.configure(CONFIG | {"tenant_keys": ["stdout"]})

    assert "not-allowed" in said(cluster, "dry run")
    assert examined(cluster)["dry run"].level is Level.ODD


def test_a_sidecar_that_is_taken_out_again_is_named(cluster):
    before = cluster.on_create

    def create(path, body):
        answer = before(path, body)
        answer.get("spec", {}).pop("initContainers", None)
        return answer

    cluster.on_create = create

    assert named(cluster) == ["dry run"]
    assert "another plugin" in said(cluster, "dry run")
