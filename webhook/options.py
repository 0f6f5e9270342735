"""Step 3 of the webhook: what is asked for a pod, from its annotations and its namespace's.

In: annotations as text. Out: `Options`, with everything that could not be honoured beside it.
A pod's own value comes first, then the namespace's, then the operator's. What protects fails
closed: one that cannot be honoured refuses what it would have applied to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from contract.annotations import (
    BACKEND,
    COMMAND,
    CPU_LIMIT,
    EXCLUDE,
    MEMORY_LIMIT,
    PATHS,
    PREFIX,
    REDACT,
)
from contract.reasons import (
    BAD_PATH,
    BAD_VALUE,
    NOT_ALLOWED,
    TOO_MANY,
    UNKNOWN_BACKEND,
    UNKNOWN_CONTAINER,
    UNKNOWN_PATTERN,
)
from runtime.settings import ValueProblem, nearest
from webhook.choices import CHOICES, PARSERS, Choices
from webhook.cluster import Namespace
from webhook.faults import Fault
from webhook.paths import MAX_PATHS, BadPath, PathList, PathRequest, parse_paths
from webhook.pod import Pod
from webhook.quantities import parse_quantity
from webhook.settings import OperatorConfig
from webhook.shown import got
from webhook.values import Parser, parse_command


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for one pod."""

    choices: Choices
    """The values that hold."""
    given: frozenset[str]
    """The annotations whose value comes from pod or namespace."""
    paths: tuple[PathRequest, ...]
    paths_from_pod: bool
    command: Mapping[str, tuple[str, ...]]
    redact: tuple[str, ...]
    """The operator's patterns and what was added to them; all are known."""
    unprotected: tuple[Fault, ...]
    """What would have protected lines and could not be honoured."""
    faults: tuple[Fault, ...]
    """What could not be honoured, the above among it."""
    more_faults: int
    """Further paths that were too many to name."""

    def refuses_path(self, request: PathRequest) -> Fault | None:
        """Return why the path may not be collected; its own `exclude` makes up for the pod's."""
        excluded = EXCLUDE if "exclude" in request.own else None
        return next((cause for cause in self.unprotected if cause.subject != excluded), None)

    def refuses_stdout(self) -> Fault | None:
        """Return why no stdout may be collected: `exclude` is about files."""
        return next((cause for cause in self.unprotected if cause.subject != EXCLUDE), None)


@dataclass(frozen=True, slots=True)
class _Found:
    """The value that holds of one annotation."""

    value: Any
    from_pod: bool


class _Reader:
    """Reads annotation by annotation, and gathers what cannot be honoured."""

    def __init__(
        self, own: Mapping[str, str], shared: Mapping[str, str], allowed: frozenset[str] | None
    ) -> None:
        self._own = own
        self._shared = shared
        self._allowed = allowed
        self.faults: list[Fault] = []
        self.unprotected: list[Fault] = []

    def find(self, key: str, parse: Parser, *, protects: bool = False) -> _Found | None:
        """Return the value of pod or namespace, or None where neither has a usable one."""
        for from_pod in (True, False):
            found = self.find_at(key, parse, from_pod=from_pod, protects=protects)
            if found is not None:
                return found
        return None

    def find_at(
        self, key: str, parse: Parser, *, from_pod: bool, protects: bool = False
    ) -> _Found | None:
        """Return the value of one of the two, or None where it has no usable one."""
        annotations = self._own if from_pod else self._shared
        if key not in annotations:
            return None
        if from_pod and not self.is_allowed(key):
            fault = Fault(key, NOT_ALLOWED, "the operator does not let pods set it")
        else:
            try:
                return _Found(parse(annotations[key]), from_pod)
            except ValueProblem as problem:
                fault = _bad_value(key, annotations[key], problem, from_pod=from_pod)
        self.refuse(fault, protects=protects)
        return None

    def refuse(self, fault: Fault, *, protects: bool = False) -> None:
        """Take down what cannot be honoured."""
        self.faults.append(fault)
        if protects:
            self.unprotected.append(fault)

    def is_allowed(self, key: str) -> bool:
        """Return whether a pod's author may set `key`."""
        return self._allowed is None or key in self._allowed


def _bad_value(key: str, value: str, problem: ValueProblem, *, from_pod: bool) -> Fault:
    place = "" if from_pod else " on the namespace"
    reason = BAD_PATH if key == PATHS else BAD_VALUE
    message = f"{got(key, value)}expected {problem}{place}"
    return Fault(key, reason, message, from_pod=from_pod)


