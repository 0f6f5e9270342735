"""What injection costs an application: the time until its container runs."""

import statistics
import time

from tests.e2e import workloads
from tests.e2e.cluster import Cluster, Json, scenario
from tests.e2e.system import System

KINDS: dict[str, Json] = {
    "without": {"paths": None, "stdout": False},
    "file": {"stdout": False},
    "file and stdout": {},
}


def test_how_much_later_an_application_starts_is_measured(system: System, cluster: Cluster):
    """From the request that creates a pod to the first thing that its program does."""
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with scenario(cluster, "start") as namespace:
        _start(system, namespace, "warm", {})  # whatever is done once, is done by this one
        for number in range(cluster.options.starts):
            for kind, keys in KINDS.items():
                name = f"{kind.replace(' ', '-')}-{number}"
                seconds[kind].append(_start(system, namespace, name, keys))
    medians = {kind: statistics.median(measured) for kind, measured in seconds.items()}
    for kind in KINDS:
        system.figures.append(
            f"start, {kind}: median {medians[kind]:.2f} s of {len(seconds[kind])}"
            f" ({min(seconds[kind]):.2f} to {max(seconds[kind]):.2f}),"
            f" {medians[kind] - medians['without']:+.2f} s"
        )

    assert all(len(measured) == cluster.options.starts for measured in seconds.values())


def _start(system: System, namespace: str, name: str, keys: Json) -> float:
    """Create a pod; return after how many seconds its program told that it runs.

    By two clocks, this machine's and the collector's: the differences between pods are right.
    """
    cluster = system.cluster
    template = system.writer(namespace, plan={"lines": 1}, **keys).template(restartPolicy="Never")
    pod = workloads.bare_pod(name, namespace, template)
    created_at = time.time()
    cluster.apply(pod)
    stream = name.replace("-", "_")
    system.wait(lambda: stream in system.started(namespace), namespace)
    # Nothing of it shall run while the next one starts.
    cluster.kubectl("delete", "pod", "-n", namespace, name, "--timeout=120s")
    return system.started(namespace)[stream] - created_at
