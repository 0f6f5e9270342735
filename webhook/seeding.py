"""Which seeding container copies which directories: part of step 5 of the webhook.

In: the new mounts of the plan, and the seeding containers that an earlier run has left in the pod.
Out: `Seed`s. A seeding container that is there keeps its job: it runs the image of one container
as that container's user, so it is told by that container, which `SIDETAIL_SEED_OF` in it names, and
by the directories that it copies; never by its number.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from contract.names import MIRROR, SEED_DIR, SEED_OF_ENV, SEED_PREFIX
from webhook.ours import env_value
from webhook.planned import NewMount
from webhook.pod import Container, Pod, Segments, segments

FEW_SEEDS = 4
"""Directories that get a seeding container each. Where there are more, one copies all of an
author's container: they start one after the other, and each is a kilobyte of patch."""


@dataclass(frozen=True, slots=True)
class Seed:
    """One seeding container."""

    name: str
    app: Container
    """Whose image it runs."""
    targets: Mapping[NewMount, str]
    """What it copies, and where it has mounted what it copies to."""


def plan_seeds(pod: Pod, mounts: Sequence[NewMount]) -> list[Seed]:
    """Return what seeds `mounts`: those that are there with their jobs, new ones for the rest."""
    left = list(mounts)
    seeds = []
    for raw in pod.ours.seeds:
        targets = _job(raw, left)
        if targets:
            left = [mount for mount in left if mount not in targets]
            seeds.append(_seed(raw["name"], targets, pod))
    names = _free_names({raw["name"] for raw in pod.ours.seeds})
    are_few = len(mounts) <= FEW_SEEDS
    seeds += [
        _seed(next(names), _numbered(together), pod)
        for together in _together(left, are_few=are_few)
    ]
    return sorted(seeds, key=lambda seed: int(seed.name.removeprefix(SEED_PREFIX)))


def runs_mirror(pod: Pod) -> bool:
    """Return whether an earlier run has left something in the pod that runs our program.

    The program then has to be brought whatever is asked for now, or the pod would not start.
    """
    return bool(pod.ours.seeds) or any(one.is_mirrored for one in pod.containers)


def _seed(name: str, targets: Mapping[NewMount, str], pod: Pod) -> Seed:
    container = next(iter(targets)).container
    return Seed(name, next(one for one in pod.containers if one.name == container), targets)


def _job(raw: Mapping[str, Any], mounts: Sequence[NewMount]) -> dict[NewMount, str]:
    """Return what of `mounts` a seeding container copies, and where to."""
    container = env_value(raw, SEED_OF_ENV)
    targets = {one: _target(raw, one) for one in mounts if one.container == container}
    return {mount: target for mount, target in targets.items() if target is not None}


def _target(raw: Mapping[str, Any], mount: NewMount) -> str | None:
    """Return where `raw` copies the directory of `mount` to, None where that is not its job.

    What it mounts tells, or its command where somebody has taken the mount away.
    """
    parts = {str(one["mountPath"]): (one["name"], one.get("subPath")) for one in _mounts(raw)}
    for path, part in parts.items():
        if part == (mount.place.volume, mount.place.sub_path):
            return path
    target = _copies(raw).get(mount.directory)
    return None if target in parts else target


def _mounts(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for mount in raw.get("volumeMounts") or ():
        if isinstance(mount.get("mountPath"), str):
            yield mount


def _copies(raw: Mapping[str, Any]) -> dict[Segments, str]:
    """Return directory → target of a seeding container's command."""
    words = [*(raw.get("command") or ()), *(raw.get("args") or ())]
    if MIRROR not in words:
        return {}
    pairs = words[words.index(MIRROR) + 2 :]
    return {
        segments(directory.replace("$$", "$")): target
        for directory, target in zip(pairs[::2], pairs[1::2], strict=False)
    }


def _free_names(taken: Collection[str]) -> Iterator[str]:
    names = (f"{SEED_PREFIX}{number}" for number in count(1))
    return (name for name in names if name not in taken)


def _numbered(mounts: Sequence[NewMount]) -> dict[NewMount, str]:
    if len(mounts) == 1:
        return {mounts[0]: SEED_DIR}
    return {mount: f"{SEED_DIR}/{number}" for number, mount in enumerate(mounts, 1)}


def _together(mounts: Sequence[NewMount], *, are_few: bool) -> list[list[NewMount]]:
    """Return the directories by seeding container."""
    if are_few:
        return [[mount] for mount in mounts]
    by_container: dict[str, list[NewMount]] = {}
    for mount in mounts:
        by_container.setdefault(mount.container, []).append(mount)
    return list(by_container.values())
