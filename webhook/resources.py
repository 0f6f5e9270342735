"""Requests and limits of our containers: the pod keeps its class, LimitRanges are kept to.

In: the pod, the author's and the operator's figures, the namespace's LimitRanges. Out: one
`resources` object for each of our containers, or the reason why none fits.
Source: Kubernetes API, LimitRange and quality-of-service classes; KEP-2837 (pod-level resources).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contract.annotations import PATHS
from contract.reasons import NO_ROOM
from webhook.faults import Fault
from webhook.options import Options
from webhook.pod import Container, Pod
from webhook.quantities import NANO, parse_quantity, render_quantity
from webhook.settings import OperatorConfig

_LEAST = {"cpu": NANO // 1000, "memory": 16 * 2**20 * NANO}
"""Below these a sidecar cannot work."""
_STEP = {"cpu": NANO // 1000}
"""The granularity of a figure that is worked out; of everything else a whole byte."""
_OF_CLASS = ("cpu", "memory")


@dataclass(frozen=True, slots=True)
class Figures:
    """What every container of ours carries."""

    resources: dict[str, dict[str, str]]
    """`requests` and `limits`: resource → quantity."""
    warnings: tuple[str, ...] = ()
    fault: Fault | None = None
    """Set where nothing fits into the pod."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """Request and limit of one resource, as amounts."""

    resource: str
    request: int
    """0: none."""
    limit: int | None
    request_is_authored: bool = False
    """An author's own figures are not touched."""
    limit_is_authored: bool = False
    is_guaranteed: bool = False


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What the LimitRanges of a namespace ask of one resource."""

    low: int | None
    high: int | None
    ratio: int | None
    """Of limit to request, in 10⁻⁹."""
    pod_high: int | None
    """Of the sum over the pod's containers."""


def work_out_figures(
    pod: Pod,
    options: Options,
    settings: OperatorConfig,
    limit_range: Sequence[Mapping[str, Any]],
) -> Figures:
    """Return the figures; `limit_range` is `spec.limits[]` of all LimitRanges of the namespace."""
    warnings = []
    figures = []
    is_guaranteed = _is_guaranteed(pod)
    for resource in dict.fromkeys((*settings.requests, *settings.limits)):
        if _is_pod_level(pod, resource):
            # A request would have to fit into the pod's, and a limit alone becomes a request.
            if _authored(resource, options) != (None, None):
                warnings.append(f"spec.resources has the pod's {resource}: the sidecar has none")
            continue
        chosen = _chosen(resource, options, settings)
        if is_guaranteed and resource in _OF_CLASS:
            chosen = _guaranteed(chosen, settings)
        fitted = _in_range(chosen, limit_range, pod)
        if fitted is None:
            message = f"a LimitRange leaves no {resource} in the pod for a sidecar"
            return Figures({}, fault=Fault(PATHS, NO_ROOM, message))
        if fitted != chosen:
            warnings.append(_changed(chosen, fitted, pod.namespace))
        figures.append(fitted)
    return Figures(_rendered(figures), tuple(warnings))


def _changed(before: _Figure, after: _Figure, namespace: str) -> str:
    figures = [
        "none" if not amount else render_quantity(amount)
        for amount in (before.request, after.request, before.limit, after.limit)
    ]
    return (
        f"the LimitRange of namespace {namespace} changes the sidecar's {before.resource}:"
        f" request {figures[0]} → {figures[1]}, limit {figures[2]} → {figures[3]}"
    )


def _rendered(figures: Iterable[_Figure]) -> dict[str, dict[str, str]]:
    requests = {one.resource: render_quantity(one.request) for one in figures if one.request}
    limits = {one.resource: render_quantity(one.limit) for one in figures if one.limit}
    return {key: part for key, part in (("requests", requests), ("limits", limits)) if part}


def _chosen(resource: str, options: Options, settings: OperatorConfig) -> _Figure:
    """Return the author's figures where there are some, else the operator's, made consistent."""
    authored_request, authored_limit = _authored(resource, options)
    request = parse_quantity(authored_request or settings.requests.get(resource)) or 0
    limit = parse_quantity(authored_limit or settings.limits.get(resource))
    if limit is not None and request > limit:
        request, limit = (limit, limit) if authored_limit else (request, request)
    return _Figure(
        resource,
        request,
        limit,
        request_is_authored=authored_request is not None,
        limit_is_authored=authored_limit is not None,
    )


def _authored(resource: str, options: Options) -> tuple[str | None, str | None]:
    choices = options.choices
    figures = {
        "cpu": (choices.cpu_request, choices.cpu_limit),
        "memory": (choices.memory_request, choices.memory_limit),
    }
    return figures.get(resource, (None, None))


