"""The cluster's certificates from the command line: once, or until SIGTERM."""

import signal
import time

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from certs.keep import Keeper, Place, keep_certificates
from certs.metrics import CertificateMetrics
from runtime.kube import KubeApi
from runtime.kube_access import Access
from runtime.logs import set_up_logs
from runtime.probes import Answer, open_probes
from runtime.stop import Stop


def once(access: Access, namespace: str, seconds: int) -> str | None:
    """Bring the Secret and the bundles into order; return what is undone after `seconds`."""
    set_up_logs("info")
    stop = _stop_on_signals()
    keeper = Keeper(
        KubeApi(access),
        Place(namespace=namespace),
        on_pair=lambda _certificate, _key: None,  # nobody serves here
        metrics=CertificateMetrics(CollectorRegistry()),
    )
    deadline = time.monotonic() + seconds
    while not stop.asked and time.monotonic() < deadline:
        next_in = keeper.turn()
        if keeper.settled:
            return None
        stop.wait(min(next_in, deadline - time.monotonic()))
    return keeper.trouble or "a rotation is under way and needs more time"


def keep(access: Access, namespace: str, metrics_port: int) -> int:
    """Keep the Secret and the bundles in order until SIGTERM; return the exit status.

    For a webhook that has no rights of its own in the cluster (overlay `restricted`): the pair
    reaches it as a mounted Secret.
    """
    set_up_logs("info")
    stop, registry, kept = _stop_on_signals(), CollectorRegistry(), Kept()
    probes = open_probes(
        "::",
        metrics_port,
        {
            "/livez": lambda: Answer(200, b"ok\n"),
            "/readyz": kept.readiness,
            "/metrics": lambda: Answer(200, generate_latest(registry), CONTENT_TYPE_LATEST),
        },
    )
    try:
        keep_certificates(
            KubeApi(access),
            Place(namespace=namespace),
            on_pair=kept.take,
            metrics=CertificateMetrics(registry),
            stop=stop,
        )
    finally:
        if probes is not None:
            probes.close()
    return 0


class Kept:
    """Whether there has been a valid pair."""

    def __init__(self) -> None:
        self._is_there = False

    def take(self, _certificate: bytes, _key: bytes) -> str | None:
        """Note that there is a valid pair in the Secret."""
        self._is_there = True
        return None

    def readiness(self) -> Answer:
        """Return 200 once there was one."""
        return Answer(200, b"ok\n") if self._is_there else Answer(503, b"not ready\n")


def _stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.request())
    return stop
