"""An API server in memory that behaves as far as lists, watches and creations go.

Stands where `runtime.kube.KubeApi` stands; the real one is tested against a real API server.
"""

import queue
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.kube import KubeError, StatusError, UnreachableError
from runtime.stop import Stop

Json = dict[str, Any]

_PATH = re.compile(
    r"(?P<group>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_SET = re.compile(r"(\S+) (in|notin) \(([^)]*)\)")


@dataclass(frozen=True)
class _Asked:
    """What one list or watch is about."""

    collection: str
    namespace: str | None
    labels: str
    fields: str
    is_metadata: bool

    def takes(self, item: Json | None) -> bool:
        if item is None:
            return False
        metadata = item["metadata"]
        if self.namespace is not None and metadata.get("namespace") != self.namespace:
            return False
        fields = {
            "metadata.namespace": metadata.get("namespace"),
            "metadata.name": metadata["name"],
            "status.phase": item.get("status", {}).get("phase", "Pending"),
        }
        return _selects(self.labels, metadata.get("labels") or {}) and _selects(self.fields, fields)

    def shown(self, item: Json) -> Json:
        return {"metadata": item["metadata"]} if self.is_metadata else item


def _selects(selector: str, values: Mapping[str, Any]) -> bool:
    for key, operator, listed in _SET.findall(selector):
        if (values.get(key) in listed.split(",")) is not (operator == "in"):
            return False
    for term in filter(None, _SET.sub("", selector).split(",")):
        key, is_equal, value = re.fullmatch(r"([^!=]+)(!=|=)(.*)", term).groups()  # type: ignore[union-attr] # a selector that this does not know is the test's fault
        if (values.get(key) == value) is not (is_equal == "="):
            return False
    return True


class FakeKubeApi:
    """Collections by path, of all namespaces; every change is an event for whoever watches."""

    def __init__(self) -> None:
        self.version: Json = {"major": "1", "minor": "31"}
        self.collections: dict[str, dict[str, Json]] = {}
        self.created: list[tuple[str, Json]] = []
        self.calls: list[str] = []
        self.failures: list[KubeError] = []
        """Raised by the next calls, one each."""
        self.refusal: Callable[[str, str], KubeError | None] = lambda _verb, _path: None
        """(get, list, watch or create; path) → what the call gets instead of its answer."""
        self.on_create: Callable[[str, Json], Json] = lambda _path, body: body
        """(path, body) → what is answered; may raise."""
        self._resource_version = 0
        self._watchers: list[tuple[str, _Asked, queue.Queue[Json | KubeError | None]]] = []

    # --- what a test does -------------------------------------------------------------------

    def put(self, path: str, item: Json) -> None:
        """Create or change an object."""
        collection = self.collections.setdefault(path, {})
        key = self._key(item)
        self._resource_version += 1
        item = item | {
            "metadata": item["metadata"] | {"resourceVersion": str(self._resource_version)}
        }
        before = collection.get(key)
        collection[key] = item
        self._tell(path, before, item)

    def remove(self, path: str, name: str) -> None:
        """Delete an object."""
        self._resource_version += 1
        item = self.collections[path].pop(name)
        item["metadata"]["resourceVersion"] = str(self._resource_version)
        self._tell(path, item, None)

    def bookmark(self, path: str) -> None:
        """Send what keeps a watch young."""
        self._resource_version += 1
        metadata = {"resourceVersion": str(self._resource_version)}
        for watcher in self._of(path):
            watcher.put({"type": "BOOKMARK", "object": {"metadata": metadata}})

    def end_watches(self, path: str, error: KubeError | None = None) -> None:
        """End the watches of a collection, with an error or as the server does after minutes."""
        for watcher in self._of(path):
            watcher.put(error)

    def is_watched(self, path: str) -> bool:
        """Return whether somebody watches a collection, by just this path."""
        return bool(self._of(path))

    # --- what KubeApi does ------------------------------------------------------------------

    def get(self, path: str, params: Mapping[str, str] | None = None, **_: Any) -> Json:
        """Return the version, or an object."""
        self._call("get", path)
        if path == "/version":
            return self.version
        collection, namespace, name = _split(path)
        key = f"{namespace}/{name}" if namespace else str(name)
        found = self.collections.get(collection, {}).get(key)
        if found is None:
            raise StatusError(f"GET {path}", 404, "NotFound", "")
        return found

    def create(self, path: str, body: Json, params: Mapping[str, str] | None = None) -> Json:
        """Keep what is created, but not what is only tried."""
        self._call("create", path)
        answer = self.on_create(path, body)
        if (params or {}).get("dryRun") != "All":
            self.created.append((path, body))
        return answer

    def pages(
        self, path: str, params: Mapping[str, str] | None = None, *, accept: str = ""
    ) -> Iterator[Json]:
        """Yield the list in pages of `limit`."""
        self._call("list", path)
        limit = int((params or {}).get("limit", "500"))
        asked = _asked(path, params, accept)
        found = list(self.collections.get(asked.collection, {}).values())
        items = [asked.shown(item) for item in found if asked.takes(item)]
        metadata = {"resourceVersion": str(self._resource_version)}
        for start in range(0, max(1, len(items)), limit):
            yield {"metadata": metadata, "items": items[start : start + limit] or None}

    def watch(
        self,
        path: str,
        *,
        resource_version: str,
        stop: Stop,
        params: Mapping[str, str] | None = None,
        accept: str = "",
    ) -> Iterator[Json]:
        """Yield what changes from now on; what changed since `resource_version` is 410."""
        self._call("watch", path, resource_version)
        watcher: queue.Queue[Json | KubeError | None] = queue.Queue()
        row = (path, _asked(path, params, accept), watcher)
        self._watchers.append(row)
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
            self._watchers.remove(row)

    def _call(self, verb: str, path: str, *more: str) -> None:
        self.calls.append(" ".join((verb, path, *more)))
        if self.failures:
            raise self.failures.pop(0)
        refusal = self.refusal(verb, path)
        if refusal is not None:
            raise refusal

    def _of(self, path: str) -> list["queue.Queue[Json | KubeError | None]"]:
        return [watcher for watched, _, watcher in list(self._watchers) if watched == path]

    def _tell(self, path: str, before: Json | None, after: Json | None) -> None:
        for _, asked, watcher in list(self._watchers):
            if asked.collection != path:
                continue
            was, stays = asked.takes(before), asked.takes(after)
            kind = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}
            if was or stays:
                item = after or before
                assert item is not None
                watcher.put({"type": kind[was, stays], "object": asked.shown(item)})

    def _key(self, item: Json) -> str:
        metadata = item["metadata"]
        namespace = metadata.get("namespace")
        return f"{namespace}/{metadata['name']}" if namespace else metadata["name"]


def _split(path: str) -> tuple[str, str | None, str | None]:
    """Return the collection of all namespaces, the namespace and the name."""
    match = _PATH.fullmatch(path)
    assert match is not None, path
    return f"{match['group']}/{match['resource']}", match["namespace"], match["name"]


def _asked(path: str, params: Mapping[str, str] | None, accept: str) -> _Asked:
    collection, namespace, name = _split(path)
    assert name is None, path
    given = params or {}
    return _Asked(
        collection,
        namespace,
        given.get("labelSelector", ""),
        given.get("fieldSelector", ""),
        "PartialObjectMetadata" in accept,
    )


def unreachable() -> KubeError:
    """Return the error of a call that got no answer."""
    return UnreachableError("GET /: got no answer in time, expected an answer")


def refused(status: int) -> KubeError:
    """Return the error of a call that was answered with no."""
    return StatusError("GET /", status, "Refused", "no")
