"""The plan of one pod, as values: what step 4 returns and everything after it reads."""

from dataclasses import dataclass, replace

from contract.annotations import STDOUT
from contract.names import STDOUT_FILE, STDOUT_SLUG
from contract.plan import STDOUT_PATH, PlanEntry
from contract.reasons import TOO_LARGE
from webhook.environment import Row
from webhook.faults import Fault
from webhook.options import Options
from webhook.paths import PathRequest
from webhook.pod import Segments
from webhook.shown import shown_name
from webhook.stdout import Mirrored


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a volume, as one mount shows it."""

    volume: str
    sub_path: str
    """Empty for the volume's root."""
    is_expression: bool = False
    """`sub_path` is a `subPathExpr`."""
    environment: tuple[Row, ...] = ()
    """What the expression needs."""
    is_new: bool = False
    """On our log volume."""


@dataclass(frozen=True, slots=True)
class Followed:
    """One accepted path and one place it reaches."""

    container: str
    is_certain: bool
    """Whether the files can only be this container's, or were named as such."""
    path: str
    """The whole pattern as the app sees it."""
    place: Place
    glob: str
    """Relative to the place."""
    shown_as: str
    """The directory of the files, as the app sees it."""
    request: PathRequest
    is_kept: bool = False
    """An earlier run has planned the same: where room is short, others give way."""


@dataclass(frozen=True, slots=True)
class NewMount:
    """A sub-path of our log volume that is mounted in one container."""

    container: str
    directory: Segments
    place: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """What is collected, and how it gets there."""

    followed: tuple[Followed, ...] = ()
    mounts: tuple[NewMount, ...] = ()
    folders: tuple[str, ...] = ()
    """Made in our log volume before the app starts; relative to its root."""
    mirrored: tuple[Mirrored, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many entries it has."""
        return len(self.followed) + len(self.mirrored)

    @property
    def kept_size(self) -> int:
        """How many of them an earlier run has planned already."""
        return sum(one.is_kept for one in self.ranked)

    @property
    def ranked(self) -> list[Followed | Mirrored]:
        """What an earlier run has planned first; then files, then stdout."""
        entries: list[Followed | Mirrored] = [*self.followed, *self.mirrored]
        return sorted(entries, key=lambda one: not one.is_kept)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is collected."""
        return not self.followed and not self.mirrored

    def entries(self, options: Options, volume: str) -> list[PlanEntry]:
        """Return the plan as the status has it; `volume` is the name of our log volume."""
        files = [_file_entry(one) for one in self.followed]
        by_node = options.choices.collector == "node"
        return files + [_stdout_entry(one, None if by_node else volume) for one in self.mirrored]


def _file_entry(one: Followed) -> PlanEntry:
    return {
        "container": one.container,
        "stream": "file",
        "path": one.path,
        "volume": one.place.volume,
        "subPath": one.place.sub_path,
        "glob": one.glob,
    }


def _stdout_entry(one: Mirrored, volume: str | None) -> PlanEntry:
    return {
        "container": one.container,
        "stream": "stdout",
        "path": STDOUT_PATH,
        "volume": volume,
        "subPath": "" if volume is None else stdout_sub_path(one.container),
        "glob": None if volume is None else STDOUT_FILE + "*",
    }


def stdout_sub_path(container: str) -> str:
    """Return where on our log volume a container's mirrored stdout lies."""
    return f"{container}/{STDOUT_SLUG}"


def first_of(plan: Plan, count: int) -> Plan:
    """Return the plan with its first `count` entries by rank only.

    What goes is left out as too large.
    """
    if count >= plan.size:
        return plan
    first = {id(one) for one in plan.ranked[:count]}
    kept = tuple(one for one in plan.followed if id(one) in first)
    mirrored = tuple(one for one in plan.mirrored if id(one) in first)
    places = [one.place for one in kept]
    roots = tuple(place.sub_path + "/" for place in places if place.is_new)
    message = "what is added to the pod would be larger than a pod may carry"
    faults = [
        Fault(one.request.shown, TOO_LARGE, message, is_path=True)
        for one in plan.followed
        if id(one) not in first
    ]
    faults += [
        Fault(STDOUT, TOO_LARGE, f"container {shown_name(one.container)}: {message}")
        for one in plan.mirrored
        if id(one) not in first
    ]
    return replace(
        plan,
        followed=kept,
        mirrored=mirrored,
        mounts=tuple(mount for mount in plan.mounts if mount.place in places),
        folders=tuple(folder for folder in plan.folders if folder.startswith(roots)),
        faults=(*plan.faults, *dict.fromkeys(faults)),
    )
