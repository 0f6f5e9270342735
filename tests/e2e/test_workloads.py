"""Every line that a pod writes arrives, whatever kind of workload it belongs to.

The verdict is computed from the lines: each is numbered and summed, and the application itself
says, by another way than its logs, how many it wrote.
"""

import json
from functools import partial

import pytest

from tests.e2e import workloads
from tests.e2e.cluster import Cluster, Json, all_ready, scenario, wait_for
from tests.e2e.system import System
from tests.e2e.workloads import RESTRICTED_CONTAINER, RESTRICTED_POD

OWNERS = {
    f"k8s.{kind}.name"
    for kind in ("deployment", "statefulset", "daemonset", "job", "cronjob", "pod")
}


def test_a_deployment_that_writes_a_rotated_file_and_prints_loses_nothing(
    system: System, cluster: Cluster, namespace: str
):
    lines = cluster.options.lines
    plan = {"lines": lines, "rate": 4000, "rotate_bytes": 512 * 1024, "stays": True}
    template = system.writer(namespace, plan=plan).template()
    cluster.apply(workloads.deployment("web", namespace, template, replicas=2))

    pods = cluster.wait_for_pods(namespace, all_ready(2))
    system.wait(lambda: system.stored(namespace) >= 4 * lines, namespace)  # while they live
    printed = {
        pod["metadata"]["name"]: cluster.kubectl(
            "logs", "-n", namespace, pod["metadata"]["name"], "-c", "app"
        ).splitlines()
        for pod in pods
    }
    for pod in pods:
        name = pod["metadata"]["name"]
        system.wait(partial(_is_even, system, namespace, name, 2 * lines), namespace)
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=0")
    verdict = system.wait_for_lines(namespace, streams=4)
    system.report("deployment, rotated file and stdout", namespace, verdict)

    verdict.assert_exact()
    assert [len(lines_of_pod) for lines_of_pod in printed.values()] == [lines, lines]


def test_a_job_ends_by_itself_and_its_last_line_arrives(
    system: System, cluster: Cluster, namespace: str
):
    template = system.writer(namespace, plan={"lines": 3000}).template(restartPolicy="Never")
    cluster.apply(workloads.job("report", namespace, template))

    cluster.kubectl(
        "wait", "-n", namespace, "--for=condition=complete", "job/report", "--timeout=200s"
    )
    verdict = system.wait_for_lines(namespace, streams=2)
    pod = cluster.pods(namespace)[0]
    system.report("job", namespace, verdict)

    verdict.assert_exact()
    assert pod["status"]["phase"] == "Succeeded"
    assert _exit_codes(pod) == {"app": 0, "sidetail": 0, "sidetail-init": 0}


def test_the_lines_of_both_versions_arrive_whole_over_a_rollout(
    system: System, cluster: Cluster, namespace: str
):
    plan = {"rate": 300, "rotate_bytes": 64 * 1024}
    first = system.writer(namespace, plan=plan, labels={"app.kubernetes.io/version": "1"})
    second = system.writer(namespace, plan=plan, labels={"app.kubernetes.io/version": "2"})
    cluster.apply(workloads.deployment("web", namespace, first.template(), replicas=2))
    cluster.wait_for_pods(namespace, all_ready(2))
    system.wait(lambda: system.stored(namespace) > 2000, namespace)

    cluster.apply(workloads.deployment("web", namespace, second.template(), replicas=2))
    cluster.kubectl(
        "-n", namespace, "rollout", "status", "deployment/web", "--timeout=240s", seconds=300
    )
    system.wait(lambda: len(system.state(namespace)["written"]) == 4, namespace)
    seen = system.stored(namespace)
    system.wait(lambda: system.stored(namespace) > seen + 1000, namespace)
    cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=0")
    verdict = system.wait_for_lines(namespace, streams=8)
    versions = {record.get("service.version") for record in system.records(namespace)}
    system.report("rollout, two versions", namespace, verdict)

    verdict.assert_exact()
    assert versions == {"1", "2"}


def test_a_pod_of_a_restricted_namespace_comes_up_and_ships(system: System, cluster: Cluster):
    labels = {"pod-security.kubernetes.io__enforce": "restricted"}
    with scenario(cluster, "restricted", **labels) as namespace:
        writer = system.writer(namespace, plan={"lines": 2000, "stays": True})
        template = writer.template(securityContext=RESTRICTED_POD)
        template["spec"]["containers"][0]["securityContext"] = {
            **RESTRICTED_CONTAINER, "readOnlyRootFilesystem": True
        }  # fmt: skip
        cluster.apply(workloads.bare_pod("strict", namespace, template))
        cluster.wait_for_pods(namespace, all_ready(1))
        cluster.kubectl("delete", "pod", "-n", namespace, "strict", "--wait=false")
        verdict = system.wait_for_lines(namespace, streams=2)
        system.report("restricted namespace", namespace, verdict)

    verdict.assert_exact()


