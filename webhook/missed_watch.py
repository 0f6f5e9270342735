"""Counts the pods that were missed, by watches in the background; Events tell their workloads.

Asked for is no more than the registration's selectors let by: the pods of each labelled namespace
and those with a label of their own, without what has run to its end. Kept is what was missed.
Every replica counts; an Event's name is made from its workload, so that all say it once.
"""

import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from contract.annotations import INJECT_LABEL, KEYS
from contract.names import EXCLUDED_NAMESPACES
from runtime.kube import METADATA_EVENTS, METADATA_LIST, Json, KubeApi, KubeError, StatusError
from runtime.stop import Stop
from runtime.workers import Worker, repeat
from webhook.admission import Owner
from webhook.cluster import ClusterFacts, Namespace
from webhook.collection import Collection, Kind
from webhook.events import Events, Notice
from webhook.missed import UNFINISHED, is_missed, may_be_missed, workload_of

LOOK_SECONDS = 5.0
"""Between two looks at which namespaces have the label."""
MAX_NAMESPACES = 8
"""Labelled namespaces that have a watch each; with more of them, one watch sees all pods."""
RESCAN_SECONDS = 300.0
"""For so long that one watch goes on, though namespaces came and went."""
EVENT_REASON = "LogsMissed"
_MAX_REMEMBERED = 10_000
_OUTSIDE = ",".join(f"metadata.namespace!={name}" for name in sorted(EXCLUDED_NAMESPACES))
_EVERYWHERE = "/api/v1/pods"


@dataclass(frozen=True, slots=True)
class Scope:
    """Pods that are watched together; another one where its namespaces ask for something else."""

    path: str
    labels: str
    """The label selector."""
    asking: frozenset[tuple[str, bool]] = frozenset()
    """Labelled namespaces, and whether their own annotations ask for each of their pods."""

    @property
    def selectors(self) -> dict[str, str]:
        """Return the selectors as in a query."""
        outside = f",{_OUTSIDE}" if self.path == _EVERYWHERE else ""
        return {"labelSelector": self.labels, "fieldSelector": UNFINISHED + outside}


BY_LABEL = Scope(_EVERYWHERE, f"{INJECT_LABEL}=true")
"""Pods that ask by a label of their own, wherever they are."""
_BY_NAMESPACE = f"{INJECT_LABEL} notin (true,false)"


def scopes_of(namespaces: Mapping[str, Namespace]) -> frozenset[Scope]:
    """Return what is to be watched; no pod is in two scopes."""
    asking = {
        (name, any(key in namespace.annotations for key in KEYS))
        for name, namespace in list(namespaces.items())  # the mapping is live
        if namespace.labels.get(INJECT_LABEL) == "enabled" and name not in EXCLUDED_NAMESPACES
    }
    if len(asking) > MAX_NAMESPACES:
        return frozenset({BY_LABEL, Scope(_EVERYWHERE, _BY_NAMESPACE, frozenset(asking))})
    each = {
        Scope(f"/api/v1/namespaces/{one[0]}/pods", _BY_NAMESPACE, frozenset({one}))
        for one in asking
    }
    return frozenset({BY_LABEL, *each})


@dataclass(frozen=True, slots=True)
class _Watch:
    """A scope that is being watched."""

    collection: Collection
    stop: Stop
    began_at: float
    """Monotonic."""


class Recent:
    """Remembers a bounded number of answers; for any thread."""

    def __init__(self, most: int = _MAX_REMEMBERED) -> None:
        self._most = most
        self._answers: OrderedDict[str, bool] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bool | None:
        """Return the answer, or None."""
        with self._lock:
            return self._answers.get(key)

    def put(self, key: str, answer: bool) -> None:  # noqa: FBT001 - it is the value
        """Remember the answer; the oldest goes where there are too many."""
        with self._lock:
            self._answers[key] = answer
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)


