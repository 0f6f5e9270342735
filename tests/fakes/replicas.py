"""A cluster with replicas of the keeper, a clock that a test moves, and a verifier.

The verifier is what the API server is: it knows the bundle of the webhook configurations as it
stood some time ago, and believes a leaf or not.
"""

import base64
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from prometheus_client import CollectorRegistry

from certs.issue import Pair
from certs.keep import Keeper, Place, Ways
from certs.metrics import CertificateMetrics
from certs.rotation import Terms
from tests.fakes.kube import FakeCluster, FakeKube, webhook_configuration

PLACE = Place()
SECRET = f"/api/v1/namespaces/{PLACE.namespace}/secrets/{PLACE.secret}"
_API = "/apis/admissionregistration.k8s.io/v1"
MUTATING = f"{_API}/mutatingwebhookconfigurations/{PLACE.configurations}"
VALIDATING = f"{_API}/validatingwebhookconfigurations/{PLACE.configurations}"
SERVICE = f"{PLACE.service}.{PLACE.namespace}.svc"
START = datetime(2026, 1, 1, tzinfo=UTC)


class MovedClock:
    """A clock that stands until it is moved; `ahead` is how wrong its wall time is."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds) + self.ahead

    def monotonic(self) -> float:
        return self.seconds

    def move(self, by: timedelta) -> None:
        self.seconds += by.total_seconds()


class SeededRandomness:
    """Real keys; serial numbers and jitter from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    def serial(self) -> int:
        return self._random.getrandbits(150) + 1

    def fraction(self) -> float:
        return self._random.random()


@dataclass
class Replica:
    """One process: its keeper dies with it, its door to the cluster shows what it wrote."""

    kube: FakeKube
    keeper: Keeper
    registry: CollectorRegistry
    pairs: list[Pair] = field(default_factory=list)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


class World:
    """A cluster, its time, and its replicas."""

    def __init__(self, terms: Terms | None = None) -> None:
        self.cluster = FakeCluster()
        self.clock = MovedClock()
        self.terms = terms or Terms()
        self.refuses: str | None = None
        """Why no replica's server takes a pair; None: it does."""
        self._seed = 0
        self.cluster.put(
            MUTATING,
            webhook_configuration(
                "MutatingWebhookConfiguration", ["a.sidetail.dev", "b.sidetail.dev"]
            ),
        )
        self.cluster.put(
            VALIDATING,
            webhook_configuration("ValidatingWebhookConfiguration", ["c.sidetail.dev"]),
        )

    def replica(self, *, ahead: timedelta = timedelta(0)) -> Replica:
        """Return a new replica; `ahead` is how wrong its own clock is."""
        self._seed += 1
        kube, registry = FakeKube(self.cluster), CollectorRegistry()
        clock = self.clock
        if ahead:
            clock = _SkewedClock(self.clock, ahead)
        pairs: list[Pair] = []

        def take(certificate: bytes, key: bytes) -> str | None:
            if self.refuses is None:
                pairs.append(Pair(certificate, key))
            return self.refuses

        keeper = Keeper(
            kube,
            PLACE,
            on_pair=take,
            metrics=CertificateMetrics(registry),
            ways=Ways(clock=clock, random=SeededRandomness(self._seed), terms=self.terms),
        )
        return Replica(kube, keeper, registry, pairs)

    def secret(self) -> dict[str, bytes]:
        data = self.cluster.take(SECRET)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def set_secret(self, **data: bytes | None) -> None:
        """Change keys of the Secret by hand, `tls_crt=` for `tls.crt`; None takes one out."""
        stored = self.cluster.take(SECRET)
        held = dict(stored.get("data") or {})
        for key, value in data.items():
            name = key.replace("_crt", ".crt").replace("_key", ".key").replace("_ca", "-ca")
            if value is None:
                held.pop(name, None)
            else:
                held[name] = base64.b64encode(value).decode()
        self.cluster.put(SECRET, {**stored, "data": held})

    def bundles(self) -> list[bytes]:
        found: list[bytes] = []
        for path in (MUTATING, VALIDATING):
            found += [
                base64.b64decode(entry["clientConfig"].get("caBundle", ""))
                for entry in self.cluster.take(path)["webhooks"]
            ]
        return found

    def wipe_bundles(self) -> None:
        for path in (MUTATING, VALIDATING):
            stored = self.cluster.take(path)
            for entry in stored["webhooks"]:
                entry["clientConfig"].pop("caBundle", None)
            self.cluster.put(path, stored)

    def believes(self, pair: Pair, bundle: bytes | None = None, **skew: timedelta) -> bool:
        """Return whether an API server with this bundle (the current ones) takes this leaf."""
        bundles = self.bundles() if bundle is None else [bundle]
        when = self.clock.now() + skew.get("skew", timedelta(0))
        return all(verifies(pair, one, when) for one in bundles)


class _SkewedClock(MovedClock):
    def __init__(self, clock: MovedClock, ahead: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._by = ahead

    def now(self) -> datetime:
        return self._clock.now() + self._by

    def monotonic(self) -> float:
        return self._clock.monotonic()


def verifies(pair: Pair, bundle: bytes, when: datetime, host: str = SERVICE) -> bool:
    """Return whether a client that trusts `bundle` takes this leaf for `host` at `when`."""
    if not bundle:
        return False
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(when.replace(tzinfo=None))
        .build_server_verifier(x509.DNSName(host))
    )
    try:
        verifier.verify(x509.load_pem_x509_certificate(pair.certificate), [])
    except VerificationError:
        return False
    return True
