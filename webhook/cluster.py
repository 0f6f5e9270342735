"""What the webhook knows of the cluster while it admits a pod: values in memory, never a call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NATIVE_SIDECAR_MINOR = 29
"""Kubernetes 1.29 is the first with native sidecars on by default, API server and kubelet."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """What a namespace says about its pods."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """One moment's view of the cluster; `None` is "not known", never "none there".

    The mappings may be live: they are only read, one key at a time.
    """

    api_server_minor: int | None = None
    """29 for v1.29.x; None without an API server (`--standalone`)."""
    oldest_kubelet_minor: int | None = None
    """The lowest minor version of all nodes; None without nodes or where they are not known."""
    has_no_nodes: bool = False
    """The nodes are known, and there is none yet: a cluster that grows from nothing."""
    kubelet_minor_by_node: Mapping[str, int] = field(default_factory=dict)
    """Node name → minor version, for pods that are pinned to a node."""
    namespaces: Mapping[str, Namespace] | None = None
    """By name; None where namespaces are not watched at all (`--standalone`)."""
    limit_ranges: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    """Namespace name → `spec.limits[]` of all its LimitRanges, as in the API."""

    def namespace(self, name: str) -> Namespace | None:
        """Return the namespace, or None where it is not (yet) in memory."""
        return None if self.namespaces is None else self.namespaces.get(name)


NOTHING_KNOWN = ClusterFacts()
"""What `--standalone` and the offline preview know."""
