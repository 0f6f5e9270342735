"""Every line that a pod writes arrives, whatever happens to the application and the sidecar."""

from functools import partial

import pytest

from tests.e2e import workloads
from tests.e2e.cluster import Cluster, Json, KubectlError, all_ready, restarts, scenario
from tests.e2e.system import System


def test_a_pod_that_is_deleted_with_a_backlog_sends_it_first(
    system: System, cluster: Cluster, namespace: str
):
    lines = cluster.options.lines
    plan = {"lines": lines, "rate": 8000, "stays": True}
    template = system.writer(namespace, plan=plan).template(terminationGracePeriodSeconds=60)
    system.ask("/hold", namespace, {})
    cluster.apply(workloads.bare_pod("late", namespace, template))
    system.wait(lambda: _has_written(system, namespace), namespace)
    system.wait(lambda: system.state(namespace)["refused"] > 0, namespace)
    assert system.stored(namespace) == 0

    cluster.kubectl("delete", "pod", "-n", namespace, "late", "--wait=false")
    system.wait(lambda: len(system.state(namespace)["written"]) == 2, namespace)
    refused = system.state(namespace)["refused"]
    # The application has ended; what the sidecar tries now, it tries while it drains.
    system.wait(lambda: system.state(namespace)["refused"] > refused, namespace)
    system.ask("/free", namespace, {})
    verdict = system.wait_for_lines(namespace, streams=2)
    cluster.kubectl("wait", "-n", namespace, "--for=delete", "pod/late", "--timeout=120s")
    system.report(
        "pod deleted with a backlog", namespace, verdict, f"{refused} attempts refused before"
    )

    verdict.assert_exact()


def test_the_last_line_before_a_crash_arrives_each_time(
    system: System, cluster: Cluster, namespace: str
):
    template = system.writer(namespace, plan={"lines": 500, "exit_status": 3}).template()
    cluster.apply(workloads.bare_pod("weak", namespace, template))

    system.wait(lambda: len(system.state(namespace)["written"]) >= 6, namespace)
    pod = cluster.pods(namespace)[0]
    cluster.kubectl("delete", "pod", "-n", namespace, "weak", "--wait=false")
    verdict = system.wait_for_lines(namespace, streams=6)
    system.report("application crashed and started again", namespace, verdict)

    verdict.assert_exact()
    assert _last_end(pod, "app")["exitCode"] == 3
    assert restarts(pod, "sidetail") == 0


def test_an_application_that_is_killed_for_its_memory_says_so_and_its_lines_arrive(
    system: System, cluster: Cluster, namespace: str
):
    plan = {"lines": 500, "takes_memory": True}
    template = system.writer(namespace, plan=plan).template(restartPolicy="Never")
    cluster.apply(workloads.bare_pod("greedy", namespace, template))

    pod = cluster.wait_for_pods(namespace, lambda pods: _phases(pods) == ["Failed"])[0]
    verdict = system.wait_for_lines(namespace, streams=2)
    system.report("application out of memory", namespace, verdict)
    ended = _last_end(pod, "app")

    verdict.assert_exact()
    # Under the mirror as without it.
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_lines_wait_for_credentials_that_come_late(
    system: System, cluster: Cluster, namespace: str
):
    writer = system.writer(
        namespace,
        plan={"lines": 2000, "stays": True},
        annotations={"sidetail.dev/backend": "guarded"},
    )
    cluster.apply(workloads.bare_pod("early", namespace, writer.template()))
    system.wait(lambda: _has_written(system, namespace), namespace)
    system.wait(lambda: "credentials_missing" in _said(cluster, namespace, "early"), namespace)
    assert system.stored(namespace) == 0

    # The kubelet looks for an optional Secret at its own pace, a minute or more.
    cluster.apply(system.credentials(namespace))
    system.wait(lambda: system.stored(namespace) >= 4000, namespace)
    cluster.kubectl("delete", "pod", "-n", namespace, "early", "--wait=false")
    verdict = system.wait_for_lines(namespace, streams=2)
    system.report("credentials that came late", namespace, verdict)

    verdict.assert_exact()


