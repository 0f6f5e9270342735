"""An API server in memory that behaves as far as lists, watches and creations go.

Stands where `runtime.kube.KubeApi` stands; the real one is tested against a real API server.
"""

import queue
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.kube import KubeError, StatusError, UnreachableError
from runtime.stop import Stop

Json = dict[str, Any]


class FakeKubeApi:
    """Collections by path; every change is an event for whoever watches."""

    def __init__(self) -> None:
        self.version: Json = {"major": "1", "minor": "31"}
        self.collections: dict[str, dict[str, Json]] = {}
        self.created: list[tuple[str, Json]] = []
        self.calls: list[str] = []
        self.failures: list[KubeError] = []
        """Raised by the next calls, one each."""
        self._resource_version = 0
        self._watchers: dict[str, list[queue.Queue[Json | KubeError | None]]] = {}

    # --- what a test does -------------------------------------------------------------------

    def put(self, path: str, item: Json) -> None:
        """Create or change an object."""
        collection = self.collections.setdefault(path, {})
        key = self._key(item)
        self._resource_version += 1
        item = item | {
            "metadata": item["metadata"] | {"resourceVersion": str(self._resource_version)}
        }
        kind = "MODIFIED" if key in collection else "ADDED"
        collection[key] = item
        self._tell(path, {"type": kind, "object": item})

    def remove(self, path: str, name: str) -> None:
        """Delete an object."""
        self._resource_version += 1
        item = self.collections[path].pop(name)
        item["metadata"]["resourceVersion"] = str(self._resource_version)
        self._tell(path, {"type": "DELETED", "object": item})

    def bookmark(self, path: str) -> None:
        """Send what keeps a watch young."""
        self._resource_version += 1
        metadata = {"resourceVersion": str(self._resource_version)}
        self._tell(path, {"type": "BOOKMARK", "object": {"metadata": metadata}})

    def end_watches(self, path: str, error: KubeError | None = None) -> None:
        """End the watches of a collection, with an error or as the server does after minutes."""
        for watcher in self._watchers.get(path, []):
            watcher.put(error)

    def is_watched(self, path: str) -> bool:
        """Return whether somebody watches a collection."""
        return bool(self._watchers.get(path))

    # --- what KubeApi does ------------------------------------------------------------------

    def get(self, path: str) -> Json:
        """Return the version, or an object."""
        self._call(f"get {path}")
        if path == "/version":
            return self.version
        raise StatusError(path, 404, "NotFound", "")

    def create(self, path: str, body: Json) -> Json:
        """Keep what is created."""
        self._call(f"create {path}")
        self.created.append((path, body))
        return body

    def pages(self, path: str, params: Mapping[str, str] | None = None, **_: Any) -> Iterator[Json]:
        """Yield the list in pages of `limit`."""
        self._call(f"list {path}")
        limit = int((params or {}).get("limit", "500"))
        items = list(self.collections.get(path, {}).values())
        metadata = {"resourceVersion": str(self._resource_version)}
        for start in range(0, max(1, len(items)), limit):
            yield {"metadata": metadata, "items": items[start : start + limit] or None}

    def watch(self, path: str, *, resource_version: str, stop: Stop, **_: Any) -> Iterator[Json]:
        """Yield what changes from now on; what changed since `resource_version` is 410."""
        self._call(f"watch {path} {resource_version}")
        watcher: queue.Queue[Json | KubeError | None] = queue.Queue()
        self._watchers.setdefault(path, []).append(watcher)
        try:
            while not stop.asked:
                try:
                    event = watcher.get(timeout=0.05)
                except queue.Empty:
                    continue
                if event is None:
                    return
                if isinstance(event, KubeError):
                    raise event
                yield event
        finally:
            self._watchers[path].remove(watcher)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.failures:
            raise self.failures.pop(0)

    def _tell(self, path: str, event: Json) -> None:
        for watcher in self._watchers.get(path, []):
            watcher.put(event)

    def _key(self, item: Json) -> str:
        metadata = item["metadata"]
        namespace = metadata.get("namespace")
        return f"{namespace}/{metadata['name']}" if namespace else metadata["name"]


def unreachable() -> KubeError:
    """Return the error of a call that got no answer."""
    return UnreachableError("GET /: got no answer in time, expected an answer")


def refused(status: int) -> KubeError:
    """Return the error of a call that was answered with no."""
    return StatusError("GET /", status, "Refused", "no")
