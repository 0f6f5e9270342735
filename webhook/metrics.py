"""What is measured of the webhook, with names and sentences as they leave the process."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from contract.plan import LeftOut
from contract.reasons import BY_CODE
from webhook.server import Server
from webhook.tls import Certificates

CONTENT_TYPE = CONTENT_TYPE_LATEST

Counts = Callable[[], Mapping[str, int]]
"""Gives a number for each namespace."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The webhook's own registry; safe from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._admissions = Counter(
            "sidetail_admissions",
            "AdmissionReviews answered: path, and the outcome or what was decided.",
            ["path", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sidetail_admission_seconds",
            "From the whole request to its answer, in seconds.",
            ["path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._left_out = Counter(
            "sidetail_left_out",
            "What was asked for and is not done, by reason (docs/reasons.md).",
            ["reason"],
            registry=self.registry,
        )
        self._refused = Counter(
            "sidetail_reviews_refused",
            "Requests that were no AdmissionReview, by HTTP status.",
            ["path", "status"],
            registry=self.registry,
        )
        self._faults = Counter(
            "sidetail_webhook_faults",
            "Admissions that met a fault of ours; the object was admitted as it was.",
            ["path"],
            registry=self.registry,
        )
        self._unknown_namespaces = Counter(
            "sidetail_namespaces_unknown",
            "Pods of a namespace that was not yet in memory: it counted as without annotations.",
            registry=self.registry,
        )
        self._events = Counter(
            "sidetail_events",
            "Events about what is left out, by what became of them.",
            ["result"],
            registry=self.registry,
        )
        self._config_loads = Counter(
            "sidetail_config_loads",
            "Readings of a changed operator config, by result.",
            ["result"],
            registry=self.registry,
        )
        for reason in BY_CODE:
            self._left_out.labels(reason=reason)  # shown as 0, so that a rate can be taken

    def admitted(self, path: str, outcome: str, seconds: float) -> None:
        """A review was answered; `outcome` is of a closed list."""
        self._admissions.labels(path=path, outcome=outcome).inc()
        self._seconds.labels(path=path).observe(seconds)

    def left_out(self, left_out: Iterable[LeftOut]) -> None:
        """These were asked for and are not done."""
        for row in left_out:
            self._left_out.labels(reason=row["reason"]).inc()

    def refused(self, path: str, status: int) -> None:
        """A request was no review."""
        self._refused.labels(path=path, status=str(status)).inc()

    def fault(self, path: str) -> None:
        """An admission met a fault of ours."""
        self._faults.labels(path=path).inc()

    def namespace_unknown(self) -> None:
        """A pod's namespace was not in memory."""
        self._unknown_namespaces.inc()

    def event(self, result: str) -> None:
        """An Event was `sent`, `repeated` (said already), `dropped` (too many) or `failed`."""
        self._events.labels(result=result).inc()

    def config_loaded(self, result: str) -> None:
        """A changed operator config was `taken` or `refused`."""
        self._config_loads.labels(result=result).inc()

    def watch(self, server: Server, certificates: Certificates) -> None:
        """Show what the server and the certificates count themselves."""
        self.registry.register(_ServerCollector(server, certificates))

    def watch_missed(self, counts: Counts, is_watching: Callable[[], bool]) -> None:
        """Show how many pods were missed, as of each scrape."""
        self.registry.register(_MissedCollector(counts, is_watching))

    def render(self) -> bytes:
        """Return all of it in the text format, as of now."""
        return generate_latest(self.registry)


class _MissedCollector(Collector):
    def __init__(self, counts: Counts, is_watching: Callable[[], bool]) -> None:
        self._counts = counts
        self._is_watching = is_watching

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        missed = GaugeMetricFamily(
            "sidetail_missed_pods",
            "Pods that run and ask, and that nobody looked at when they were created.",
            labels=["pod_namespace"],  # `namespace` is the webhook's own where it is scraped
        )
        for namespace, count in sorted(self._counts().items()):
            missed.add_metric([namespace], count)
        yield missed
        yield GaugeMetricFamily(
            "sidetail_missed_pods_watched",
            "1 if all pods that may ask are watched for it, else 0: no right, or not yet.",
            value=1 if self._is_watching() else 0,
        )


class _ServerCollector(Collector):
    def __init__(self, server: Server, certificates: Certificates) -> None:
        self._server = server
        self._certificates = certificates

    def describe(self) -> Iterator[Metric]:
        return iter(())  # else the registry would collect once to learn the names

    def collect(self) -> Iterator[Metric]:
        server, certificates = self._server, self._certificates
        for name, value, sentence in (
            ("connections", server.open_connections, "Open connections."),
            ("requests_waiting", server.waiting_requests, "Whole requests not yet answered."),
            ("body_bytes", server.held_bytes, "Of all bodies that wait or are coming in."),
        ):
            yield GaugeMetricFamily(f"sidetail_webhook_{name}", sentence, value=value)
        events = CounterMetricFamily(
            "sidetail_webhook_connection_events",
            "What happened to connections: accepted, evicted, handshake_failed and so on.",
            labels=["event"],
        )
        for event, count in sorted(server.counts.copy().items()):
            events.add_metric([event], count)
        yield events
        yield CounterMetricFamily(
            "sidetail_cert_load_failures",
            "Pairs of certificate and key that were offered and could not be served.",
            value=certificates.load_failures,
        )
        yield GaugeMetricFamily(
            "sidetail_cert_served_not_after",
            "When the certificate that is served ends, in seconds since 1970; 0 without one.",
            value=certificates.not_after or 0,
        )
