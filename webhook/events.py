"""Events about what is left out: admissions come in, Events on the owning workloads go out.

From a bounded queue in the background, never on the admission path. A workload hears the same
thing once in ten minutes, however many pods it makes.
"""

import hashlib
import logging
import queue
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from contract.plan import LeftOut
from runtime.kube import Json, KubeApi, KubeError, StatusError, UnreachableError
from runtime.logs import Seldom
from runtime.stop import Stop
from webhook.admission import Admission, Owner
from webhook.metrics import Metrics
from webhook.request import Review
from webhook.response import to_printable

_log = logging.getLogger(__name__)

MAX_QUEUED = 1000
SAME_SECONDS = 600.0
"""For so long a workload is not told the same thing again."""
MAX_MESSAGE = 1024
"""Characters. Source: k8s.io/api/events/v1, Event.note."""
_MAX_REMEMBERED = 10_000
_PAUSE_SECONDS = 0.1
"""Between two Events: the API server has better things to do."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """One Event to be: one owner, one reason."""

    namespace: str
    owner: Owner
    reason: str
    """The Event's `reason`, or the code of what is left out."""
    message: str
    is_shared: bool = False
    """Whether every replica has it to say, and one of them is enough."""

    @property
    def key(self) -> str:
        """Return what makes it the same notice."""
        content = f"{self.owner.uid}\0{self.reason}\0{self.message}"
        return _digest(content)

    @property
    def event_reason(self) -> str:
        """Return `reason` of the Event."""
        return self.reason if self.is_shared else "LogsLeftOut"

    def event_name(self) -> str:
        """Return the Event's name: the second replica to say what is shared finds it taken."""
        suffix = secrets.token_hex(8)
        if self.is_shared:
            suffix = _digest(f"{self.owner.uid}\0{self.reason}")[:16]
        return f"{self.owner.name[:200]}.{suffix}"


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def notices_of(namespace: str, owner: Owner, left_out: Iterable[LeftOut]) -> list[Notice]:
    """Return a notice for each reason, which names all that is left out for it."""
    texts: dict[str, list[str]] = {}
    for row in left_out:
        what = row.get("path") or row.get("key") or "pod"
        texts.setdefault(row["reason"], []).append(f"{what}: {row['message']}")
    return [
        Notice(namespace, owner, reason, to_printable(f"{reason}: {'; '.join(said)}", MAX_MESSAGE))
        for reason, said in texts.items()
    ]


class Events:
    """The queue, and the worker that empties it."""

    def __init__(
        self,
        api: KubeApi,
        metrics: Metrics,
        stop: Stop,
        *,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._metrics = metrics
        self._stop = stop
        self._instance = instance
        """This replica's name."""
        self._clock = clock
        self._queue: queue.Queue[Notice] = queue.Queue(MAX_QUEUED)
        self._told_at: OrderedDict[str, float] = OrderedDict()
        self._seldom = Seldom()

    def tell(self, review: Review, admission: Admission) -> None:
        """Queue the Events for an admission that left something out; never waits."""
        if admission.owner is None or not review.namespace:
            return  # a bare pod has no name yet that an Event could be about
        for notice in notices_of(review.namespace, admission.owner, admission.left_out):
            self.offer(notice)

    def offer(self, notice: Notice) -> bool:
        """Queue one Event; return False, and never wait, where there is no room."""
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            self._metrics.event("dropped")
            return False
        return True

    def turn(self) -> float:
        """Send what is queued, or wait a second for it; return the seconds to wait then."""
        try:
            notice = self._queue.get(timeout=1.0)
        except queue.Empty:
            return 0.0
        if self._was_told(notice):
            self._metrics.event("repeated")
            return 0.0
        self._metrics.event(self._send(notice))
        return _PAUSE_SECONDS

    def _was_told(self, notice: Notice) -> bool:
        now = self._clock()
        key = notice.key
        told_at = self._told_at.get(key)
        if told_at is not None and now - told_at < SAME_SECONDS:
            return True
        self._told_at[key] = now
        self._told_at.move_to_end(key)
        if len(self._told_at) > _MAX_REMEMBERED:
            self._told_at.popitem(last=False)
        return False

    def _send(self, notice: Notice) -> str:
        event = event_of(notice, instance=self._instance, now=datetime.now(UTC))
        path = f"/api/v1/namespaces/{notice.namespace}/events"
        for attempt in range(_TRIES):
            try:
                self._api.create(path, event)
            except KubeError as error:
                if notice.is_shared and isinstance(error, StatusError) and error.status == 409:
                    return "repeated"
                last = attempt == _TRIES - 1 or not _is_passing(error)
                if last or self._stop.wait(2.0**attempt):
                    self._say_failed(notice, error)
                    return "failed"
            else:
                return "sent"
        return "failed"

    def _say_failed(self, notice: Notice, error: KubeError) -> None:
        del self._told_at[notice.key]  # its next pod may say it
        if self._seldom.due("event"):
            _log.warning(
                "an Event could not be made",
                extra={"fields": {"namespace": notice.namespace, "error": str(error)}},
            )


def event_of(notice: Notice, *, instance: str, now: datetime) -> Json:
    """Return the Event (v1) for a notice. Source: k8s.io/api/core/v1, Event."""
    when = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": notice.event_name(),
            "namespace": notice.namespace,
        },
        "involvedObject": {
            "apiVersion": notice.owner.api_version,
            "kind": notice.owner.kind,
            "name": notice.owner.name,
            "namespace": notice.namespace,
            "uid": notice.owner.uid,
        },
        "type": "Warning",
        "reason": notice.event_reason,
        "message": notice.message,
        "source": {"component": "sidetail-webhook", "host": instance},
        "reportingComponent": "sidetail.dev/webhook",
        "reportingInstance": instance,
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }


def _is_passing(error: KubeError) -> bool:
    """Return whether the same call may succeed in a moment."""
    if isinstance(error, StatusError):
        return error.status == 429 or error.status >= 500
    return isinstance(error, UnreachableError)
