"""One collection of the API server, kept like its original by list and watch.

In: a path, selectors, and what is wanted of an object. Out: a mapping that follows what happens.
What was known once stays known while the API server is away.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.kube import Json, KubeApi, KubeError, StatusError
from runtime.logs import Seldom
from runtime.stop import Stop

_log = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 30.0
REFUSED_SECONDS = 300.0
"""Until what may be left out is tried again: a right may have been given meanwhile."""
_BARREN_SECONDS = 5.0
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Kind:
    """A collection of the API server's, and what is wanted of it."""

    path: str
    keep: Callable[[Json], Any]
    """What of an object is kept in memory; one for which it is None is not."""
    selectors: Mapping[str, str] = field(default_factory=dict)
    """`labelSelector` and `fieldSelector`, as in a query."""
    is_optional: bool = False
    """Whether the operator may have left out the right to it: then that is said once."""
    list_accept: str = "application/json"
    watch_accept: str = "application/json"
    page: int = 250
    """Objects asked for at a time."""


class Collection:
    """One collection of the API server, kept like its original by list and watch.

    `turn` is called again and again by one thread; `kept` may be read by all.
    """

    def __init__(
        self,
        api: KubeApi,
        kind: Kind,
        *,
        on_change: Callable[[Mapping[str, Any]], None],
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.kept: dict[str, Any] = {}
        """`NAME`, or `NAMESPACE/NAME` → what `keep` returned."""
        self.is_complete = False
        """Whether it was listed once."""
        self._api = api
        self._on_change = on_change
        self._stop = stop
        self._clock = clock
        self._version: str | None = None
        """Of the last event; None: list first."""
        self._failures = 0
        self._is_refused = False
        self._seldom = Seldom()

    def turn(self) -> float:
        """List if that is due, then watch to the watch's end; return the seconds to wait."""
        try:
            if self._version is None:
                self._list()
            began = self._clock()
            events = self._watch(self._version or "")
        except KubeError as error:
            if isinstance(error, StatusError) and error.status == 410:
                self._version = None  # what we knew is too old to go on from
                return 1.0
            return self._retry(error)
        if not events and self._clock() - began < _BARREN_SECONDS:
            # A watch lasts for minutes: one that ends at once cannot go on from where it was.
            self._version = None
            return self._pause()
        return 0.0

    def _list(self) -> None:
        found: dict[str, Any] = {}
        version = ""
        asked = {"limit": str(self.kind.page), **self.kind.selectors}
        for page in self._api.pages(self.kind.path, asked, accept=self.kind.list_accept):
            version = str(page.get("metadata", {}).get("resourceVersion") or version)
            for item in page.get("items") or []:
                kept = self.kind.keep(item)
                if kept is not None:
                    found[_key(item)] = kept
        self.kept = found
        self._version = version
        self.is_complete = True
        self._on_change(found)

    def _watch(self, version: str) -> int:
        """Follow the changes after `version`; return how many events there were."""
        count = 0
        for event in self._api.watch(
            self.kind.path,
            resource_version=version,
            stop=self._stop,
            params=self.kind.selectors,
            accept=self.kind.watch_accept,
        ):
            count += 1
            if count == 1:
                self._recover()
            changed = event.get("object")
            if isinstance(changed, dict):
                self._apply(str(event.get("type")), changed)
                version = str(changed.get("metadata", {}).get("resourceVersion") or version)
                self._version = version
        return count

    def _apply(self, kind: str, changed: Json) -> None:
        key = _key(changed)
        before = self.kept.get(key, _ABSENT)
        kept = self.kind.keep(changed) if kind in ("ADDED", "MODIFIED") else None
        if kept is not None:
            self.kept[key] = kept
        elif kind != "BOOKMARK":
            self.kept.pop(key, None)
        # A node says every few minutes that it is alive, which changes nothing for us.
        if self.kept.get(key, _ABSENT) != before:
            self._on_change(self.kept)

    def _retry(self, error: KubeError) -> float:
        """Say what is wrong, seldom; return the seconds to wait, more each time."""
        if self.kind.is_optional and isinstance(error, StatusError) and error.status == 403:
            return self._do_without(error)
        if self._seldom.due("watch"):
            _log.warning(
                "the API server cannot be watched; what was known stays in force",
                extra={"fields": {"what": self.kind.path, "error": str(error)}},
            )
        return self._pause()

    def _do_without(self, error: StatusError) -> float:
        if not self._is_refused:
            _log.warning(
                "the account may not watch this; the webhook does without",
                extra={"fields": {"what": self.kind.path, "error": str(error)}},
            )
        self._is_refused = True
        self.is_complete = False
        self.kept, self._version = {}, None  # what was known would grow old unseen
        return REFUSED_SECONDS

    def _pause(self) -> float:
        self._failures += 1
        step = min(MAX_RETRY_SECONDS, 2.0 ** min(self._failures - 1, 8))
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing

    def _recover(self) -> None:
        self._failures = 0
        self._is_refused = False
        if self._seldom.over("watch"):
            _log.info("the API server is watched again", extra={"fields": {"what": self.kind.path}})


def _key(item: Json) -> str:
    metadata = item.get("metadata", {})
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata.get('name')}" if namespace else str(metadata.get("name"))
