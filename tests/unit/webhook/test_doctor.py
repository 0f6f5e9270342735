"""The doctor on a cluster in memory: each link is broken on purpose, and it is named."""

import base64
import json
from datetime import timedelta

import pytest

from certs.issue import issue_ca, issue_leaf, service_names
from certs.keep import Place as CertificatePlace
from certs.system import SystemRandomness
from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from runtime.kube import StatusError
from tests.fakes.healthy import (
    AUTHORITY,
    CONFIG,
    CONFIG_MAPS,
    DEPLOYMENTS,
    JOBS,
    LEAF,
    MUTATING,
    NAMESPACES,
    NODES,
    NOW,
    OTHER_AUTHORITY,
    PATHS,
    PODS,
    SECRET_VALUE,
    SECRETS,
    SERVICES,
    SLICES,
    STATEFUL_SETS,
    VALIDATING,
    HealthyCluster,
    deployment,
    endpoint_slice,
    forbidden,
    namespace,
    node,
    pod,
    template,
)
from tests.fakes.kube_api import refused, unreachable
from webhook.doctor.checkup import CHECKS, check_up
from webhook.doctor.findings import (
    MAX_FINDINGS,
    Level,
    as_json,
    broken,
    odd,
    ok,
    result_of,
    shown,
    summary,
)
from webhook.doctor.sight import Place, Sight
from webhook.settings import load_operator_config

RANDOM = SystemRandomness()
NAMES = service_names("sidetail-webhook", SYSTEM_NAMESPACE)


@pytest.fixture
def cluster():
    return HealthyCluster()


def examined(cluster, **place):
    """Return the results by name."""
    sight = Sight(cluster, Place(**place), now=NOW)
    return {result.name: result for result in check_up(sight)}


def named(cluster, level=Level.BROKEN, **place):
    """Return the checks of that level, or the worse."""
    return [name for name, one in examined(cluster, **place).items() if one.level >= level]


def said(cluster, name, **place):
    """Return all that a check says, as a terminal shows it."""
    return shown(examined(cluster, **place)[name])


def test_in_a_healthy_cluster_every_link_holds(cluster):
    results = examined(cluster)

    assert list(results) == [check.name for check in CHECKS]
    assert {name: one.level for name, one in results.items()} == dict.fromkeys(results, Level.OK)
    assert cluster.created == [
        (path, body) for path, body in cluster.created if path.endswith("accessreviews")
    ]


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


def test_a_cluster_without_nodes_is_odd(cluster):
    cluster.remove(NODES, "node-1")

    assert "no node" in said(cluster, "native sidecars")


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
    for name in ("config", "replicas", "endpoints", "certificate"):
        assert results[name].level is Level.UNSEEN


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


# --- namespaces -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["true", "Enabled", "yes"])
def test_a_label_with_another_value_is_odd(cluster, value):
    cluster.put(NAMESPACES, namespace("typo", {"sidetail.dev/inject": value}))

    assert named(cluster, Level.ODD) == ["namespaces"]
    assert "kubectl label --overwrite namespace typo" in said(cluster, "namespaces")


def test_annotations_of_a_namespace_that_nobody_knows_or_can_honour_are_odd(cluster):
    labels = {"sidetail.dev/inject": "enabled"}
    annotations = {
        "sidetail.dev/pahts": "/x",
        "sidetail.dev/keep": "(",
        "sidetail.dev/stdout": "off",
    }
    cluster.put(NAMESPACES, namespace("shop", labels, annotations))
    text = said(cluster, "namespaces")

    assert "did you mean sidetail.dev/paths" in text
    assert "sidetail.dev/keep" in text
    assert "bad-value" in text


def test_a_namespace_with_annotations_and_no_label_is_odd(cluster):
    cluster.put(NAMESPACES, namespace("shy", None, {"sidetail.dev/stdout": "mirror"}))

    assert "shy: it has annotations of ours, and not the label" in said(cluster, "namespaces")


def test_the_label_on_a_namespace_of_the_system_does_nothing(cluster):
    cluster.put(NAMESPACES, namespace("kube-system", {"sidetail.dev/inject": "enabled"}))

    assert "never injected" in said(cluster, "namespaces")


def test_no_label_anywhere_is_odd(cluster):
    cluster.put(NAMESPACES, namespace("shop"))

    assert "no namespace has the label" in said(cluster, "namespaces")


