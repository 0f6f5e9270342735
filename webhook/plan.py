"""Step 4 of the webhook: which path is reached through which volume, and what has to be added.

In: the pod, its options. Out: a `Plan`: what is followed, the mounts that are new, whose stdout
is mirrored, and what is left out. A pure function; one path that is refused refuses no other.
"""

from collections.abc import Mapping
from dataclasses import replace

from contract.names import LOGS_VOLUME
from contract.reasons import BAD_PATH, ENVIRONMENT_UNKNOWN, TOO_MANY, UNKNOWN_CONTAINER, VOLUME_KIND
from webhook.default_container import default_container
from webhook.directories import fixed_part, hidden_content, is_within, refuse_new, show
from webhook.faults import Fault, unprotected
from webhook.globs import residues
from webhook.options import Options
from webhook.paths import PathRequest
from webhook.placing import (
    Wanted,
    absolute,
    enclosing,
    folders,
    new_mount,
    overlap,
    place_of,
    refused_anywhere,
    slugs,
)
from webhook.planned import Followed, NewMount, Place, Plan
from webhook.pod import Container, Mount, Pod, Segments
from webhook.stdout import (
    command_of,
    is_stdout,
    plan_stdout,
    unknown_container,
)
from webhook.volumes import reuse_warnings, without_logs

MAX_FOLLOWED = 128
"""Accepted paths times the volumes they reach, of one pod; more would not fit anyway."""


def make_plan(pod: Pod, options: Options, *, suffix: str) -> Plan:
    """Return the plan; `suffix` sets our volumes apart from the author's."""
    return _Planner(pod, options, LOGS_VOLUME + suffix).plan()


