"""What stands in the way of a whole plan, and what there is to say about the pod around it.

Part of step 5 of the webhook: everything that is not about one path or one container.
"""

import re
from dataclasses import dataclass

from contract.annotations import METRICS_PORT, PATHS, STDOUT
from contract.names import INIT, SEED_PREFIX, SIDECAR
from contract.reasons import JOB_NEEDS_NATIVE, NAME_TAKEN, NOTHING_ASKED
from webhook.faults import Fault
from webhook.options import Options
from webhook.pod import Pod
from webhook.settings import OperatorConfig
from webhook.sidecar_document import grace_seconds

_SHORT_SECONDS = 2
"""A pod that ends faster leaves a sidecar no time to send what is left."""
_CLUSTER_NAME = re.compile(
    r"[^.:]*[^.:0-9][^.:]*(?:\.[^.:]+)?|.*\.(?:svc|cluster\.local)|.*\.svc\..*"
)
_OUR_NAMES = re.compile(rf"{SIDECAR}|{INIT}|{SEED_PREFIX}[0-9]+")


def obstacle(pod: Pod, options: Options, *, is_native: bool) -> Fault | None:
    """Return why nothing at all can be added to the pod, or None."""
    subject, from_pod = PATHS, options.paths_from_pod
    if not options.paths:
        subject, from_pod = STDOUT, STDOUT in pod.annotations
    taken = [one.name for one in pod.containers if _OUR_NAMES.fullmatch(one.name)]
    if taken:
        message = f"the pod has a container {taken[0]} of its own"
        return Fault(subject, NAME_TAKEN, message, from_pod=from_pod)
    ends = pod.spec.get("restartPolicy") in ("Never", "OnFailure")
    if options.choices.collector == "sidecar" and ends and not is_native:
        message = "the pod ends by itself, which needs native sidecars (Kubernetes 1.29)"
        return Fault(subject, JOB_NEEDS_NATIVE, message, from_pod=from_pod)
    return None


def nothing_asked(options: Options) -> tuple[Fault, ...]:
    """Return the fault of a pod that asks for nothing in particular.

    One that says `stdout: off`, by itself or by its namespace, knows what it does.
    """
    if STDOUT in options.given:
        return ()
    message = f"nothing to collect: set {PATHS} or {STDOUT}"
    return (Fault(PATHS, NOTHING_ASKED, message, from_pod=False),)


@dataclass(frozen=True, slots=True)
class Port:
    """Where the sidecar serves its metrics."""

    number: int | None
    is_announced: bool
    """False on the node's own network, where a container's port would be the node's."""
    warnings: tuple[str, ...] = ()


def choose_port(pod: Pod, options: Options) -> Port:
    """Return the port: on the node's own network only an author's own."""
    number = options.choices.metrics_port
    is_authored = METRICS_PORT in options.given
    if number is None or (is_on_host_network(pod) and not is_authored):
        return Port(None, is_announced=False)
    if any(_has_port(one.raw.get("ports"), number) for one in pod.containers):
        warning = f"port {number} is the pod's own: the sidecar opens none ({METRICS_PORT})"
        return Port(None, is_announced=False, warnings=(warning,))
    return Port(number, is_announced=not is_on_host_network(pod))


def _has_port(ports: object, number: int) -> bool:
    return isinstance(ports, list) and any(
        isinstance(port, dict) and port.get("containerPort") == number for port in ports
    )


def is_on_host_network(pod: Pod) -> bool:
    """Return whether the pod has the node's network."""
    return pod.spec.get("hostNetwork") is True


def remarks(pod: Pod, options: Options, settings: OperatorConfig) -> list[str]:
    """Return warnings about how a sidecar will fare in the pod."""
    found = []
    deadline = pod.spec.get("activeDeadlineSeconds")
    if grace_seconds(pod) < _SHORT_SECONDS or (
        isinstance(deadline, int) and deadline < _SHORT_SECONDS
    ):
        found.append("the pod ends too fast for its last lines to be sent: give it 10 s or more")
    if is_on_host_network(pod) and pod.spec.get("dnsPolicy") != "ClusterFirstWithHostNet":
        hosts = [settings.backends[name].host for name in options.choices.backend]
        if any(_CLUSTER_NAME.fullmatch(host) for host in hosts):
            found.append(
                "on the node's network the names of the cluster are not known: set dnsPolicy to"
                " ClusterFirstWithHostNet"
            )
    return found
