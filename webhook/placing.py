"""Where a path leads: its directory, the mount that encloses it, the name of a new sub-path."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contract.names import STDOUT_SLUG
from contract.reasons import BAD_PATH, BLOCK_DEVICE, FORBIDDEN_DIRECTORY
from webhook.directories import fixed_part, is_within, never, show
from webhook.environment import Row, needed_environment
from webhook.globs import is_wild, path_matches
from webhook.paths import PathRequest
from webhook.planned import NewMount, Place
from webhook.pod import Container, Mount, Segments, segments
from webhook.stdout import is_stdout

MAX_DEPTH = 8
"""Segments of a pattern below its directory; the sidecar looks no deeper."""
_MAX_SLUG = 48


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A path in its container, not yet in any volume."""

    request: PathRequest
    container: Container
    pattern: Segments
    directory: Segments
    """Of the files: what stands before the first wildcard."""


def absolute(path: str, container: Container) -> Segments | None:
    """Return the segments of a path; None for a relative one without a working directory."""
    if path.startswith("/"):
        return tuple(path[1:].split("/"))
    workdir = container.raw.get("workingDir")
    if not isinstance(workdir, str) or not workdir.startswith("/"):
        return None
    return (*segments(workdir), *path.split("/"))


def refused_anywhere(container: Container, pattern: Segments) -> tuple[str, str] | None:
    """Return why a path is refused whatever volume it lies in, or None."""
    for device in _devices(container):
        if is_within(pattern, device) or path_matches(pattern, device):
            return BLOCK_DEVICE, f"{show(device)} is a block device"
    message = never(pattern)
    if is_stdout(pattern):
        message = "it is stdout: set sidetail.dev/stdout to mirror"
    if message is not None:
        return FORBIDDEN_DIRECTORY, message
    if len(pattern) - len(fixed_part(pattern)) > MAX_DEPTH:
        return BAD_PATH, f"expected at most {MAX_DEPTH} folders below the first wildcard"
    if any(mount.path == pattern for mount in container.mounts) and not is_wild(pattern[-1]):
        return BAD_PATH, "a volume is mounted at this very path: name the files in it, with /*"
    return None


def _devices(container: Container) -> Iterable[Segments]:
    devices = container.raw.get("volumeDevices")
    for device in devices if isinstance(devices, list) else ():
        path = device.get("devicePath") if isinstance(device, dict) else None
        if isinstance(path, str) and segments(path):
            yield segments(path)


def enclosing(one: Wanted) -> Mount | None:
    """Return the longest mount of the container that encloses the directory.

    It may be ours, from an earlier run: nearer than one that another injector has put around it.
    """
    mounts = (*one.container.kept_mounts, *one.container.mounts)
    around = [mount for mount in mounts if is_within(one.directory, mount.path)]
    return max(around, key=lambda mount: len(mount.path), default=None)


def new_mount(container: Container, mount: Mount) -> NewMount | None:
    """Return a mount of ours from an earlier run as what it was planned as; None for others."""
    if mount not in container.kept_mounts:
        return None
    return NewMount(container.name, mount.path, Place(mount.volume, mount.sub_path, is_new=True))


def place_of(container: Container, mount: Mount) -> Place | str:
    """Return what a mount shows, or the variable that it needs and nobody knows."""
    kept = new_mount(container, mount)
    if kept is not None:
        return kept.place
    environment: tuple[Row, ...] = ()
    if mount.is_expression:
        found = needed_environment(container, mount.sub_path)
        if isinstance(found, str):
            return found
        environment = found
    return Place(mount.volume, mount.sub_path, mount.is_expression, environment)


def overlap(mount: Mount, other: Mount) -> bool:
    """Return whether two mounts of one volume show files in common."""
    if mount.is_expression or other.is_expression:
        return True
    one, two = segments(mount.sub_path), segments(other.sub_path)
    return is_within(one, two) or is_within(two, one)


def slugs(directories: list[Segments]) -> dict[Segments, str]:
    """Return a name for each directory: its segments joined, with a hash where that is unclear.

    >>> slugs([("var", "log", "app")])
    {('var', 'log', 'app'): 'var-log-app'}
    """
    plain = {directory: "-".join(directory) for directory in directories}
    named = {}
    for directory, slug in plain.items():
        clean = re.sub(r"[^A-Za-z0-9._-]", "-", slug)[:_MAX_SLUG].strip(".-")
        is_clear = clean == slug and slug != STDOUT_SLUG and list(plain.values()).count(slug) == 1
        digest = hashlib.sha256("/".join(directory).encode("utf-8", "surrogatepass")).hexdigest()[
            :10
        ]
        named[directory] = slug if is_clear else f"{clean}-{digest}".lstrip("-")
    return named


def folders(homes: Mapping[Wanted, NewMount]) -> tuple[str, ...]:
    """Return the directories that were asked for below the root of a new mount."""
    found = []
    for one, mount in homes.items():
        below = one.directory[len(mount.directory) :]
        if below:
            found.append("/".join((mount.place.sub_path, *below)))
    return tuple(dict.fromkeys(found))
