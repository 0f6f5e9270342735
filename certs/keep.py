"""The thread that keeps the certificates: it looks, takes the step that is due, looks again.

Every replica runs it and none asks another: the Secret is the truth, its resourceVersion decides
who was first, and the others adopt what they find. What was read once is remembered, so that an
API server that is away or a Secret that was wiped costs no admission.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from certs.bundles import Bundles
from certs.ca_bundle import CaBundle
from certs.issue import Randomness, service_names
from certs.keyring import Keyring, Leaf, read_keyring, secret_data
from certs.metrics import CertificateMetrics
from certs.rotation import Step, Terms, can_sign, next_step, take_step
from certs.store import ConflictError, SecretStore, Stored
from certs.system import Budget, Clock, SystemClock, SystemRandomness
from runtime.kube import KubeApi, KubeError
from runtime.logs import Seldom
from runtime.stop import Stop
from runtime.workers import repeat

_log = logging.getLogger(__name__)

POLL_SECONDS = 10.0
"""Between two looks; a bundle that somebody emptied is whole again within three of them."""
MAX_RETRY_SECONDS = 25.0
"""Between two tries while the API server does not do what it is asked."""
ROUNDS = 8
"""Changes in one turn, at most: a start takes three, the rest is room for lost races."""


TakePair = Callable[[bytes, bytes], str | None]
"""Gets each new pair that is valid now, as PEM: certificate, key; returns why it cannot be served,
None if it is. One that was refused is offered again at the next turn."""


@dataclass(frozen=True, slots=True)
class Place:
    """What things are called in the cluster; the manifests say the same."""

    namespace: str = "sidetail-system"
    service: str = "sidetail-webhook"
    secret: str = "sidetail-webhook-certificates"  # noqa: S105 - the name of a Secret is no secret
    configurations: str = "sidetail"
    """Of the mutating and of the validating webhook configuration."""


def keep_certificates(
    api: KubeApi,
    place: Place,
    *,
    on_pair: TakePair,
    metrics: CertificateMetrics,
    stop: Stop,
) -> None:
    """Keep the certificates until stop is asked; the body of a thread, raises nothing.

    `on_pair` is called in this thread, also for a pair that another replica made.
    """
    repeat(Keeper(api, place, on_pair=on_pair, metrics=metrics).turn, stop)


@dataclass(frozen=True, slots=True)
class Ways:
    """Where time and randomness come from, and how long things take."""

    clock: Clock = field(default_factory=SystemClock)
    random: Randomness = field(default_factory=SystemRandomness)
    terms: Terms = field(default_factory=Terms)
    poll_seconds: float = POLL_SECONDS


class Keeper:
    """What one replica remembers between two looks. For one thread."""

    def __init__(
        self,
        api: KubeApi,
        place: Place,
        *,
        on_pair: TakePair,
        metrics: CertificateMetrics,
        ways: Ways | None = None,
    ) -> None:
        self.keyring = Keyring()
        """As it was read last from a Secret in which all was well."""
        self.served: Leaf | None = None
        """What was handed over last."""
        self.trouble: str | None = None
        """Why the last turn left something undone; None if it did not."""
        self._ways = ways or Ways()
        self._names = service_names(place.service, place.namespace)
        self._store = SecretStore(api, namespace=place.namespace, name=place.secret)
        self._bundles = Bundles(
            CaBundle(api, place.configurations), self._ways.clock, metrics, self._fail
        )
        self._on_pair = on_pair
        self._metrics = metrics
        self._jitter = self._ways.random.fraction() * 2 - 1
        self._seldom = Seldom(clock=self._ways.clock.monotonic)
        self._fresh_starts = Budget(self._ways.clock)
        self._failures = 0

    def turn(self) -> float:
        """Do all that is due now; return the seconds until the next turn."""
        self.trouble = None
        try:
            for _ in range(ROUNDS):
                if not self._round():
                    break
            else:
                self._fail("others keep changing the Secret or the webhook configurations", "race")
        except KubeError as error:
            self._bundles.lose_sight()
            self._fail("the Secret cannot be read or written", "secret", error)
            self._stand_in()
        return self._seconds_to_next()

    @property
    def settled(self) -> bool:
        """True after a turn that left nothing to do, and nothing to wait for but time."""
        whole = self.keyring.leaf is not None and self.keyring.authority is not None
        return self.trouble is None and whole and self.keyring.coming is None

    def _round(self) -> bool:
        """Make one change; return whether to look again."""
        # In this order: a bundle that is older than the Secret is brought up to it. The other way
        # round a slow replica would take back what another has just added.
        self._bundles.look()
        stored = self._store.read()
        found = read_keyring(stored.data, self._names)
        step = self._due(found)
        if step is not None:
            return self._write(step, stored, found)
        self._adopt(found)
        return self._bundles.bring_into_line(found)

    def _due(self, found: Keyring) -> Step | None:
        return next_step(
            found,
            remembered=self.keyring,
            now=self._ways.clock.now(),
            announced_for=self._bundles.announced_for(found),
            terms=self._ways.terms,
            jitter=self._jitter,
        )

    def _take(self, step: Step, keyring: Keyring) -> Keyring:
        if step is Step.RESTORE:
            return self.keyring
        return take_step(
            step,
            keyring,
            now=self._ways.clock.now(),
            names=self._names,
            random=self._ways.random,
            terms=self._ways.terms,
        )

    def _write(self, step: Step, stored: Stored, found: Keyring) -> bool:
        """Write the keyring after `step`; return whether to look again."""
        if step in {Step.START, Step.RESTORE} and not self._fresh_starts.spend():
            self._fail("the Secret is wiped again and again; waiting before the next repair", "war")
            return False
        try:
            self._store.write(stored, secret_data(self._take(step, found)))
        except ConflictError:
            return True  # another was first: look again, and adopt what it wrote
        self._metrics.stepped(step.value)
        level = logging.WARNING if step is Step.RESTORE else logging.INFO
        _log.log(level, "the certificates were changed", extra={"fields": {"step": step.value}})
        return True

    def _adopt(self, found: Keyring) -> None:
        self.keyring = found
        authority = found.authority
        self._metrics.signs(authority.ends if authority is not None else None)
        if found.leaf is not None:
            self._serve(found.leaf)

    def _serve(self, leaf: Leaf) -> None:
        if self.served is not None and self.served.pair == leaf.pair:
            return
        refused = self._on_pair(leaf.pair.certificate, leaf.pair.key)
        if refused is not None:
            self._fail("the serving certificate cannot be used", "pair", refused)
            return
        self.served = leaf
        self._metrics.serves(leaf.ends)
        _log.info(
            "a serving certificate was taken over",
            extra={"fields": {"not_after": leaf.ends.isoformat()}},
        )

    def _stand_in(self) -> None:
        """Serve a leaf that is in no Secret, where the one served is about to end.

        The CA is remembered and in the bundle, so the API server believes this leaf as well; a
        Secret that cannot be read or written for days (a policy, lost rights) stops nothing.
        """
        now, served = self._ways.clock.now(), self.served
        if served is None or not can_sign(self.keyring, now):
            return
        if served.ends - now > (served.ends - served.begins) / 10:
            return
        leaf = self._take(Step.RENEW, self.keyring).leaf
        if leaf is not None:
            self._serve(leaf)

    def _fail(self, trouble: str, what: str, cause: object = None) -> None:
        """Note why this turn leaves something undone: said at once, then once a minute."""
        self.trouble = trouble if cause is None else f"{trouble}: {cause}"
        self._metrics.failed(what)
        if self._seldom.due(trouble):
            fields = {"error": str(cause)} if cause is not None else {}
            _log.error(trouble, extra={"fields": fields})

    def _seconds_to_next(self) -> float:
        """Return when to look again: soon after a first failure, then less and less often."""
        jitter = 0.9 + 0.2 * self._ways.random.fraction()
        if self.trouble is None:
            if self._failures:
                _log.info("the certificates are in order again")
                self._seldom = Seldom(clock=self._ways.clock.monotonic)
            self._failures = 0
            return self._ways.poll_seconds * jitter
        self._failures += 1
        return min(MAX_RETRY_SECONDS, 0.5 * 2.0 ** min(self._failures, 10)) * jitter
