"""`python -m webhook`: wires the webhook from its flags, serves, and ends on SIGTERM.

Exit status: 0 when it was told to end, 1 when it failed at work, 2 for settings it cannot use.
"""

import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from contract.names import SYSTEM_NAMESPACE
from runtime.kube import KubeApi
from runtime.kube_access import AccessError, find_access
from runtime.logs import set_up_logs
from runtime.settings import Problem, SettingsError
from runtime.stop import Stop
from runtime.workers import Worker, repeat
from webhook.admissions import Admissions, InForce
from webhook.app import create_app
from webhook.cluster import NOTHING_KNOWN, ClusterFacts
from webhook.connections import Limits
from webhook.events import Events
from webhook.facts import Facts
from webhook.flags import DEFAULT_METRICS_BIND, Flags, parse_flags
from webhook.listening import open_listening
from webhook.metrics import Metrics
from webhook.missed_watch import MissedPods
from webhook.probes import Probes
from webhook.reload import CertificateFiles, ClientCaFile, ConfigFile, follow_files
from webhook.server import Server
from webhook.tls import Certificates
from webhook.wsgi import WsgiAnswer

_log = logging.getLogger(__name__)

FACTS_SECONDS = 10.0
"""For so long after the start readiness waits for what the cluster looks like."""
_SPARE_DESCRIPTORS = 96
"""For what is no connection of a peer's."""
_MAX_DESCRIPTORS = 65_536


class Webhook:
    """One process: what it was told, and what it holds."""

    def __init__(self, flags: Flags, environ: Mapping[str, str], stop: Stop) -> None:
        """Open and read everything; `stop` ends `run`.

        Raises:
            SettingsError: something that was given cannot be used.
            AccessError: no API server was found.
        """
        self.stop = stop
        self.metrics = Metrics()
        self.config = ConfigFile(Path(flags.config) if flags.config else None, self.metrics)
        self.config.load()
        self.certificates = Certificates()
        self._client_ca = ClientCaFile(
            Path(flags.client_ca) if flags.client_ca else None, self.certificates
        )
        self._client_ca.load()
        self._files = _certificate_files(flags, self.certificates)
        self._api = _find_api(flags, environ)
        self._facts = Facts(self._api, self.stop) if self._api is not None else None
        self._events = self._new_events(self._api) if self._api is not None else None
        self._missed = self._watch_for_missed()
        self._namespace = environ.get("POD_NAMESPACE") or SYSTEM_NAMESPACE
        self._started_at = time.monotonic()
        self.server = Server(limits=_limits())
        self._serve(flags)

    def run(self) -> None:
        """Serve until stop is asked, and finish what is under way."""
        self._start_workers()
        self.server.run(self.stop)

    def is_ready(self) -> bool:
        """Return whether traffic is welcome."""
        if self.stop.asked or not self.certificates.is_valid_at(time.time()):
            return False
        # A moment's patience, no more: without facts pods are injected all the same.
        waited = time.monotonic() - self._started_at > FACTS_SECONDS
        return self._facts is None or self._facts.is_complete or waited

    def _serve(self, flags: Flags) -> None:
        admissions = Admissions(
            InForce(config=lambda: self.config.config, facts=self._current_facts),
            self.metrics,
            tell=self._events.tell if self._events is not None else None,
        )
        probes = Probes(is_ready=self.is_ready, render_metrics=self.metrics.render)
        listening = _open("--bind", flags.bind)
        probing = _open_probing(flags.metrics_bind)
        self.metrics.watch(self.server, self.certificates)
        if probing is not None:
            self.server.serve(probing, probes)
        self.server.serve(
            listening, WsgiAnswer(create_app(admissions).wsgi_app), certificates=self.certificates
        )
        fields = {"address": _shown(listening), "metrics": probing and _shown(probing)}
        _log.info("serving", extra={"fields": fields})

    def _new_events(self, api: KubeApi) -> Events:
        return Events(api, self.metrics, self.stop, instance=socket.gethostname())

    def _watch_for_missed(self) -> MissedPods | None:
        if self._api is None:
            return None
        events = self._new_events(self._api)
        missed = MissedPods(self._api, self._current_facts, events, self.stop)
        self.metrics.watch_missed(missed.counts, lambda: missed.is_watching)
        return missed

    def _current_facts(self) -> ClusterFacts:
        return self._facts.current() if self._facts is not None else NOTHING_KNOWN

    def _start_workers(self) -> None:
        paths = [*self.config.paths, *self._client_ca.paths]
        if self._files is not None:
            paths += self._files.paths
        if paths:
            Worker("files", partial(follow_files, paths, self._refresh_files, self.stop)).start()
        if self._facts is not None:
            self._facts.start()
        if self._events is not None:
            Worker("events", partial(repeat, self._events.turn, self.stop)).start()
        if self._missed is not None:
            self._missed.start()
        if self._api is not None and self._files is None:
            Worker("certificates", partial(self._keep_certificates, self._api)).start()

    def _refresh_files(self) -> None:
        self.config.refresh()
        self._client_ca.refresh()
        if self._files is not None:
            self._files.refresh()

    def _keep_certificates(self, api: KubeApi) -> None:
        # Imported here: its X.509 costs 9 MB that a webhook with files does without.
        from certs.keep import Place, keep_certificates
        from certs.metrics import CertificateMetrics

        keep_certificates(
            api,
            Place(namespace=self._namespace),
            on_pair=self.certificates.offer,
            metrics=CertificateMetrics(self.metrics.registry),
            stop=self.stop,
        )