class MissedPods:
    """Watches for missed pods, one thread for each scope; nothing waits for it."""

    def __init__(
        self,
        api: KubeApi,
        facts: Callable[[], ClusterFacts],
        events: Events,
        stop: Stop,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._facts = facts
        self._events = events
        """Its own, so that many missed pods do not take the room of what was left out."""
        self._stop = stop
        self._clock = clock
        self._watches: dict[Scope, _Watch] = {}
        self._verdicts = Recent()
        """UID of a workload → whether its pods, seen whole, are ones that are injected."""
        self._told = Recent()

    def start(self) -> None:
        """Start the threads; they end when stop is asked."""
        Worker("missed", self._run).start()
        Worker("missed-events", partial(repeat, self._events.turn, self._stop)).start()

    def counts(self) -> Mapping[str, int]:
        """Return how many pods were missed and still run, by namespace."""
        watches = list(self._watches.values())
        # `list` of a dict's values is one step: no thread changes it in between.
        return Counter(name for one in watches for name in list(one.collection.kept.values()))

    @property
    def is_watching(self) -> bool:
        """Whether all pods that may have asked are seen."""
        watches = list(self._watches.values())
        return bool(watches) and all(one.collection.is_complete for one in watches)

    def turn(self) -> float:
        """Watch what is to be watched now, and no more; return the seconds to the next look."""
        namespaces = self._facts().namespaces
        if not namespaces:
            return 1.0  # not listed yet: no cluster is without
        wanted = self._patiently(scopes_of(namespaces))
        begun = {scope: self._new_watch(scope) for scope in wanted - self._watches.keys()}
        ended = [watch for scope, watch in self._watches.items() if scope not in wanted]
        kept = {scope: watch for scope, watch in self._watches.items() if scope in wanted}
        self._watches = kept | begun  # in one step: each pod is counted once
        for watch in begun.values():
            body = partial(repeat, watch.collection.turn, watch.stop)
            Worker("missed-pods", body).start()
        for watch in ended:
            watch.stop.request()
        return LOOK_SECONDS

    def _run(self) -> None:
        repeat(self.turn, self._stop)
        for watch in self._watches.values():
            watch.stop.request()

    def _patiently(self, wanted: frozenset[Scope]) -> frozenset[Scope]:
        """Return `wanted`, with the one large scope going on where it has just been listed.

        Where namespaces come and go all day, listing all pods for each would be much work for
        little: pods that come later are judged by what holds then.
        """
        now = self._clock()
        for scope, watch in self._watches.items():
            if len(scope.asking) > 1 and now - watch.began_at < RESCAN_SECONDS:
                return frozenset({BY_LABEL, scope})
        return wanted

    def _new_watch(self, scope: Scope) -> _Watch:
        kind = Kind(
            scope.path,
            self._judge,
            selectors=scope.selectors,
            is_optional=True,
            list_accept=METADATA_LIST,
            watch_accept=METADATA_EVENTS,
            page=100,  # several may be listed at once, and a page is in memory
        )
        stop = Stop()
        collection = Collection(self._api, kind, on_change=lambda _: None, stop=stop)
        collection.kept = self._known_of(scope)
        return _Watch(collection, stop, self._clock())

    def _known_of(self, scope: Scope) -> dict[str, str]:
        """Return what others know of a scope: the count does not drop while it is listed."""
        names = {name for name, _ in scope.asking}
        return {
            key: name
            for known, watch in self._watches.items()
            if known.labels == scope.labels
            for key, name in list(watch.collection.kept.items())
            if name in names
        }

    def _judge(self, item: Json) -> str | None:
        """Return the namespace of a pod that was missed, None for every other."""
        metadata = item.get("metadata") or {}
        name = str(metadata.get("namespace"))
        namespace = self._facts().namespace(name)
        if not may_be_missed(metadata, namespace):
            return None
        workload = workload_of(metadata)
        if not self._is_confirmed(workload, metadata, namespace):
            return None
        self._tell(workload, metadata)
        return sys.intern(name)

    def _is_confirmed(self, workload: Owner, metadata: Json, namespace: Namespace | None) -> bool:
        """Look at one whole pod of each workload: Windows stands in the spec."""
        known = self._verdicts.get(workload.uid)
        if known is not None:
            return known
        path = f"/api/v1/namespaces/{metadata.get('namespace')}/pods/{metadata.get('name')}"
        try:
            verdict = is_missed(self._api.get(path), namespace)
        except StatusError as error:
            return error.status != 404
        except KubeError:
            return True  # as far as could be seen; its next event asks again
        self._verdicts.put(workload.uid, verdict)
        return verdict

    def _tell(self, workload: Owner, metadata: Json) -> None:
        if self._told.get(workload.uid):
            return
        message = (
            f"the logs of pod {metadata.get('name')} are not collected, though it asks: nobody"
            " looked at it when it was created, as the webhook was away or the label or annotation"
            " came later; create it again (kubectl rollout restart)"
        )
        notice = Notice(
            str(metadata.get("namespace")), workload, EVENT_REASON, message, is_shared=True
        )
        if self._events.offer(notice):
            self._told.put(workload.uid, answer=True)