def test_only_one_namespace_can_be_looked_at(cluster):
    cluster.put(NAMESPACES, namespace("typo", {"sidetail.dev/inject": "yes"}))
    cluster.put(DEPLOYMENTS, deployment("bad", {"sidetail.dev/paths": "/etc/x"}))
    cluster.put(DEPLOYMENTS, deployment("lost", PATHS, in_namespace="default"))
    assert named(cluster, namespace="shop") == ["workloads"]
    assert "lost" not in said(cluster, "workloads", namespace="shop")
    assert "typo" not in said(cluster, "namespaces", namespace="shop")

    assert named(cluster, namespace="nowhere") == ["namespaces"]


# --- workloads --------------------------------------------------------------------------------


def test_a_workload_in_a_namespace_without_the_label_is_named(cluster):
    cluster.put(DEPLOYMENTS, deployment("lost", PATHS, in_namespace="default"))

    assert named(cluster) == ["workloads"]
    text = said(cluster, "workloads")
    assert "Deployment default/lost: nothing is collected" in text
    assert "kubectl label namespace default sidetail.dev/inject=enabled" in text


def test_annotations_in_the_wrong_place_are_named(cluster):
    cluster.put(DEPLOYMENTS, deployment("wrong", annotations=None) | {})
    found = deployment("wrong")
    found["metadata"]["annotations"] = PATHS
    cluster.put(DEPLOYMENTS, found)

    assert named(cluster) == ["workloads"]
    assert "stand on the Deployment and do nothing" in said(cluster, "workloads")


@pytest.mark.parametrize(
    ("annotations", "level", "expected"),
    [
        ({"sidetail.dev/paths": "/etc/app/*.log"}, Level.BROKEN, "forbidden-directory"),
        ({"sidetail.dev/paths": "/var/log/a.log,/etc/x"}, Level.ODD, "forbidden-directory"),
        (PATHS | {"sidetail.dev/backend": "nobody"}, Level.BROKEN, "unknown-backend"),
        (PATHS | {"sidetail.dev/format": "xml"}, Level.ODD, "bad-value"),
    ],
)
def test_what_the_engine_leaves_out_is_named_with_the_remedy(cluster, annotations, level, expected):
    cluster.put(DEPLOYMENTS, deployment("orders", annotations))
    result = examined(cluster)["workloads"]

    assert result.level is level
    assert expected in shown(result)
    assert "do: " in shown(result)


def test_a_job_without_native_sidecars_is_named(cluster):
    cluster.put(NODES, node("old", "v1.27.0"))
    job = {
        "metadata": {"name": "once", "namespace": "shop"},
        "spec": {"template": template(PATHS, restartPolicy="Never")},
    }
    cluster.put(JOBS, job)
    assert "job-needs-native" in said(cluster, "workloads")
    cluster.put(JOBS, job | {"status": {"completionTime": "2026-11-21T00:00:00Z"}})

    assert named(cluster) == []