def test_every_kind_of_workload_ships_and_says_what_it_is(
    system: System, cluster: Cluster, namespace: str
):
    plan = {"lines": 1000, "stays": True}
    writer = system.writer(namespace, plan=plan)
    ending = system.writer(namespace, plan={"lines": 1000})
    # The author's own volume, in which an earlier pod's folder might lie.
    owned = system.writer(
        namespace, plan=plan, file="/data/logs/deep/app.log", paths="/data/logs/**/*.log"
    ).template()
    owned["spec"]["volumes"].append({"name": "data", "emptyDir": {}})
    owned["spec"]["containers"][0]["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    cluster.apply(
        workloads.stateful_set("store", namespace, owned),
        workloads.daemon_set("scan", namespace, writer.template()),
        workloads.bare_pod("bare", namespace, writer.template()),
        workloads.deployment("web", namespace, writer.template(), replicas=1),
        workloads.job("once", namespace, ending.template(restartPolicy="Never")),
        workloads.cron_job("tick", namespace, ending.template(restartPolicy="OnFailure")),
    )
    nodes = _scheduled_nodes(cluster, namespace, "scan")
    system.wait(lambda: _jobs(cluster, namespace) >= {"once", "tick"}, namespace)
    cluster.kubectl(
        "patch", "cronjob", "-n", namespace, "tick", "-p", json.dumps({"spec": {"suspend": True}})
    )
    steady = 3 + nodes
    cluster.wait_for_pods(
        namespace, lambda pods: sum(pod["status"]["phase"] == "Running" for pod in pods) == steady
    )
    for kind in ("statefulset/store", "daemonset/scan", "pod/bare", "deployment/web"):
        cluster.kubectl("delete", "-n", namespace, kind, "--wait=false")
    finished = len(cluster.get("jobs", "-n", namespace)["items"])
    verdict = system.wait_for_lines(namespace, streams=2 * (steady + finished))
    facts = {
        item for record in system.records(namespace) for item in record.items() if item[0] in OWNERS
    }
    system.report("each kind of workload", namespace, verdict, f"{steady + finished} pods")

    verdict.assert_exact()
    assert facts >= {
        ("k8s.statefulset.name", "store"), ("k8s.daemonset.name", "scan"),
        ("k8s.deployment.name", "web"), ("k8s.job.name", "once"), ("k8s.cronjob.name", "tick"),
        ("k8s.pod.name", "bare"),
    }  # fmt: skip


def test_a_seeded_folder_shows_what_the_image_has_there(
    system: System, cluster: Cluster, namespace: str
):
    folder = cluster.options.seeded
    cluster.apply(workloads.code(namespace))
    paths = {"sidetail.dev/paths": f"{folder}/*.log"}
    cases = {
        "plain": {},
        "hidden": paths,
        "seeded": paths | {"sidetail.dev/seed": "true"},
    }
    for label, annotations in cases.items():
        asked = {"collector": system.collector_url, "namespace": namespace}
        asked |= {"label": label, "folder": folder}
        spec = workloads.python_pod(cluster.options, "tree.py")
        spec["containers"][0]["env"] = [{"name": "TREE", "value": json.dumps(asked)}]
        spec |= {"securityContext": RESTRICTED_POD, "restartPolicy": "Never"}
        cluster.apply(workloads.pod(label, namespace, spec, annotations=annotations))
    system.wait(lambda: set(_trees(system, namespace)) == set(cases), namespace)
    trees = _trees(system, namespace)
    if not trees["plain"]:
        pytest.skip(f"the application's image has nothing to read in {folder}")
    system.figures.append(f"seeding: {len(trees['seeded'])} files of {folder} in place")

    assert trees["hidden"] == {}
    assert trees["seeded"] == trees["plain"]


def _is_even(system: System, namespace: str, pod: str, lines: int) -> bool:
    """Return whether a sidecar says of itself: so many lines read, all of them acknowledged."""
    found: dict[str, float] = {}
    for line in system.cluster.through(namespace, pod, 19095, "/metrics").splitlines():
        if line.startswith("sidetail_lines_"):
            name = line.partition("{")[0].removeprefix("sidetail_lines_").removesuffix("_total")
            found[name] = found.get(name, 0) + float(line.rpartition(" ")[2])
    return (found["read"], found["acknowledged"], found["in_flight"]) == (lines, lines, 0)


def _exit_codes(pod: Json) -> dict[str, int]:
    return {
        one["name"]: one["state"]["terminated"]["exitCode"]
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in pod["status"][kind]
    }


def _trees(system: System, namespace: str) -> dict[str, Json]:
    notes = system.state(namespace)["notes"]
    return {note["label"]: note["tree"] for note in notes if "label" in note}


def _scheduled_nodes(cluster: Cluster, namespace: str, name: str) -> int:
    """Return on how many nodes a DaemonSet runs, once its controller knows."""
    found: list[int] = []

    def known() -> bool:
        status = cluster.get("daemonset", "-n", namespace, name)["status"]
        found[:] = [status.get("desiredNumberScheduled", 0)]
        return found[0] > 0

    wait_for(known)
    return found[0]


def _jobs(cluster: Cluster, namespace: str) -> set[str]:
    """Return the Jobs that are complete, a CronJob's by its name."""
    return {
        owner[0]["name"]
        if (owner := job["metadata"].get("ownerReferences"))
        else job["metadata"]["name"]
        for job in cluster.get("jobs", "-n", namespace)["items"]
        if job["status"].get("succeeded")
    }
