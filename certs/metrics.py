"""What is measured of the certificates, with names and sentences as they leave the process."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


class CertificateMetrics:
    """Gauges and counters; an alarm can be built on each of them (docs/certificates.md)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cert_not_after = Gauge(
            "sidetail_cert_not_after",
            "When the serving certificate ends, in seconds since 1970; 0 while there is none.",
            registry=registry,
        )
        self._ca_not_after = Gauge(
            "sidetail_ca_not_after",
            "When the CA that signs ends, in seconds since 1970; 0 while there is none.",
            registry=registry,
        )
        self._in_sync = Gauge(
            "sidetail_ca_bundle_in_sync",
            "1 if every webhook configuration holds just our CAs, else 0.",
            registry=registry,
        )
        self._repairs = Counter(
            "sidetail_ca_bundle_repairs",
            "CA bundles that somebody else had changed and that were written again.",
            registry=registry,
        )
        self._steps = Counter(
            "sidetail_certificate_rotation_steps",
            "Changes of the certificates that this replica wrote, by step.",
            ["step"],
            registry=registry,
        )
        self._failures = Counter(
            "sidetail_certificate_rotation_failures",
            "What a turn left undone: secret, bundle, pair (refused by the server), race, war.",
            ["what"],
            registry=registry,
        )

    def serves(self, not_after: datetime) -> None:
        """The pair that was handed over last ends then."""
        self._cert_not_after.set(not_after.timestamp())

    def signs(self, not_after: datetime | None) -> None:
        """The CA that signs ends then; None: there is none."""
        self._ca_not_after.set(not_after.timestamp() if not_after is not None else 0)

    def bundle(self, *, in_sync: bool) -> None:
        """All webhook configurations hold the bundle, or not."""
        self._in_sync.set(1 if in_sync else 0)

    def repaired(self) -> None:
        """A bundle that somebody else had changed was written again."""
        self._repairs.inc()

    def stepped(self, step: str) -> None:
        """This replica wrote a change of the Secret."""
        self._steps.labels(step=step).inc()

    def failed(self, what: str) -> None:
        """Something was left undone in this turn; `what` is of the closed list above."""
        self._failures.labels(what=what).inc()