def _certificate_files(flags: Flags, certificates: Certificates) -> CertificateFiles | None:
    if flags.cert_file is None or flags.key_file is None:
        return None
    files = CertificateFiles(Path(flags.cert_file), Path(flags.key_file), certificates)
    files.load()
    return files


def _find_api(flags: Flags, environ: Mapping[str, str]) -> KubeApi | None:
    if flags.standalone:
        return None
    return KubeApi(find_access(kubeconfig=flags.kubeconfig, environ=environ))


def _open(flag: str, address: tuple[str, int]) -> socket.socket:
    try:
        return open_listening(*address)
    except OSError as error:
        got = f"{address[0]} port {address[1]} ({error.strerror or error})"
        raise SettingsError([Problem(flag, got, "an address that is free")]) from error


def _open_probing(address: tuple[str, int]) -> socket.socket | None:
    """Return the socket for the probes; None where only nobody asked for just this port."""
    try:
        return _open("--metrics-bind", address)
    except SettingsError as error:
        if address != DEFAULT_METRICS_BIND:
            raise
        # A second webhook on somebody's machine; in a pod nobody else can have it.
        _log.warning(
            "the metrics port is taken; going on without it",
            extra={"fields": {"error": str(error)}},
        )
        return None


def _shown(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _limits() -> Limits:
    """Return the limits, with as many descriptors as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = (
        _MAX_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _MAX_DESCRIPTORS)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, most))
    limits = Limits()
    room = max(16, descriptors - _SPARE_DESCRIPTORS)
    return replace(limits, max_connections=min(limits.max_connections, room))


def _check(flags: Flags) -> int:
    """Say what is wrong with the operator config; return the exit status."""
    ConfigFile(Path(flags.config) if flags.config else None, Metrics()).load()
    sys.stdout.write("the operator config can be used\n")
    return 0


def _serve(flags: Flags, environ: Mapping[str, str]) -> int:
    stop = Stop()

    def end_at_once(*_: object) -> None:
        stop.request()
        stop.request()

    # Before anything is served: from then on somebody may want it to end.
    signal.signal(signal.SIGTERM, lambda *_: stop.request())
    signal.signal(signal.SIGINT, end_at_once)
    webhook = Webhook(flags, environ, stop)
    # The loop wakes for a signal, as Python lets the handler run only between two waits.
    signal.set_wakeup_fd(webhook.server.wake_descriptor, warn_on_full_buffer=False)
    # What the start has made stays: looking through it again and again for garbage held up an
    # admission for 15 ms and more.
    gc.collect()
    gc.freeze()
    webhook.run()
    signal.set_wakeup_fd(-1)
    _log.info("ended", extra={"fields": {"at_once": stop.at_once}})
    return 0


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the process; return its exit status."""
    flags = parse_flags(arguments)
    set_up_logs(flags.log_level)
    try:
        return _check(flags) if flags.check else _serve(flags, environ)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"webhook: {problem}\n")
        return 2
    except AccessError as error:
        sys.stderr.write(f"webhook: {error}; --standalone serves without\n")
        return 2
    except Exception as error:  # noqa: BLE001 - the last one who can say it
        _log.critical(
            "the webhook failed", extra={"fields": {"error": type(error).__name__}}, exc_info=error
        )
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
