"""What runs stays as it is when Sidetail is uninstalled."""

from tests.e2e import workloads
from tests.e2e.cluster import Cluster, all_ready, restarts, scenario
from tests.e2e.system import System


def test_running_pods_go_on_sending_after_uninstalling(system: System, cluster: Cluster):
    with scenario(cluster, "uninstall") as namespace:
        template = system.writer(namespace, plan={"rate": 200}).template()
        cluster.apply(workloads.deployment("web", namespace, template, replicas=2))
        before = {pod["metadata"]["uid"] for pod in cluster.wait_for_pods(namespace, all_ready(2))}
        system.wait(lambda: system.state(namespace)["records"] > 500, namespace)
        try:
            system.uninstall()
            assert not cluster.exists("namespace", "sidetail-system")
            assert not cluster.exists("mutatingwebhookconfiguration", "sidetail")
            assert not system.is_injecting(namespace)
            seen = system.state(namespace)["records"]
            system.wait(lambda: system.state(namespace)["records"] > seen + 2000, namespace)
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
