"""Which pods were missed, and do the sidecars of the others run?"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from contract.annotations import STATUS
from contract.names import BACKEND_VOLUME_PREFIX, EXCLUDED_NAMESPACES, OURS
from contract.plan import LeftOut
from runtime.kube import Json
from webhook.admission import Admission, Owner
from webhook.doctor.containers import remark_on, trouble_of
from webhook.doctor.findings import Finding, broken, counted, odd, ok
from webhook.doctor.reasons import (
    known_reasons,
    read_left_out,
    remedy_for,
    worded_reason,
)
from webhook.doctor.sight import Sight
from webhook.missed import UNFINISHED, is_missed, workload_of
from webhook.mutate import admit_pod
from webhook.ours import is_ours
from webhook.settings import DEFAULT_CONFIG
from webhook.validate import WORKLOADS

_JUDGED_AS_WORKLOADS = frozenset(kind for kind, _ in WORKLOADS.values())


@dataclass(frozen=True, slots=True)
class SeenPod:
    """What is kept of a pod that asks for something."""

    namespace: str
    name: str
    owner: Owner
    version: str | None
    """Of the webhook that looked at it; None without a status."""
    outcome: str
    collector: str
    left_out: tuple[LeftOut, ...]
    has_sidecar: bool
    again: Admission | None
    """For a pod that was missed: what it would get if it were created now."""
    trouble: str | None
    """Why a container of ours does not run."""
    remark: str | None
    secrets: tuple[tuple[str, str], ...]
    """Backend and name of its Secret, for each that is mounted."""

    @property
    def workload(self) -> str:
        """Return its owner, as a title."""
        return f"{self.owner.kind} {self.namespace}/{self.owner.name}"

    @property
    def is_missed(self) -> bool:
        """Return whether it was missed."""
        return self.again is not None


@cache
def seen_pods(sight: Sight) -> tuple[SeenPod, ...]:
    """Return the pods that ask or were looked at, without those that have run to their end."""
    found = (_see(pod, sight) for pod in sight.each("/api/v1", "pods", fieldSelector=UNFINISHED))
    return tuple(one for one in found if one is not None)


def _see(pod: Json, sight: Sight) -> SeenPod | None:
    metadata = pod["metadata"]
    namespace = str(metadata.get("namespace"))
    place = sight.facts.namespace(namespace)
    again = _again(pod, namespace, sight) if is_missed(pod, place) else None
    text = (metadata.get("annotations") or {}).get(STATUS)
    if namespace in EXCLUDED_NAMESPACES or (again is None and text is None):
        return None
    status = _status(text)
    ours = _statuses_of_ours(pod)
    return SeenPod(
        namespace=namespace,
        name=str(metadata.get("name")),
        owner=workload_of(metadata),
        version=str(status.get("version")) if text is not None else None,
        outcome=str(status.get("outcome")),
        collector=str(status.get("collector")),
        left_out=read_left_out(status),
        has_sidecar=any(is_ours(one) for one in _containers(pod)),
        again=again,
        trouble=next(filter(None, map(trouble_of, ours)), None),
        remark=next(filter(None, map(remark_on, ours)), None),
        secrets=tuple(_secrets(pod)),
    )


def _again(pod: Json, namespace: str, sight: Sight) -> Admission:
    return admit_pod(pod, namespace, settings=sight.config or DEFAULT_CONFIG, facts=sight.facts)


def _status(text: object) -> Json:
    try:
        status = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return status if isinstance(status, dict) else {}


def _containers(pod: Json) -> list[Json]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _statuses_of_ours(pod: Json) -> list[Json]:
    names = {one["name"] for one in _containers(pod) if is_ours(one)}
    status = pod.get("status") or {}
    rows = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [row for row in rows if row.get("name") in names]


def _secrets(pod: Json) -> Iterator[tuple[str, str]]:
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        secret = volume.get("secret") or {}
        if volume["name"].startswith(BACKEND_VOLUME_PREFIX) and secret.get("secretName"):
            yield volume["name"].removeprefix(BACKEND_VOLUME_PREFIX), secret["secretName"]


def check_pods(sight: Sight) -> Iterator[Finding]:
    """Was every pod that asks looked at, and does its sidecar run?"""
    pods = seen_pods(sight)
    for workload, group in _by_workload(pods, lambda one: one.is_missed):
        yield _missed(workload, group)
    for workload, group in _by_workload(pods, _was_taken_out):
        text = f"{workload}: the sidecar of {_pods(group)} was taken out again"
        yield broken(text, "another mutating webhook does that: see that it leaves ours alone")
    for workload, group in _by_workload(pods, lambda one: one.trouble is not None):
        text = f"{workload}: {OURS} does not run in {_pods(group)}"
        yield broken(text, "kubectl describe pod; docs/doctor.md", [f"{group[0].trouble}"])
    for workload, group in _by_workload(pods, lambda one: one.remark is not None):
        text = f"{workload}: {OURS} in {_pods(group)} had {group[0].remark}"
        yield odd(text, f"kubectl -n {group[0].namespace} logs {group[0].name} -c {OURS} -p")
    yield from _left_out(pods, sight)
    injected = [one for one in pods if one.has_sidecar]
    missed = sum(one.is_missed for one in pods)
    yield ok(f"{counted(len(injected), 'pod')} with a sidecar, {missed} missed")


def _by_workload(
    pods: Iterable[SeenPod], wanted: Callable[[SeenPod], bool]
) -> Iterator[tuple[str, list[SeenPod]]]:
    groups: dict[str, list[SeenPod]] = {}
    for one in pods:
        if wanted(one):
            groups.setdefault(one.workload, []).append(one)
    yield from sorted(groups.items())


def _pods(group: list[SeenPod]) -> str:
    return f"pod {group[0].name}" + (f" and {len(group) - 1} more" if len(group) > 1 else "")


def _missed(workload: str, group: list[SeenPod]) -> Finding:
    text = (
        f"{workload}: nobody looked at {_pods(group)} at its creation: the webhook was away, or"
        " label or annotation came later"
    )
    again = group[0].again
    details = [f"created again: {again.outcome}"] if again is not None else []
    details += [worded_reason(row) for row in (again.left_out if again is not None else ())]
    remedy = f"create it again: kubectl -n {group[0].namespace} rollout restart, or delete the pod"
    return broken(text, remedy, details)


def _was_taken_out(pod: SeenPod) -> bool:
    asked_for = pod.outcome in ("injected", "partial") and pod.collector == "sidecar"
    return asked_for and not pod.has_sidecar


def _left_out(pods: Iterable[SeenPod], sight: Sight) -> Iterator[Finding]:
    """Say it of pods of which no check of workloads speaks: bare ones, those of operators."""
    alone = [one for one in pods if one.owner.kind not in _JUDGED_AS_WORKLOADS]
    for workload, group in _by_workload(alone, lambda one: bool(one.left_out)):
        rows = known_reasons(group[0].left_out, sight.config)
        if rows:
            details = [worded_reason(row) for row in rows]
            yield odd(f"{workload}: not all is collected", remedy_for(rows), details)