class _Planner:
    """Gathers the plan of one pod, path by path."""

    def __init__(self, pod: Pod, options: Options, volume: str) -> None:
        self._pod = pod
        self._options = options
        self._volume = volume
        self._refused: list[tuple[PathRequest, Fault]] = []
        self._warnings: list[str] = []
        self._followed: list[Followed] = []
        self._stdout: list[Container] = []

    def plan(self) -> Plan:
        """Return the whole plan."""
        wanted = self._located()
        around = {one: mount for one in wanted if (mount := enclosing(one)) is not None}
        new = [one for one in wanted if one not in around and self._may_be_new(one, wanted)]
        homes = self._homes(wanted, around, new)
        for one in wanted:
            if one in homes:
                self._follow_new(one, homes[one])
            elif one in around:
                self._follow_reused(one, around[one])
        mirrored, faults = plan_stdout(self._pod, self._options, self._stdout)
        return Plan(
            followed=tuple(self._followed),
            mounts=tuple(dict.fromkeys(homes.values())),
            folders=folders(homes),
            mirrored=tuple(mirrored),
            faults=(*self._in_order(), *faults),
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    def _refuse(
        self, request: PathRequest, reason: str, message: str, *, from_pod: bool = True
    ) -> None:
        from_pod = from_pod and self._options.paths_from_pod
        fault = Fault(request.shown, reason, message, is_path=True, from_pod=from_pod)
        self._refused.append((request, fault))

    def _in_order(self) -> list[Fault]:
        """Return why paths were refused, in the order in which they were asked for."""
        places = {id(request): place for place, request in enumerate(self._options.paths)}
        ordered = sorted(self._refused, key=lambda refused: places[id(refused[0])])
        return [fault for _, fault in ordered]

    def _located(self) -> list[Wanted]:
        """Return the paths whose container is known and which nothing forbids from the start."""
        found: dict[tuple[str, Segments], Wanted] = {}
        for request in self._options.paths:
            cause = self._options.refuses_path(request)
            if cause is not None:
                self._refuse(request, cause.reason, unprotected(cause), from_pod=cause.from_pod)
                continue
            one = self._in_container(request)
            if one is not None:
                found.setdefault((one.container.name, one.pattern), one)
        return list(found.values())

    def _in_container(self, request: PathRequest) -> Wanted | None:
        if request.container is None:
            container: Container | None = default_container(self._pod, self._options)
        else:
            container = self._pod.container(request.container)
        if container is None:
            self._refuse(request, UNKNOWN_CONTAINER, unknown_container(self._pod))
            return None
        pattern = absolute(request.path, container)
        if pattern is None:
            self._refuse(request, BAD_PATH, "expected an absolute path: no workingDir is set")
            return None
        if is_stdout(pattern) and self._options.choices.stdout != "off":
            self._stdout.append(container)
            return None
        refusal = refused_anywhere(container, pattern)
        if refusal is not None:
            self._refuse(request, *refusal)
            return None
        return Wanted(request, container, pattern, fixed_part(pattern))

    def _may_be_new(self, one: Wanted, wanted: list[Wanted]) -> bool:
        same = [other.pattern for other in wanted if other.container is one.container]
        argv = command_of(one.container, self._options)
        refusal = refuse_new(one.directory, one.container, argv, same)
        if refusal is not None:
            self._refuse(one.request, *refusal)
        return refusal is None

    def _homes(
        self, wanted: list[Wanted], around: Mapping[Wanted, Mount], new: list[Wanted]
    ) -> dict[Wanted, NewMount]:
        """Return the mount of our log volume for each path that lies on it.

        Where an earlier run has mounted it stays as it is; what is `new` gets one mount for each
        directory that lies in no other one of its container.
        """
        homes: dict[Wanted, NewMount] = {}
        added = {one.container.name: self._new_mounts(one.container, new) for one in new}
        for one in wanted:
            kept = new_mount(one.container, around[one]) if one in around else None
            if kept is not None:
                homes[one] = kept
            elif one in new:
                mounts = added[one.container.name]
                homes[one] = next(m for m in mounts if is_within(one.directory, m.directory))
        if not self._options.choices.seed:
            hidden = [hidden_content(mount.directory) for mount in homes.values()]
            self._warnings += [text for text in hidden if text is not None]
        return homes

    def _new_mounts(self, container: Container, new: list[Wanted]) -> list[NewMount]:
        directories = [one.directory for one in new if one.container is container]
        outermost = [
            directory
            for directory in directories
            if not any(is_within(directory, other) and directory != other for other in directories)
        ]
        kept = [mount.path for mount in container.kept_mounts]
        named = slugs([*kept, *outermost])
        return [
            NewMount(
                container.name,
                directory,
                Place(self._volume, f"{container.name}/{named[directory]}", is_new=True),
            )
            for directory in dict.fromkeys(outermost)
        ]

    def _follow_new(self, one: Wanted, mount: NewMount) -> None:
        self._follow(one, mount.place, mount.directory, one.pattern, is_certain=True)
        self._follow_children(one)

    def _follow_reused(self, one: Wanted, mount: Mount) -> None:
        volume = self._pod.volumes.get(mount.volume, {})
        kind = without_logs(volume)
        if kind is not None:
            self._refuse(one.request, VOLUME_KIND, f"a volume of the kind {kind} holds no logs")
            return
        place = place_of(one.container, mount)
        if isinstance(place, str):
            message = f"the mount needs the variable {place[:100]!a}, which env does not set"
            self._refuse(one.request, ENVIRONMENT_UNKNOWN, message)
            return
        self._warnings += reuse_warnings(self._pod, one.container, mount)
        certain = one.request.container is not None or not self._has_other_writers(one, mount)
        self._follow(one, place, mount.path, one.pattern, is_certain=certain)
        self._follow_children(one)

    def _follow_children(self, one: Wanted) -> None:
        """Follow the author's own mounts below the directory that the pattern can reach into."""
        for mount in (*one.container.mounts, *one.container.kept_mounts):
            if mount.path == one.directory or not is_within(mount.path, one.directory):
                continue
            place = place_of(one.container, mount)
            volume = self._pod.volumes.get(mount.volume, {})
            if isinstance(place, str) or without_logs(volume) is not None:
                continue
            for residue in sorted(residues(one.pattern, mount.path)):
                if len(self._followed) >= MAX_FOLLOWED:
                    self._refuse(one.request, TOO_MANY, "it reaches into too many volumes")
                    return
                certain = one.request.container is not None
                certain = certain or not self._has_other_writers(one, mount)
                pattern = (*mount.path, *residue)
                self._follow(one, place, mount.path, pattern, is_certain=certain)

    def _follow(
        self, one: Wanted, place: Place, root: Segments, pattern: Segments, *, is_certain: bool
    ) -> None:
        """Add one entry; `root` is where the app sees `place`, `pattern` begins with it."""
        followed = Followed(
            container=one.container.name,
            is_certain=is_certain,
            path=show(one.pattern),
            place=place,
            glob="/".join(pattern[len(root) :]),
            shown_as=show((*root, *fixed_part(pattern[len(root) :]))),
            request=one.request,
        )
        self._followed.append(replace(followed, is_kept=self._is_kept(one.container, followed)))

    def _is_kept(self, container: Container, one: Followed) -> bool:
        """Return whether an earlier run has planned it: by the status, else by our own mount."""
        if self._pod.ours.planned:
            entry = (one.container, one.path, one.place.volume, one.place.sub_path, one.glob)
            return entry in self._pod.ours.planned
        mounted = [mount.sub_path for mount in container.kept_mounts]
        return one.place.is_new and one.place.sub_path in mounted

    def _has_other_writers(self, one: Wanted, mount: Mount) -> bool:
        """Return whether another container can write where the files lie."""
        return any(
            overlap(mount, other)
            for container in self._pod.containers
            if container is not one.container and container.kind != "init"
            for other in container.mounts
            if other.volume == mount.volume and not other.read_only
        )
