"""What runs and what is created while the webhook is absent, replaced or taken away."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from contract.names import SYSTEM_NAMESPACE
from tests.e2e import workloads
from tests.e2e.cluster import Cluster, all_ready, restarts, scenario, wait_for
from tests.e2e.system import WEBHOOK, System


def test_running_pods_go_on_sending_after_uninstalling(system: System, cluster: Cluster):
    with scenario(cluster, "uninstall") as namespace:
        template = system.writer(namespace, plan={"rate": 200}).template()
        cluster.apply(workloads.deployment("web", namespace, template, replicas=2))
        before = {pod["metadata"]["uid"] for pod in cluster.wait_for_pods(namespace, all_ready(2))}
        system.wait(lambda: system.stored(namespace) > 500, namespace)
        try:
            system.uninstall()
            assert not cluster.exists("namespace", SYSTEM_NAMESPACE)
            assert not cluster.exists("mutatingwebhookconfiguration", "sidetail")
            assert not system.is_injecting(namespace)
            seen = system.stored(namespace)
            system.wait(lambda: system.stored(namespace) > seen + 2000, namespace)
            after = cluster.pods(namespace)
        finally:
            system.install()
        cluster.kubectl("scale", "-n", namespace, "deployment/web", "--replicas=0")
        verdict = system.wait_for_lines(namespace, streams=4)
        system.report("uninstalled under running pods", namespace, verdict)

    verdict.assert_exact()
    assert {pod["metadata"]["uid"] for pod in after} == before
    assert sum(map(restarts, after)) == 0
    assert all_ready(2)(after)


def test_pods_start_without_a_sidecar_while_no_webhook_answers(
    system: System, cluster: Cluster, namespace: str
):
    template = system.writer(namespace, plan={"lines": 10, "stays": True}).template()
    with _scaled(system, 0):
        cluster.apply(workloads.deployment("web", namespace, template, replicas=1))
        missed = cluster.wait_for_pods(namespace, all_ready(1))[0]
    if cluster.options.overlay != "restricted":  # there it sees no pods and makes no Events
        system.wait(lambda: _reasons(cluster, namespace) >= {"LogsMissed"}, namespace)

    assert "sidetail.dev/status" not in missed["metadata"]["annotations"]
    assert [one["name"] for one in missed["spec"]["containers"]] == ["app"]


def test_no_pod_is_missed_while_the_replicas_are_replaced(
    system: System, cluster: Cluster, namespace: str
):
    done = threading.Event()
    answers: list[bool] = []

    def ask() -> None:
        while not done.is_set():
            answers.append(system.is_injecting(namespace))

    asking = threading.Thread(target=ask, name="asking")
    asking.start()
    try:
        for _ in range(2):
            cluster.kubectl("-n", SYSTEM_NAMESPACE, "rollout", "restart", WEBHOOK)
            cluster.kubectl("-n", SYSTEM_NAMESPACE, "rollout", "status", WEBHOOK, "--timeout=200s")
            # The last one of the old replicas still answers for a while.
            system.wait_for_replicas(2)
    finally:
        done.set()
        asking.join(120)
    system.figures.append(
        f"two restarts of the webhook: {sum(answers)} of {len(answers)} pods injected meanwhile"
    )

    assert len(answers) > 10
    assert all(answers)


def test_the_doctor_tells_a_whole_installation_from_one_that_is_stopped(
    system: System, namespace: str
):
    whole = _doctor(namespace)
    with _scaled(system, 0):
        stopped = _doctor(namespace)

    assert whole.returncode == 0, whole.stdout
    assert stopped.returncode == 1, stopped.stdout
    assert "endpoints" in stopped.stdout


def _doctor(namespace: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webhook.doctor", "-n", namespace],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@contextmanager
def _scaled(system: System, replicas: int) -> Iterator[None]:
    """Scale the webhook, and back again."""

    def scale(count: int) -> None:
        system.cluster.kubectl("-n", SYSTEM_NAMESPACE, "scale", WEBHOOK, f"--replicas={count}")
        system.wait_for_replicas(count)

    scale(replicas)
    # One that ends goes on answering for a while.
    wait_for(lambda: len(_webhooks(system.cluster)) == replicas)
    try:
        yield
    finally:
        scale(2)


def _webhooks(cluster: Cluster) -> list[str]:
    """Return the names of the webhook's pods, of those too that end."""
    label = "app.kubernetes.io/component=webhook"
    return cluster.kubectl(
        "get", "pods", "-n", SYSTEM_NAMESPACE, "-l", label, "-o", "name"
    ).splitlines()


def _reasons(cluster: Cluster, namespace: str) -> set[str]:
    return {one["reason"] for one in cluster.get("events", "-n", namespace)["items"]}
