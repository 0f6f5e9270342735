"""What a replica sees of the CA bundles from turn to turn, and when it writes them.

A bundle is written where the keyring has changed (that is the plan), and where somebody else has
changed what was right before (that is a repair, of which there is a budget).
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from certs.ca_bundle import CaBundle, ChangedError, Configuration
from certs.keyring import Keyring
from certs.metrics import CertificateMetrics
from certs.system import Budget, Clock
from runtime.kube import KubeError
from runtime.logs import Seldom

_log = logging.getLogger(__name__)

Fail = Callable[[str, str, object], None]
"""Notes why a turn leaves something undone: a constant sentence, `bundle`, the cause or None."""


class Bundles:
    """The bundles of all webhook configurations, as one replica has seen them. For one thread."""

    def __init__(
        self, ca_bundle: CaBundle, clock: Clock, metrics: CertificateMetrics, fail: Fail
    ) -> None:
        self._ca_bundle = ca_bundle
        self._clock = clock
        self._metrics = metrics
        self._fail = fail
        self._seldom = Seldom(clock=clock.monotonic)
        self._repairs = Budget(clock)
        self._seen: tuple[Configuration, ...] = ()
        self._right: dict[str, bytes] = {}
        """Path → the bundle that was last seen there and was right."""
        self._announced: tuple[bytes, float] | None = None
        """The coming CA, and since when (monotonic) every bundle has been seen to hold it."""

    def look(self) -> None:
        """Read all configurations; those that cannot be read are noted as such."""
        self._seen = self._ca_bundle.look()

    def lose_sight(self) -> None:
        """Forget since when the coming CA has been announced: it may have been out meanwhile."""
        self._announced = None

    def announced_for(self, keyring: Keyring) -> timedelta | None:
        """Return how long each bundle has held the coming CA without a break, else None."""
        if keyring.coming is None:
            self._announced = None
            return None
        ca, now = keyring.coming.pair.certificate, self._clock.monotonic()
        if not all(one.knows(ca) for one in self._seen):
            self._announced = None
            return None
        if self._announced is None or self._announced[0] != ca:
            self._announced = (ca, now)
        return timedelta(seconds=now - self._announced[1])

    def bring_into_line(self, keyring: Keyring) -> bool:
        """Write the bundles that are not the keyring's; return whether to look again."""
        bundle, again = keyring.bundle, False
        for seen in self._seen:
            again = self._bring_one(seen, bundle) or again
        self._metrics.bundle(in_sync=all(one.holds(bundle) for one in self._seen))
        return again

    def _bring_one(self, seen: Configuration, bundle: bytes) -> bool:
        if seen.error is not None:
            self._fail("a webhook configuration cannot be read", "bundle", seen.error)
        elif seen.missing:
            self._say_missing(seen)
        elif seen.holds(bundle):
            self._right[seen.path] = bundle
        elif self._right.get(seen.path) != bundle:
            return self._write(seen, bundle)
        elif self._repairs.spend():
            _log.warning(
                "the CA bundle was changed by somebody else; writing it again",
                extra={"fields": {"configuration": seen.kind}},
            )
            self._metrics.repaired()
            return self._write(seen, bundle)
        else:
            self._fail("somebody keeps changing the CA bundle; waiting", "bundle", None)
        return False

    def _write(self, seen: Configuration, bundle: bytes) -> bool:
        try:
            self._ca_bundle.write(seen, bundle)
        except ChangedError:
            return True
        except KubeError as error:
            self._fail("a webhook configuration cannot be written", "bundle", error)
            return False
        return True

    def _say_missing(self, seen: Configuration) -> None:
        if self._seldom.due("missing", seen.kind):
            _log.warning(
                "a webhook configuration is not there: no pod will be injected",
                extra={
                    "fields": {"configuration": seen.path, "hint": "kubectl apply install.yaml"}
                },
            )
