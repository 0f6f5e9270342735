"""The review of a workload's pod template: what `POST /validate` tells who applies it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webhook.cluster import ClusterFacts
from webhook.settings import OperatorConfig


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to tell the person who applies a workload."""

    text: str
    """Printable; the response cuts and counts."""
    reason: str | None = None
    """A code of `contract.reasons`; None for a mere warning."""
    denies: bool = False
    """Whether `on_error: deny` denies for it (what the template's author can mend)."""


def review_template(  # noqa: PLR0913 - keyword-only facts of one workload
    template: Any,
    namespace: str,
    *,
    kind: str,
    claims: Sequence[str] = (),
    replicas: int | None = None,
    settings: OperatorConfig,
    facts: ClusterFacts,
) -> list[Finding]:
    """Return what would go wrong with the pods of `template`: `spec.template` of a workload.

    `kind` is the workload's (`Deployment`, `CronJob`, …), `claims` the names of
    `spec.volumeClaimTemplates[]`, `replicas` is None where the workload has no such number.
    """
    _ = (template, namespace, kind, claims, replicas, settings, facts)
    return []
