"""What the webhook knows of the cluster: watches go in the background, `ClusterFacts` comes out.

An admission reads what is in memory and waits for nobody (design D10). What was known once stays
known while the API server is away.
"""

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from runtime.kube import METADATA_EVENTS, METADATA_LIST, Json, KubeApi, KubeError
from runtime.logs import Seldom
from runtime.stop import Stop
from runtime.workers import Worker, repeat
from webhook.cluster import ClusterFacts, Namespace
from webhook.collection import Collection, Kind

_log = logging.getLogger(__name__)

VERSION_SECONDS = 300.0
"""Between two looks at the API server's version."""
_UNKNOWN = -1
"""The minor version of a node that does not say one; it is a node all the same."""
_MINOR = re.compile(r"v?1\.([0-9]{1,4})(?:[^0-9].*)?", re.ASCII)


class Facts:
    """Keeps `ClusterFacts` by one watch for each kind of object, and the version by asking."""

    def __init__(self, api: KubeApi, stop: Stop) -> None:
        self._api = api
        self._stop = stop
        self._lock = threading.Lock()
        # Watched, but empty as yet: a namespace that is asked for now is one not in memory.
        self._facts = ClusterFacts(namespaces={})
        self._has_version = False
        self._seldom = Seldom()
        self._collections = (
            Collection(api, _NAMESPACES, on_change=self._on_namespaces, stop=stop),
            Collection(api, _LIMIT_RANGES, on_change=self._on_limit_ranges, stop=stop),
            Collection(api, _NODES, on_change=self._on_nodes, stop=stop),
        )

    def current(self) -> ClusterFacts:
        """Return what is known now."""
        return self._facts

    @property
    def is_complete(self) -> bool:
        """Whether everything was read once."""
        return self._has_version and all(each.is_complete for each in self._collections)

    def start(self) -> None:
        """Start the watches; they end when stop is asked."""
        Worker("facts-version", lambda: repeat(self._read_version, self._stop)).start()
        for collection in self._collections:
            name = collection.kind.path.rpartition("/")[2]
            Worker(f"facts-{name}", partial(repeat, collection.turn, self._stop)).start()

    def _change(self, **facts: Any) -> None:
        with self._lock:
            self._facts = replace(self._facts, **facts)

    def _on_namespaces(self, kept: Mapping[str, Namespace]) -> None:
        if self._facts.namespaces is not kept:  # the mapping is live: later changes show in it
            self._change(namespaces=kept)

    def _on_limit_ranges(self, kept: Mapping[str, tuple[Json, ...]]) -> None:
        ranges: dict[str, tuple[Json, ...]] = {}
        for key, limits in kept.items():
            namespace = key.partition("/")[0]
            ranges[namespace] = ranges.get(namespace, ()) + limits
        self._change(limit_ranges=ranges)

    def _on_nodes(self, kept: Mapping[str, int]) -> None:
        minors = {name: minor for name, minor in kept.items() if minor != _UNKNOWN}
        oldest = min(minors.values(), default=None)
        self._change(
            kubelet_minor_by_node=minors, oldest_kubelet_minor=oldest, has_no_nodes=not kept
        )

    def _read_version(self) -> float:
        try:
            version = self._api.get("/version")
        except KubeError as error:
            if self._seldom.due("version"):
                _log.warning(
                    "the API server's version cannot be read",
                    extra={"fields": {"error": str(error)}},
                )
            return 5.0
        minor = parse_minor(f"{version.get('major')}.{version.get('minor')}")
        if minor is not None:
            self._change(api_server_minor=minor)
        self._has_version = True
        return VERSION_SECONDS


def parse_minor(version: object) -> int | None:
    """Return the minor version of a version of Kubernetes 1, None for anything else.

    >>> parse_minor("v1.29.3-eks-a18cd3a"), parse_minor("1.30+"), parse_minor("v2.0.0")
    (29, 30, None)
    """
    match = _MINOR.fullmatch(version) if isinstance(version, str) else None
    return int(match[1]) if match else None


def _keep_namespace(item: Json) -> Namespace:
    metadata = item.get("metadata", {})
    return Namespace(
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
    )


def _keep_limits(item: Json) -> tuple[Json, ...]:
    return tuple(item.get("spec", {}).get("limits") or ())


def _keep_minor(item: Json) -> int:
    minor = parse_minor(item.get("status", {}).get("nodeInfo", {}).get("kubeletVersion"))
    return _UNKNOWN if minor is None else minor


_NAMESPACES = Kind(
    "/api/v1/namespaces",
    _keep_namespace,
    list_accept=METADATA_LIST,
    watch_accept=METADATA_EVENTS,
)
_LIMIT_RANGES = Kind("/api/v1/limitranges", _keep_limits)
# A node is 20 KB, most of it the names of images, and a page is in memory at once.
_NODES = Kind("/api/v1/nodes", _keep_minor, page=50)
