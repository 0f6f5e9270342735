"""What `/mutate` and `/validate` answer: a review comes in, the response's bytes go out.

Around the pure steps: what is in force, the clock, the log, the metrics, the Events. A fault of
ours never fails a rollout (design D8): the object is admitted as it is, with an error id.
"""

import logging
import secrets
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from webhook.admission import Admission
from webhook.cluster import ClusterFacts
from webhook.metrics import Metrics
from webhook.mutate import admit_pod
from webhook.request import Review, ReviewError
from webhook.response import render_admitted, render_denied
from webhook.settings import OperatorConfig
from webhook.validate import Verdict, validate_workload

_log = logging.getLogger(__name__)

_ASIDE = "aside"
"""The outcome of a review that is not about what we look at."""
_DRY_RUN = "dry-run"
"""Counted instead of what a dry run came to, as nothing came of it."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds at the moment of an admission; all of it is in memory (design D10)."""

    config: Callable[[], OperatorConfig]
    facts: Callable[[], ClusterFacts]


@dataclass(frozen=True, slots=True)
class _Answer:
    body: bytes
    outcome: str
    reason: str | None = None


class Admissions:
    """Answers reviews; raises nothing for any review."""

    def __init__(
        self,
        in_force: InForce,
        metrics: Metrics,
        *,
        tell: Callable[[Review, Admission], None] | None = None,
    ) -> None:
        self._in_force = in_force
        self._metrics = metrics
        self._tell = tell
        """Makes the Event about what is left out, in the background; None: nobody does."""

    def mutate(self, review: Review) -> bytes:
        """Return the response for a pod that is created; anything else is admitted as it is."""
        return self._guarded("mutate", review, self._mutate)

    def validate(self, review: Review) -> bytes:
        """Return the response for a workload; anything else is admitted."""
        return self._guarded("validate", review, self._validate)

    def refuse(self, path: str, error: ReviewError) -> None:
        """Note that a request was no review."""
        self._metrics.refused(path.removeprefix("/"), error.status)
        _log.info("a request was refused", extra={"fields": {"path": path, "status": error.status}})

    def _mutate(self, review: Review) -> _Answer:
        if review.object is None or not review.is_about("", "pods", "CREATE"):
            return _Answer(render_admitted(review.uid), _ASIDE)
        facts = self._in_force.facts()
        if facts.namespaces is not None and facts.namespace(review.namespace) is None:
            self._metrics.namespace_unknown()
        admission = admit_pod(
            review.object, review.namespace, settings=self._in_force.config(), facts=facts
        )
        # NoneOnDryRun is what the registration promises: an Event is a side effect.
        if not review.dry_run:
            self._metrics.left_out(admission.left_out)
            if self._tell is not None and admission.left_out:
                self._tell(review, admission)
        return _render_admission(review, admission)

    def _validate(self, review: Review) -> _Answer:
        verdict = validate_workload(
            review, settings=self._in_force.config(), facts=self._in_force.facts()
        )
        if verdict is None:
            return _Answer(render_admitted(review.uid), _ASIDE)
        return _render_verdict(review, verdict)

    def _guarded(self, path: str, review: Review, answer: Callable[[Review], _Answer]) -> bytes:
        began = time.perf_counter()
        try:
            answered = answer(review)
        except Exception as error:  # noqa: BLE001 - design D8: never worth a failed rollout
            answered = self._admit_despite(path, review, error)
        seconds = time.perf_counter() - began
        counted = _DRY_RUN if review.dry_run else answered.outcome
        self._metrics.admitted(path, counted, seconds)
        _log.info(
            "answered a review",
            extra={
                "fields": {
                    "path": path,
                    "uid": review.uid,
                    "namespace": review.namespace,
                    "kind": review.kind,
                    "operation": review.operation,
                    "decision": answered.outcome,
                    "reason": answered.reason,
                    "milliseconds": round(seconds * 1000, 3),
                }
            },
        )
        return answered.body

    def _admit_despite(self, path: str, review: Review, error: Exception) -> _Answer:
        self._metrics.fault(path)
        error_id = secrets.token_hex(6)
        _log.error(
            "an admission met a fault of ours; the object is admitted as it is",
            extra={
                "fields": {
                    "error_id": error_id,
                    "uid": review.uid,
                    "error": type(error).__name__,
                    "at": _places(error),
                }
            },
        )
        warning = f"sidetail: a fault of ours, nothing was changed; error id {error_id}"
        return _Answer(render_admitted(review.uid, warnings=[warning]), "fault", "fault")


def _render_admission(review: Review, admission: Admission) -> _Answer:
    reason = admission.skip or next((row["reason"] for row in admission.left_out), None)
    if admission.denied is not None:
        body = render_denied(review.uid, admission.denied, warnings=admission.warnings)
        return _Answer(body, "denied", reason)
    body = render_admitted(review.uid, patch=admission.patch, warnings=admission.warnings)
    return _Answer(body, admission.outcome, reason)


def _render_verdict(review: Review, verdict: Verdict) -> _Answer:
    if verdict.denied is not None:
        body = render_denied(review.uid, verdict.denied, warnings=verdict.warnings)
        return _Answer(body, "denied", verdict.reason)
    outcome = "warned" if verdict.warnings else "admitted"
    return _Answer(render_admitted(review.uid, warnings=verdict.warnings), outcome, verdict.reason)


def _places(error: Exception) -> list[str]:
    """Return where it happened, without the error's text, which may quote what was sent."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
