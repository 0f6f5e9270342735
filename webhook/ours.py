"""Recognises what an earlier run of ours left in a pod, so that a second run plans the same.

Our containers carry `SIDETAIL_VERSION` and `SIDETAIL_DEFAULT_CONTAINER`. Volumes cannot be marked:
they are ours if they have one of our names and the pod shows by a container, a wrapped command, a
mount or the status that we were here. Where the author has such a name, all of ours end in `-x2`
(`-x3`, …).

Between two runs others change a pod. What the first one decided holds as long as anything tells:
which container is meant where none is named (here and in `default_container`), what our log volume
is mounted at (`Container.kept_mounts`, which the plan begins with), what a seeding container
copies (`seeding`), and which list the sidecar stands in.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
    SEED_PREFIX,
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
_LOGS = re.compile(rf"{LOGS_VOLUME}(-x[0-9]+)?")
_SEED = re.compile(rf"{SEED_PREFIX}[0-9]{{1,4}}")


@dataclass(frozen=True, slots=True)
class Ours:
    """What of a pod is ours."""

    volumes: frozenset[str]
    sidecar_is_native: bool | None
    """Which list the sidecar already stands in; None without one."""
    default_container: str | None = None
    """The container that was meant where none was named, if the pod still has it; None where
    neither a container of ours nor the status says it."""
    seeds: tuple[Raw, ...] = ()
    """The seeding containers, in their order."""
    planned: frozenset[tuple[str, ...]] = frozenset()
    """What the status says is collected: container, path, volume, sub-path and glob."""


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
    document = _document(status)
    planned = _planned(document)
    others = {str(volume["name"]) for volume in volumes if "emptyDir" not in volume}
    known = [
        *(name for name, mount, one in _mounts(everyone) if _is_our_mount(mount, one, others)),
        *(
            volume
            for container, _, volume, part, _ in planned
            if _is_log_part(volume, part, container) and volume not in others
        ),
    ]
    is_mirrored = any(_is_mirrored(one) for one in everyone)
    if not (marked or document or known or is_mirrored):
        return NOTHING_OURS
    are_there = bool(marked or known or is_mirrored)
    return Ours(
        volumes=_our_volumes(everyone, volumes, known) if are_there else frozenset(),
        sidecar_is_native=_sidecar_is_native(inits, apps),
        default_container=_default_container(marked, document, apps),
        seeds=tuple(one for one in inits if is_ours(one) and _SEED.fullmatch(one["name"])),
        planned=frozenset(planned),
    )


def _our_volumes(
    everyone: Sequence[Raw], volumes: Sequence[Raw], known: Sequence[str]
) -> frozenset[str]:
    """Return the names of our volumes, those too that are mounted and have been taken away.

    `known` are names that a mount or the status gives away.
    """
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


def _document(status: object) -> Raw:
    """Return what a status of ours says; empty if it is none."""
    try:
        document = json.loads(status) if isinstance(status, str) else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _planned(document: Raw) -> list[tuple[str, ...]]:
    """Return container, path, volume, sub-path and glob of what an earlier run has planned."""
    plan = document.get("plan")
    keys = ("container", "path", "volume", "subPath", "glob")
    return [
        tuple(str(entry.get(key)) for key in keys)
        for entry in (plan if isinstance(plan, list) else ())
        if isinstance(entry, dict)
    ]


def is_own_part(sub_path: object, container: object) -> bool:
    """Return whether `sub_path` is how we name a container's part of our log volume."""
    return str(sub_path).startswith(f"{container}/")


def _is_log_part(volume: object, sub_path: object, container: object) -> bool:
    return _LOGS.fullmatch(str(volume)) is not None and is_own_part(sub_path, container)


def _mounts(containers: Iterable[Raw]) -> Iterator[tuple[str, Raw, Raw]]:
    """Yield the volume, the mount itself and the container of each mount."""
    for container in containers:
        listed = container.get("volumeMounts")
        for mount in listed if isinstance(listed, list) else ():
            if isinstance(mount, dict):
                yield str(mount.get("name")), mount, container


def _is_our_mount(mount: Raw, container: Raw, others: Collection[str]) -> bool:
    """Return whether only we make such a mount; `others` are volumes that we do not make."""
    path = mount.get("mountPath")
    if not isinstance(path, str):
        return False
    if path.startswith(ROOT + "/") or (path == TOKEN_DIR and is_ours(container)):
        return True
    volume = str(mount.get("name"))
    is_part = _is_log_part(volume, mount.get("subPath"), container.get("name"))
    return is_part and volume not in others


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


def _default_container(marked: Iterable[Raw], document: Raw, apps: Iterable[Raw]) -> str | None:
    said = [env_value(container, DEFAULT_CONTAINER_ENV) for container in marked]
    said.append(document.get("default_container"))
    there = {app["name"] for app in apps}
    return next((name for name in said if isinstance(name, str) and name in there), None)


def env_value(container: Raw, name: str) -> object:
    """Return what a container of ours has in a variable; None without it."""
    rows = [row for row in container["env"] if isinstance(row, dict)]
    return next((row.get("value") for row in rows if row.get("name") == name), None)


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
