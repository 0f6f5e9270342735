"""Says in words what the engine would do with one pod, and why: for `--explain`.

In: a pod. Out: lines for a terminal: each path's volume, each reason with its remedy.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from contract.annotations import PREFIX
from contract.reasons import BY_CODE, SKIPS
from webhook.cluster import ClusterFacts
from webhook.eligibility import Skip, decide, odd_keys
from webhook.faults import Fault, worded
from webhook.fitting import Fitted
from webhook.mutate import work_out
from webhook.options import Options
from webhook.planned import Followed
from webhook.pod import MalformedPodError, Pod, read_pod
from webhook.settings import OperatorConfig


def explain(
    raw: Mapping[str, Any],
    title: str,
    namespace: str,
    settings: OperatorConfig,
    facts: ClusterFacts,
) -> str:
    """Return the explanation of one pod; `title` is its first line's beginning."""
    lines = [*_lines(raw, namespace, settings, facts)]
    return "\n".join([f"{title}: {lines[0]}", *(f"  {line}" for line in lines[1:]), ""])


def _lines(
    raw: Mapping[str, Any], namespace: str, settings: OperatorConfig, facts: ClusterFacts
) -> Iterator[str]:
    try:
        pod = read_pod(raw, namespace)
    except MalformedPodError:
        yield f"left as it is: {SKIPS['malformed-pod']} (malformed-pod)"
        return
    place = facts.namespace(namespace)
    decision = decide(pod, place)
    if isinstance(decision, Skip):
        yield f"left as it is: {SKIPS[decision.reason]} ({decision.reason})"
        yield from (f"warning   {worded(text)}" for text in decision.warnings)
        return
    options, fitted = work_out(pod, place, settings, facts)
    yield f"{fitted.outcome}, {_collector(fitted, options)}"
    if options.choices.backend and not fitted.plan.is_empty:
        yield f"backend   {', '.join(options.choices.backend)}"
    for one in fitted.plan.followed:
        yield f"file      {one.container}  {one.path}"
        yield f"          {_place(pod, one)}"
    for mirrored in fitted.plan.mirrored:
        how = "its command runs under the mirror" if mirrored.command else "the kubelet's files"
        yield f"stdout    {mirrored.container}  {how}"
    for fault in fitted.faults:
        yield from _left_out(fault)
    for text in (*fitted.warnings, *odd_keys(pod, place)):
        yield f"warning   {text}"


def _collector(fitted: Fitted, options: Options) -> str:
    if options.choices.collector == "node":
        return "collected by the agent of the node"
    if fitted.outcome == "skipped":
        return "nothing is added but the status"
    return "an ordinary sidecar" if fitted.additions.containers else "a native sidecar"


def _place(pod: Pod, one: Followed) -> str:
    place = one.place
    below = f", sub-path {place.sub_path}" if place.sub_path else ""
    kind = "new" if place.is_new else _kind(pod.volumes.get(place.volume, {}))
    return f"volume {place.volume} ({kind}{below}), files {one.glob} in it"


def _kind(volume: Mapping[str, Any]) -> str:
    return next((key for key in volume if key != "name"), "not in the pod")


def _left_out(fault: Fault) -> Iterator[str]:
    yield f"left out  {fault.subject.removeprefix(PREFIX)}  {fault.reason}: {fault.message}"
    yield f"          {BY_CODE[fault.reason].remedy}"
    yield f"          docs/reasons.md#{fault.reason}"