def test_volumes_that_a_stateful_set_makes_are_known(cluster):
    made = deployment("db", {"sidetail.dev/paths": "/data/log/*.log"})
    mount = {"name": "data", "mountPath": "/data"}
    made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [mount]
    made["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    cluster.put(STATEFUL_SETS, made)

    assert named(cluster, Level.ODD) == []


def test_what_another_object_controls_is_judged_by_that(cluster):
    owner = [{"controller": True, "kind": "X", "name": "x", "uid": "x", "apiVersion": "v1"}]
    cluster.put(
        DEPLOYMENTS, deployment("made", PATHS, in_namespace="default", ownerReferences=owner)
    )
    cluster.put(DEPLOYMENTS, deployment("system", PATHS, in_namespace="kube-system"))

    assert named(cluster, Level.ODD) == []


# --- pods -------------------------------------------------------------------------------------


def test_pods_that_were_missed_are_named_once_for_a_workload(cluster):
    for number in range(3):
        cluster.put(PODS, pod(f"late-{number}", PATHS))
    cluster.put(PODS, pod("done", PATHS) | {"status": {"phase": "Succeeded"}})
    result = examined(cluster)["pods"]

    assert result.level is Level.BROKEN
    assert "ReplicaSet shop/orders-5d4f: nobody looked at pod late-0 and 2 more" in shown(result)
    assert "created again: injected" in shown(result)
    assert "rollout restart" in shown(result)
    assert sum(one.level is Level.BROKEN for one in result.findings) == 1


def test_a_missed_pod_that_would_not_be_injected_either_says_why(cluster):
    cluster.put(PODS, pod("bare", {"sidetail.dev/paths": "/etc/x"}, owner=None))

    assert "forbidden-directory" in said(cluster, "pods")


def with_container_status(cluster, **status):
    found = cluster.take(PODS, "orders-1", "shop")
    row = {"name": "sidetail", "state": {"running": {}}} | status
    found["status"] = {"phase": "Pending", "initContainerStatuses": [row]}
    cluster.put(PODS, found)


def test_an_image_that_cannot_be_pulled_is_named(cluster):
    waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
    with_container_status(cluster, state={"waiting": waiting})

    assert named(cluster) == ["pods"]
    assert "ErrImagePull: manifest unknown" in said(cluster, "pods")


def test_a_container_that_is_still_being_made_is_no_trouble(cluster):
    with_container_status(cluster, state={"waiting": {"reason": "PodInitializing"}})

    assert named(cluster, Level.ODD) == []


def test_restarts_for_want_of_memory_are_odd(cluster):
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    with_container_status(cluster, restartCount=4, lastState=last)

    assert named(cluster, Level.ODD) == ["pods"]
    assert "4 restarts, the last for OOMKilled" in said(cluster, "pods")


def test_a_sidecar_that_another_plugin_took_out_is_named(cluster):
    found = cluster.take(PODS, "orders-1", "shop")
    del found["spec"]["initContainers"]
    cluster.put(PODS, found)

    assert named(cluster) == ["pods"]
    assert "taken out" in said(cluster, "pods")


@pytest.mark.parametrize(
    "status",
    [
        "garbage",
        "[]",
        '{"left_out": 5}',
        '{"left_out": ["x", {}]}',
        '{"left_out": [{"reason": 1}]}',
    ],
)
def test_a_status_that_somebody_forged_does_no_harm(cluster, status):
    cluster.put(PODS, pod("forged", PATHS | {"sidetail.dev/status": status}, owner=None))

    assert "the doctor failed" not in said(cluster, "pods")


def test_what_an_operators_pods_lack_is_said_of_the_pods(cluster):
    made = cluster.injected(pod("flow", {"sidetail.dev/paths": "/var/log/a.log,/etc/x"}))
    made["metadata"]["ownerReferences"][0]["kind"] = "Workflow"
    cluster.put(PODS, made)

    assert "Workflow shop/orders-5d4f: not all is collected" in said(cluster, "pods")


# --- Secrets ----------------------------------------------------------------------------------


def test_a_secret_that_pods_mount_is_named_and_one_for_pods_to_come_is_odd(cluster):
    cluster.put(NAMESPACES, namespace("new", {"sidetail.dev/inject": "enabled"}))
    assert named(cluster, Level.ODD) == ["secrets"]
    assert "missing in 1 namespace: lines of its pods will wait" in said(cluster, "secrets")
    cluster.remove(SECRETS, "shop/loki-auth")

    assert named(cluster) == ["secrets"]
    assert "kubectl -n shop create secret generic loki-auth" in said(cluster, "secrets")


def test_no_value_of_a_secret_is_shown_and_those_of_backends_are_not_even_asked_for(cluster):
    cluster.put(NAMESPACES, namespace("new", {"sidetail.dev/inject": "enabled"}))
    asked = []
    get = cluster.get

    def watched(path, params=None, **more):
        asked.append((path, more))
        return get(path, params, **more)

    cluster.get = watched
    results = list(examined(cluster).values())
    text = as_json(results) + "".join(map(shown, results))
    backends = [more for path, more in asked if path.endswith("/secrets/loki-auth")]

    assert SECRET_VALUE not in text
    assert base64.b64encode(SECRET_VALUE.encode()).decode() not in text
    assert len(backends) == 2
    assert all("PartialObjectMetadata" in more["accept"] for more in backends)


# --- rights -----------------------------------------------------------------------------------

EVERYTHING = ("/api/v1/", "/apis/")


def test_who_may_look_at_nothing_is_told_so_and_nothing_is_called_broken(cluster):
    cluster.refusal = forbidden(*EVERYTHING)
    cluster.may_create_pods = False
    results = examined(cluster)

    assert [name for name, one in results.items() if one.level is Level.BROKEN] == []
    assert results["api server"].level is Level.OK
    for name in set(results) - {"api server"}:
        assert "not allowed" in shown(results[name]), name
        assert "the doctor failed" not in shown(results[name])


def test_a_developer_sees_what_is_wrong_in_a_namespace_of_his(cluster):
    """No right to anything but what lies in shop."""
    cluster.put(DEPLOYMENTS, deployment("bad", {"sidetail.dev/paths": "/etc/x"}))
    cluster.put(DEPLOYMENTS, deployment("unsure", PATHS | {"sidetail.dev/backend": "other"}))
    cluster.put(PODS, pod("missed", PATHS | {}, owner=None))

    def refuse(verb, path):
        inside = path.startswith("/api/v1/namespaces/shop") or "/namespaces/shop/" in path
        return None if inside or verb == "create" else forbidden(*EVERYTHING)(verb, path)

    cluster.refusal = refuse
    results = examined(cluster, namespace="shop")

    assert [name for name, one in results.items() if one.level is Level.BROKEN] == [
        "workloads",
        "pods",
    ]
    assert "unsure" not in shown(results["workloads"])  # whether it is wrong cannot be known
    assert "forbidden-directory" in shown(results["workloads"])
    assert "cannot be read" in shown(results["secrets"])


def test_a_config_can_be_given_where_the_clusters_may_not_be_read(cluster):
    cluster.put(DEPLOYMENTS, deployment("sure", PATHS | {"sidetail.dev/backend": "other"}))
    cluster.refusal = forbidden("/api/v1/namespaces/sidetail-system/configmaps")
    config = load_operator_config(json.dumps(CONFIG))

    assert "sure" not in said(cluster, "workloads")
    assert "unknown-backend" in said(cluster, "workloads", config=config)
    assert examined(cluster, config=config)["config"].level is Level.OK


def test_a_fault_of_the_doctors_own_stops_no_other_check(cluster):
    cluster.put(SLICES, endpoint_slice({"ready": True}) | {"endpoints": 5})
    results = examined(cluster)

    assert "the doctor failed: TypeError" in shown(results["endpoints"])
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("status", [404, 429, 500])
def test_other_refusals_are_named(cluster, status):
    cluster.refusal = lambda _verb, path: refused(status) if path == NODES else None

    assert "native sidecars" in named(cluster)


# --- how it is shown --------------------------------------------------------------------------


def test_the_worst_comes_first_and_the_rest_below():
    result = result_of("x", [ok("fine"), odd("strange", "look"), broken("gone", "mend", ["why"])])

    assert shown(result) == (
        "broken  x               gone\n"
        "            why\n"
        "          do: mend\n"
        "        odd: strange\n"
        "          do: look\n"
        "        ok: fine\n"
    )


def test_many_findings_and_many_details_are_counted():
    many = result_of("x", [odd(f"{number}") for number in range(MAX_FINDINGS + 7)])
    long = result_of("x", [odd("x", "", [f"{number}" for number in range(27)])])

    assert "and 7 more" in shown(many)
    assert len(shown(many).splitlines()) == MAX_FINDINGS + 1
    assert "and 7 more" in shown(long)


def test_what_an_author_wrote_cannot_move_the_cursor():
    text = shown(result_of("x", [broken("a\x1b[31m\nb", "c", ["\u202ed"])]))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.splitlines()) == 3


def test_the_last_line_sums_up(cluster):
    assert summary(list(examined(cluster).values())) == "\nno link is broken\n"
    cluster.is_asked = False
    cluster.refusal = forbidden(NODES)
    text = summary(list(examined(cluster).values()))

    assert text == "\nbroken: dry run; not looked at, or not whole: native sidecars\n"


def test_json_says_the_same(cluster):
    cluster.is_asked = False
    document = json.loads(as_json(list(examined(cluster).values())))

    assert document["broken"] is True
    assert [one["name"] for one in document["checks"] if one["level"] == "broken"] == ["dry run"]
    row = next(one for one in document["checks"] if one["name"] == "dry run")["findings"][0]
    assert row["text"]
    assert row["remedy"]