def _guaranteed(figure: _Figure, settings: OperatorConfig) -> _Figure:
    """Return equal request and limit, or the pod would fall out of its class.

    An author's one figure decides both, and is as little touched as both of them.
    """
    if figure.limit_is_authored:
        amount = figure.limit
    elif figure.request_is_authored:
        amount = figure.request
    else:
        is_cpu = figure.resource == "cpu"
        amount = parse_quantity(settings.guaranteed_cpu) if is_cpu else figure.limit
    amount = amount or figure.request
    is_authored = figure.request_is_authored or figure.limit_is_authored
    return replace(
        figure,
        request=amount,
        limit=amount,
        request_is_authored=is_authored,
        limit_is_authored=is_authored,
        is_guaranteed=True,
    )


def _is_guaranteed(pod: Pod) -> bool:
    """Return whether the pod is of the class Guaranteed without us."""
    return all(
        _is_equal(container, resource) for container in pod.containers for resource in _OF_CLASS
    )


def _is_equal(container: Container, resource: str) -> bool:
    limit = _amount(container, "limits", resource)
    request = _amount(container, "requests", resource)
    return bool(limit) and request in (None, limit)


def _amount(container: Container, section: str, resource: str) -> int | None:
    resources = container.raw.get("resources")
    part = resources.get(section) if isinstance(resources, dict) else None
    return parse_quantity(part.get(resource)) if isinstance(part, dict) else None


def _is_pod_level(pod: Pod, resource: str) -> bool:
    resources = pod.spec.get("resources")
    if not isinstance(resources, dict):
        return False
    parts = (resources.get("requests"), resources.get("limits"))
    return any(isinstance(part, dict) and resource in part for part in parts)


def _in_range(
    figure: _Figure, limit_range: Sequence[Mapping[str, Any]], pod: Pod
) -> _Figure | None:
    """Return the figure within the LimitRanges, or None where nothing fits."""
    if not limit_range:
        return figure
    bounds = _bounds(limit_range, figure.resource)
    return _fit(_clamped(figure, bounds), bounds, pod)


def _bounds(limit_range: Sequence[Mapping[str, Any]], resource: str) -> _Bounds:
    """Return the narrowest bounds of all LimitRanges."""
    of_container = [item for item in limit_range if item.get("type") == "Container"]
    of_pod = [item for item in limit_range if item.get("type") == "Pod"]
    return _Bounds(
        low=_pick(max, of_container, "min", resource),
        high=_pick(min, of_container, "max", resource),
        # Where each container keeps to the ratio of the pod, so does their sum.
        ratio=_pick(min, [*of_container, *of_pod], "maxLimitRequestRatio", resource),
        pod_high=_pick(min, of_pod, "max", resource),
    )


def _pick(
    choose: Callable[[list[int]], int],
    items: Iterable[Mapping[str, Any]],
    key: str,
    resource: str,
) -> int | None:
    parts = [item.get(key) for item in items]
    amounts = [parse_quantity(part.get(resource)) for part in parts if isinstance(part, dict)]
    found = [amount for amount in amounts if amount]
    return choose(found) if found else None


def _clamped(figure: _Figure, bounds: _Bounds) -> _Figure:
    """Return the figure with the operator's part of it moved into the bounds."""
    request, limit = figure.request, figure.limit
    if not figure.limit_is_authored:
        if bounds.high is not None:
            limit = min(limit or bounds.high, bounds.high)
        if limit is not None:
            limit = max(limit, bounds.low or 0, request if figure.request_is_authored else 0)
    if not figure.request_is_authored:
        request = max(request, bounds.low or 0, _least_by_ratio(figure.resource, limit, bounds))
        request = request if limit is None else min(request, limit)
        request = limit if figure.is_guaranteed and limit is not None else request
    return replace(figure, request=request, limit=limit)


def _least_by_ratio(resource: str, limit: int | None, bounds: _Bounds) -> int:
    if limit is None or bounds.ratio is None:
        return 0
    step = _STEP.get(resource, NANO)
    return -(-limit * NANO // bounds.ratio // step) * step


def _fit(figure: _Figure, bounds: _Bounds, pod: Pod) -> _Figure | None:
    """Return the figure lowered to what the pod's LimitRange leaves, or None if it is too little.

    Init containers do not count: they have ended when the app runs.
    """
    if bounds.pod_high is None or figure.limit is None or figure.limit_is_authored:
        return figure
    running = [one for one in pod.containers if one.kind != "init"]
    taken = sum(_amount(one, "limits", figure.resource) or 0 for one in running)
    step = _STEP.get(figure.resource, NANO)
    room = (bounds.pod_high - taken) // step * step
    if figure.limit <= room:
        return figure
    least = max(_LEAST.get(figure.resource, 1), bounds.low or 0)
    if room < max(least, figure.request if figure.request_is_authored else 0):
        return None
    request = room if figure.is_guaranteed else min(figure.request, room)
    return replace(figure, request=request, limit=room)
