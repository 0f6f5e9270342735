"""The pod's walk from admission to patch, in one function: the webhook's table of contents."""

from typing import Any

from webhook.admission import Admission
from webhook.cluster import ClusterFacts
from webhook.settings import OperatorConfig


def admit_pod(
    pod: dict[str, Any], namespace: str, *, settings: OperatorConfig, facts: ClusterFacts
) -> Admission:
    """Return what to answer for `pod`, created in `namespace`."""
    _ = (pod, namespace, settings, facts)
    return Admission(outcome="none")
