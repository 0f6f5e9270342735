"""The doctor on what people ask for: namespaces, workloads, pods, Secrets."""

import base64

import pytest

from tests.doctor import examined, named, said
from tests.fakes.healthy import (
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PATHS,
    PODS,
    SECRET_VALUE,
    SECRETS,
    STATEFUL_SETS,
    HealthyCluster,
    deployment,
    namespace,
    node,
    pod,
    template,
)
from webhook.doctor.findings import (
    Level,
    as_json,
    shown,
)


@pytest.fixture
def cluster():
    return HealthyCluster()


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
