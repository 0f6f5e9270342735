"""An API server in memory, with the rules that matter here: resourceVersions and JSON patches.

`FakeKube` has the methods of `runtime.kube.KubeApi` and raises what that raises. Threads may share
one; `trouble` lets it refuse, and `writes` shows who wrote what.
"""

import copy
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jsonpatch

from runtime.kube import Json, KubeApi, StatusError, UnreachableError
from runtime.kube_access import Access


class FakeCluster:
    """The objects, by path."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.lock = threading.RLock()
        self._version = 0

    def put(self, path: str, value: Json) -> None:
        """Write as a person with all rights would: whatever stands there."""
        with self.lock:
            self._version += 1
            stored = copy.deepcopy(value)
            stored.setdefault("metadata", {})["resourceVersion"] = str(self._version)
            self.objects[path] = stored

    def take(self, path: str) -> Json:
        with self.lock:
            return copy.deepcopy(self.objects[path])

    def remove(self, path: str) -> None:
        with self.lock:
            del self.objects[path]


class FakeKube(KubeApi):
    """One client's door to a `FakeCluster`."""

    def __init__(self, cluster: FakeCluster) -> None:
        super().__init__(
            Access(
                host="", port=0, base_path="", server_name="", tls=None, authorization=lambda: None
            )
        )
        self.cluster = cluster
        self.writes: list[tuple[str, str]] = []
        """Method and path of each write that was asked for, refused ones too."""
        self.trouble: Callable[[str, str], int | None] = lambda _method, _path: None
        """(method, path) → the status to answer instead, 0 for no answer, None for none."""
        self.between: Callable[[], None] = lambda: None
        """Runs before each call: where other replicas get their turn."""
        self.done: Callable[[], None] = lambda: None
        """Runs when a call has had its effect and before its answer is seen."""

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        del params
        self._before("GET", path)
        with self.cluster.lock:
            if path not in self.cluster.objects:
                raise StatusError(f"GET {path}", 404, "NotFound", "not found")
            found = self.cluster.take(path)
        self.done()
        return found

    def create(self, path: str, body: Json, params: Mapping[str, str] | None = None) -> Json:
        del params
        self._before("POST", path)
        with self.cluster.lock:
            at = f"{path}/{body['metadata']['name']}"
            if at in self.cluster.objects:
                raise StatusError(f"POST {path}", 409, "AlreadyExists", "exists")
            self.cluster.put(at, body)
            created = self.cluster.take(at)
        self.done()
        return created

    def replace(self, path: str, body: Json) -> Json:
        self._before("PUT", path)
        with self.cluster.lock:
            stored = self.get_silently("PUT", path)
            if body["metadata"].get("resourceVersion") != stored["metadata"]["resourceVersion"]:
                raise StatusError(f"PUT {path}", 409, "Conflict", "the object has been modified")
            self.cluster.put(path, body)
            replaced = self.cluster.take(path)
        self.done()
        return replaced

    def patch(self, path: str, operations: Sequence[Json]) -> Json:
        self._before("PATCH", path)
        with self.cluster.lock:
            stored = self.get_silently("PATCH", path)
            try:
                changed: Any = jsonpatch.JsonPatch.from_string(json.dumps(list(operations))).apply(
                    stored
                )
            except jsonpatch.JsonPatchTestFailed as error:
                raise StatusError(f"PATCH {path}", 422, "Invalid", "test failed") from error
            self.cluster.put(path, changed)
            patched = self.cluster.take(path)
        self.done()
        return patched

    def get_silently(self, method: str, path: str) -> Json:
        if path not in self.cluster.objects:
            raise StatusError(f"{method} {path}", 404, "NotFound", "not found")
        return self.cluster.take(path)

    def _before(self, method: str, path: str) -> None:
        self.between()
        if method != "GET":
            self.writes.append((method, path))
        status = self.trouble(method, path)
        if status == 0:
            raise UnreachableError(f"{method} {path}: got no answer, expected an answer")
        if status is not None:
            raise StatusError(f"{method} {path}", status, "Refused", "as the test asked for")


def webhook_configuration(kind: str, names: Sequence[str], **extra: Any) -> Json:
    """Return a webhook configuration with an entry for each name, as the manifests make it."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "sidetail", "labels": {"kept": "yes"}},
        "webhooks": [
            {
                "name": name,
                "clientConfig": {"service": {"name": "sidetail-webhook", "namespace": "x"}},
                "timeoutSeconds": 5,
                **extra,
            }
            for name in names
        ],
    }
