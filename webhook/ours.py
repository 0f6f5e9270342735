"""Recognises what an earlier run of ours left in a pod, so that a second run plans the same.

Our containers carry `SIDETAIL_VERSION`. Volumes cannot be marked: they are ours if they have one
of our names and the pod shows by a container, a wrapped command or the status that we were here.
Where the author has such a name, all of ours end in `-x2` (`-x3`, …).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.names import (
    BACKEND_VOLUME_PREFIX,
    BIN_VOLUME,
    DEFAULT_CONTAINER_ENV,
    EMPTY_VOLUME,
    LOGS_VOLUME,
    MIRROR,
    OURS,
    ROOT,
    SIDECAR,
    STATE_VOLUME,
    TOKEN_DIR,
    VERSION_ENV,
)

Raw = Mapping[str, Any]

_VOLUME = re.compile(
    rf"(?:{LOGS_VOLUME}|{STATE_VOLUME}|{BIN_VOLUME}|{EMPTY_VOLUME}|{BACKEND_VOLUME_PREFIX}.+?)"
    r"(-x[0-9]+)?"
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One entry of an earlier plan."""

    container: str
    stream: str
    path: str
    volume: str
    sub_path: str

    @property
    def is_new(self) -> bool:
        """Whether it lies on our own log volume."""
        return self.sub_path.startswith(f"{self.container}/")


@dataclass(frozen=True, slots=True)
class Ours:
    """What of a pod is ours."""

    volumes: frozenset[str]
    sidecar_is_native: bool | None
    """Which list the sidecar already stands in; None without one."""
    planned: tuple[Planned, ...] = ()
    """What our status says is collected."""
    default_container: str | None = None
    """The container that was meant where none was named; None where that is not known."""


NOTHING_OURS = Ours(frozenset(), None)


def is_ours(container: Raw) -> bool:
    """Return whether a container carries our mark."""
    environment = container.get("env")
    return (
        isinstance(environment, list)
        and str(container.get("name")).startswith(OURS)
        and any(isinstance(row, dict) and row.get("name") == VERSION_ENV for row in environment)
    )


def unwrap(
    command: tuple[str, ...], args: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a container's command and args without our mirror and its flags.

    Another injector may have moved both behind a program of its own, into `args` too.
    """
    return _without_mirror(command), _without_mirror(args)


def _without_mirror(words: tuple[str, ...]) -> tuple[str, ...]:
    if MIRROR not in words:
        return words
    start = words.index(MIRROR)
    if "--" not in words[start:]:
        return words
    return words[:start] + words[words.index("--", start) + 1 :]


def find_ours(
    status: object, inits: Sequence[Raw], apps: Sequence[Raw], volumes: Sequence[Raw]
) -> Ours:
    """Return what is ours among the parts of a raw pod; `status` is our annotation, if any."""
    everyone = (*inits, *apps)
    marked = [container for container in everyone if is_ours(container)]
    planned = _planned(status)
    if not marked and not planned and not any(_is_mirrored(one) for one in everyone):
        return NOTHING_OURS
    return Ours(
        volumes=_our_volumes(everyone, volumes, planned),
        sidecar_is_native=_sidecar_is_native(inits, apps),
        planned=planned,
        default_container=_default_container(marked),
    )


def _our_volumes(
    everyone: Sequence[Raw], volumes: Sequence[Raw], planned: Iterable[Planned]
) -> frozenset[str]:
    """Return the names of our volumes, those too that are mounted and have been taken away."""
    known = [name for name, path, one in _mounts(everyone) if _is_our_path(path, one)]
    known += [entry.volume for entry in planned if entry.is_new]
    if not known and not any(is_ours(one) or _is_mirrored(one) for one in everyone):
        return frozenset()  # an agent of the node that reads stdout alone needs no volume
    names = {str(volume["name"]) for volume in volumes}
    suffix = _suffix([*known, *sorted(names, reverse=True)])
    there = {str(volume["name"]) for volume in volumes if _fits(volume, suffix)}
    # One that somebody has put on another kind of storage is ours all the same.
    there |= {name for name in known if name in names and _is_name(name, suffix)}
    mounted = {name for name, _, _ in _mounts(everyone)}
    return frozenset(there | {name for name in mounted - names if _is_name(name, suffix)})


def _is_mirrored(container: Raw) -> bool:
    return any(
        isinstance(words, list) and MIRROR in words
        for words in (container.get("command"), container.get("args"))
    )


def _planned(status: object) -> tuple[Planned, ...]:
    """Return the plan of a status of ours; empty if it is none, or planned nothing."""
    try:
        document = json.loads(status) if isinstance(status, str) else None
    except (ValueError, RecursionError):
        return ()
    plan = document.get("plan") if isinstance(document, dict) else None
    keys = ("container", "stream", "path", "volume", "subPath")
    entries = plan if isinstance(plan, list) else []
    return tuple(
        Planned(*(str(entry.get(key)) for key in keys))
        for entry in entries
        if isinstance(entry, dict)
    )


def _mounts(containers: Iterable[Raw]) -> Iterator[tuple[str, object, Raw]]:
    """Yield the volume, the path and the container of each mount."""
    for container in containers:
        listed = container.get("volumeMounts")
        for mount in listed if isinstance(listed, list) else ():
            if isinstance(mount, dict):
                yield str(mount.get("name")), mount.get("mountPath"), container


def _is_our_path(path: object, container: Raw) -> bool:
    """Return whether only we mount something at `path`."""
    if not isinstance(path, str):
        return False
    return path.startswith(ROOT + "/") or (path == TOKEN_DIR and is_ours(container))


def _suffix(names: Iterable[str]) -> str:
    """Return what the first of the names that could be ours ends in."""
    matches = (_VOLUME.fullmatch(name) for name in names)
    return next((match[1] or "" for match in matches if match), "")


def _is_name(name: str, suffix: str) -> bool:
    match = _VOLUME.fullmatch(name)
    return match is not None and (match[1] or "") == suffix


def _fits(volume: Raw, suffix: str) -> bool:
    if not _is_name(str(volume["name"]), suffix):
        return False
    source = "secret" if str(volume["name"]).startswith(BACKEND_VOLUME_PREFIX) else "emptyDir"
    return source in volume


def _default_container(marked: Iterable[Raw]) -> str | None:
    for container in marked:
        for row in container["env"]:
            if isinstance(row, dict) and row.get("name") == DEFAULT_CONTAINER_ENV:
                return str(row.get("value"))
    return None


def _sidecar_is_native(inits: Sequence[Raw], apps: Sequence[Raw]) -> bool | None:
    for is_native, containers in ((True, inits), (False, apps)):
        if any(raw["name"] == SIDECAR and is_ours(raw) for raw in containers):
            return is_native
    return None


def free_suffix(taken: Iterable[str]) -> str:
    """Return the suffix that sets our volumes apart from an author's: mostly none."""
    used = {match[1] or "" for name in taken if (match := _VOLUME.fullmatch(name))}
    number = 2
    if "" not in used:
        return ""
    while f"-x{number}" in used:
        number += 1
    return f"-x{number}"