def read_options(pod: Pod, namespace: Namespace | None, settings: OperatorConfig) -> Options:
    """Return what is asked for `pod`; `namespace` is None where it is not in memory."""
    shared = namespace.annotations if namespace is not None else {}
    reader = _Reader(pod.annotations, shared, settings.tenant_keys)
    found = {
        name: reader.find(key, PARSERS[name], protects=protects)
        for key, name, protects in CHOICES
        if key in pod.annotations or key in shared
    }
    given = {name: one.value for name, one in found.items() if one is not None}
    _check_figures(given, pod, reader)
    _check_backends(given, found.get("backend"), reader, settings)
    redact = _redact(reader, settings)
    paths = reader.find(PATHS, parse_paths)
    command = reader.find(COMMAND, parse_command)
    _check_containers(pod, command, reader)
    from_pod = paths.from_pod if paths is not None else True
    path_list = paths.value if paths is not None else PathList()
    requests = _requests(path_list, reader, from_pod=from_pod)
    return Options(
        choices=replace(settings.defaults, **given) if given else settings.defaults,
        given=frozenset(PREFIX + name.replace("_", "-") for name in given),
        paths=requests,
        paths_from_pod=from_pod,
        command=command.value if command is not None else {},
        redact=redact,
        unprotected=tuple(reader.unprotected),
        faults=tuple(reader.faults),
        more_faults=path_list.rest_count - len(path_list.rest),
    )


def _check_figures(given: dict[str, Any], pod: Pod, reader: _Reader) -> None:
    """Take back a limit below its request: the API server would refuse the pod."""
    for key, request, limit in (
        (CPU_LIMIT, "cpu_request", "cpu_limit"),
        (MEMORY_LIMIT, "memory_request", "memory_limit"),
    ):
        least, most = parse_quantity(given.get(request)), parse_quantity(given.get(limit))
        if least is not None and most is not None and most < least:
            shown = got(key, given.pop(limit))
            message = f"{shown}expected at least the request, {given.pop(request)}"
            from_pod = key in pod.annotations
            reader.refuse(Fault(key, BAD_VALUE, message, from_pod=from_pod))


def _check_backends(
    given: dict[str, Any], found: _Found | None, reader: _Reader, settings: OperatorConfig
) -> None:
    """Keep the backends that the operator has defined."""
    if found is None:
        return
    names = found.value
    known = tuple(name for name in names if name in settings.backends)
    given["backend"] = known
    if len(known) < len(names):
        message = _unknown(names, tuple(settings.backends), "backend")
        fault = Fault(BACKEND, UNKNOWN_BACKEND, message, from_pod=found.from_pod)
        reader.refuse(fault, protects=not known)


def _unknown(names: tuple[str, ...], known: tuple[str, ...], what: str) -> str:
    """Say which elements of a list are not known, without showing them: one may be a token."""
    odd = [(place, name) for place, name in enumerate(names, 1) if name not in known]
    numbers = ", ".join(str(place) for place, _ in odd[:8])
    near = [nearest(name, known) for _, name in odd[:8] if len(name) <= 64]
    hint = next((f"; did you mean {name}?" for name in near if name), "")
    listed = ", ".join(known[:16]) or "none"
    return f"no {what} of that name (number {numbers} of the list); known: {listed}{hint}"


def _check_containers(pod: Pod, command: _Found | None, reader: _Reader) -> None:
    """Tell of programs for containers that the pod does not have; a namespace's may be others'."""
    names = command.value if command is not None and command.from_pod else ()
    odd = [str(place) for place, name in enumerate(names, 1) if pod.container(name) is None]
    if odd:
        message = f"no container of that name (number {', '.join(odd[:8])} of the object)"
        reader.refuse(Fault(COMMAND, UNKNOWN_CONTAINER, message))


def _redact(reader: _Reader, settings: OperatorConfig) -> tuple[str, ...]:
    """Return the operator's patterns, the namespace's and the pod's: nobody takes one away."""
    names = list(settings.defaults.redact)
    for from_pod in (False, True):
        found = reader.find_at(REDACT, PARSERS["redact"], from_pod=from_pod, protects=True)
        added = found.value if found is not None else ()
        if not all(name in settings.redact for name in added):
            message = _unknown(added, tuple(settings.redact), "pattern")
            fault = Fault(REDACT, UNKNOWN_PATTERN, message, from_pod=from_pod)
            reader.refuse(fault, protects=True)
        names += [name for name in added if name in settings.redact]
    return tuple(dict.fromkeys(names))


def _requests(paths: PathList, reader: _Reader, *, from_pod: bool) -> tuple[PathRequest, ...]:
    """Return the paths that can be planned."""
    requests = []
    for element in paths.requests:
        request = _checked(element, reader, from_pod=from_pod)
        if isinstance(request, PathRequest):
            requests.append(request)
        else:
            reader.refuse(request)
    for shown in paths.rest:
        message = f"a pod may have {MAX_PATHS} paths"
        reader.refuse(Fault(shown, TOO_MANY, message, is_path=True, from_pod=from_pod))
    return tuple(requests)


def _checked(
    element: PathRequest | BadPath, reader: _Reader, *, from_pod: bool
) -> PathRequest | Fault:
    """Return the request without what its author may not set, or why there is none."""
    if isinstance(element, BadPath):
        return Fault(
            element.shown, element.reason, element.message, is_path=True, from_pod=from_pod
        )
    forbidden = [key for key in element.own if from_pod and not reader.is_allowed(PREFIX + key)]
    if not forbidden:
        return element
    message = f"the operator does not let pods set {', '.join(forbidden)}"
    fault = Fault(element.shown, NOT_ALLOWED, message, is_path=True)
    if "exclude" in forbidden:
        return fault
    reader.refuse(fault)
    own = {key: value for key, value in element.own.items() if key not in forbidden}
    return replace(element, own=own)