def test_a_sidecar_that_is_killed_loses_nothing(system: System, cluster: Cluster, namespace: str):
    plan = {"lines": 20000, "rate": 1000, "rotate_bytes": 256 * 1024, "stays": True}
    cluster.apply(
        workloads.bare_pod("victim", namespace, system.writer(namespace, plan=plan).template())
    )
    pod = cluster.wait_for_pods(namespace, all_ready(1))[0]
    with scenario(cluster, "killer", inject=False) as other:
        cluster.apply(workloads.code(other))
        for kill in (1, 2):
            system.wait(partial(system.has_more, namespace, system.stored(namespace)), namespace)
            _kill(cluster, other, pod, "sidecar", name=f"kill-{kill}")
            cluster.wait_for_pods(namespace, partial(_was_restarted, kill))
    cluster.kubectl("delete", "pod", "-n", namespace, "victim", "--wait=false")
    verdict = system.wait_for_lines(namespace, streams=2)
    system.report("sidecar killed twice", namespace, verdict)

    # Two batches in flight at most, each time, and a line is not under 60 bytes.
    verdict.assert_at_least_once(duplicates=2 * 2 * (1 << 20) // 60)


def test_nothing_is_lost_where_every_container_is_started_again(
    system: System, cluster: Cluster, namespace: str
):
    """As after a restart of the node; volumes are as they were."""
    plan = {"rate": 300, "rotate_bytes": 128 * 1024, "exit_status": 1}
    cluster.apply(
        workloads.bare_pod("again", namespace, system.writer(namespace, plan=plan).template())
    )
    pod = cluster.wait_for_pods(namespace, all_ready(1))[0]
    system.wait(lambda: system.stored(namespace) > 1000, namespace)
    with scenario(cluster, "sandbox", inject=False) as other:
        cluster.apply(workloads.code(other))
        _kill(cluster, other, pod, "sandbox", name="kill")
        cluster.wait_for_pods(namespace, partial(_was_restarted, 1))
        cluster.wait_for_pods(namespace, all_ready(1))
    system.wait(partial(system.has_more, namespace, system.stored(namespace) + 1000), namespace)
    cluster.kubectl("delete", "pod", "-n", namespace, "again", "--wait=false")
    verdict = system.wait_for_lines(namespace, streams=4)
    system.report("every container started again", namespace, verdict)

    verdict.assert_at_least_once(duplicates=2 * (1 << 20) // 60)


def _kill(cluster: Cluster, namespace: str, victim: Json, which: str, *, name: str) -> None:
    """Kill a process of a pod from its node; skip the test where the cluster does not let us."""
    spec = workloads.python_pod(cluster.options, "kill.py", victim["metadata"]["uid"], which)
    spec |= {
        "hostPID": True, "nodeName": victim["spec"]["nodeName"], "restartPolicy": "Never",
    }  # fmt: skip
    spec["containers"][0]["securityContext"] = {"privileged": True}
    try:
        cluster.apply(workloads.pod(name, namespace, spec))
    except KubectlError as error:
        if "forbidden" in str(error).lower():
            pytest.skip("the cluster allows no privileged pod, and nothing else kills -9")
        raise
    pods = cluster.wait_for_pods(
        namespace,
        lambda pods: any(
            pod["metadata"]["name"] == name and pod["status"]["phase"] in {"Succeeded", "Failed"}
            for pod in pods
        ),
    )
    ended = next(pod for pod in pods if pod["metadata"]["name"] == name)
    if ended["status"]["phase"] == "Failed" and which == "sandbox":
        pytest.skip("the container runtime has no process that is called pause")
    assert ended["status"]["phase"] == "Succeeded", cluster.described(namespace)


def _last_end(pod: Json, container: str) -> Json:
    """Return how a container ended last; it may be up again."""
    status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == container)
    return dict(status["state"].get("terminated") or status["lastState"]["terminated"])


def _phases(pods: list[Json]) -> list[str]:
    return [pod["status"]["phase"] for pod in pods]


def _was_restarted(times: int, pods: list[Json]) -> bool:
    return restarts(pods[0], "sidetail") == times


def _said(cluster: Cluster, namespace: str, pod: str) -> str:
    """Return the sidecar's own log."""
    return cluster.kubectl("logs", "-n", namespace, pod, "-c", "sidetail")


def _has_written(system: System, namespace: str) -> bool:
    return any("wrote" in note for note in system.state(namespace)["notes"])
