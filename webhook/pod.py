"""The pod as its author wrote it: raw JSON read once, without what an earlier run of ours added.

In: the object of an AdmissionReview. Out: a `Pod` of plain values, which everything after it
reads; the raw object is only read again by `patch`. Source: Kubernetes API, PodSpec.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from contract.annotations import PREFIX, STATUS
from contract.names import ROOT, SAFE_TO_EVICT
from webhook.admission import Owner
from webhook.ours import NOTHING_OURS, Ours, find_ours, is_ours, is_own_part, unwrap
from webhook.values import UNREADABLE

Segments = tuple[str, ...]
Kind = Literal["init", "native", "app"]


@dataclass(frozen=True, slots=True)
class Mount:
    """One `volumeMounts[]` of an author's container."""

    volume: str
    path: Segments
    """Where it stands, normalised."""
    sub_path: str
    """`subPath`, or `subPathExpr` verbatim; empty for the volume's root."""
    is_expression: bool
    read_only: bool


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the author's."""

    name: str
    kind: Kind
    """`native` is an init container with `restartPolicy: Always`."""
    raw: Mapping[str, Any]
    mounts: tuple[Mount, ...]
    """The author's."""
    command: tuple[str, ...]
    """Without our mirror in front; empty where the spec has none."""
    args: tuple[str, ...]
    kept_mounts: tuple[Mount, ...] = ()
    """Of our log volume, where an earlier run has mounted it: what it decided is kept."""
    is_mirrored: bool = False
    """An earlier run has put our mirror in front of its command."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod at its creation."""

    name: str
    """Empty with `generateName`."""
    namespace: str
    """The request's: the object of a controller may have none."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """The author's: without our status, and without our names in the autoscaler's list."""
    owner: Owner | None
    spec: Mapping[str, Any]
    containers: tuple[Container, ...]
    """In the order in which they start: init containers first."""
    volumes: Mapping[str, Mapping[str, Any]]
    """The author's, by name."""
    ours: Ours
    """What an earlier run added."""
    replicas: int | None = None
    """How many pods like this one there will be; None where only a workload could say."""

    def container(self, name: str) -> Container | None:
        """Return the author's container of that name."""
        return next((found for found in self.containers if found.name == name), None)

    @property
    def apps(self) -> tuple[Container, ...]:
        """The containers of `spec.containers[]`."""
        return tuple(found for found in self.containers if found.kind == "app")


class MalformedPodError(Exception):
    """The API server will refuse the pod, or somebody else than the API server sent it."""


def segments(path: str) -> Segments:
    """Return the segments of a path as the container runtime reads it.

    >>> segments("/var//log/./app/"), segments("logs/../data")
    (('var', 'log', 'app'), ('data',))
    """
    found: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment)
    return tuple(found)


def read_pod(pod: Mapping[str, Any], namespace: str) -> Pod:
    """Return the author's pod that `pod` (a v1 Pod) holds; nothing of it is copied.

    Raises:
        MalformedPodError: what we would have to read is not of the API's shape, or the pod has
            no container.
    """
    metadata = _object(pod.get("metadata"))
    spec = _object(pod.get("spec"))
    labels = _strings(metadata.get("labels"))
    raw_annotations = _object(metadata.get("annotations"))
    inits = _named(spec.get("initContainers"))
    apps = _named(spec.get("containers"))
    volumes = _named(spec.get("volumes"))
    _list(spec.get("imagePullSecrets"))
    ours = find_ours(raw_annotations.get(STATUS), inits, apps, volumes)
    containers = [_container(raw, "init", ours) for raw in inits]
    containers += [_container(raw, "app", ours) for raw in apps]
    authored = tuple(one for one in containers if not is_ours(one.raw))
    if not any(one.kind == "app" for one in authored):
        raise MalformedPodError
    return Pod(
        name=_text(metadata.get("name")),
        namespace=namespace,
        labels=labels,
        annotations=_annotations(raw_annotations, ours),
        owner=controller_of(metadata.get("ownerReferences")),
        spec=spec,
        containers=authored,
        volumes={raw["name"]: raw for raw in volumes if raw["name"] not in ours.volumes},
        ours=ours,
    )


def _object(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedPodError
    return value


def _list(value: Any) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise MalformedPodError
    return value


def _named(value: Any) -> list[dict[str, Any]]:
    found = _list(value)
    if not all(isinstance(element.get("name"), str) and element["name"] for element in found):
        raise MalformedPodError
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _words(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise MalformedPodError
    return tuple(value)


def _strings(value: Any) -> dict[str, str]:
    return {key: text for key, text in _object(value).items() if isinstance(text, str)}


def _annotations(raw: Mapping[str, Any], ours: Ours) -> dict[str, str]:
    annotations = {
        key: value if isinstance(value, str) else UNREADABLE
        for key, value in raw.items()
        if isinstance(value, str) or key.startswith(PREFIX)
    }
    annotations.pop(STATUS, None)
    if ours is not NOTHING_OURS and SAFE_TO_EVICT in annotations:
        names = [name.strip() for name in annotations[SAFE_TO_EVICT].split(",")]
        kept = [name for name in names if name and name not in ours.volumes]
        annotations[SAFE_TO_EVICT] = ",".join(kept)
        if not kept:
            del annotations[SAFE_TO_EVICT]
    return annotations


def controller_of(value: Any) -> Owner | None:
    """Return whom `ownerReferences` name as the controller, None for nobody.

    Raises:
        MalformedPodError: they are none that the API server would take.
    """
    for reference in _list(value):
        parts = [_text(reference.get(key)) for key in ("apiVersion", "kind", "name", "uid")]
        if reference.get("controller") is True and all(parts):
            return Owner(*parts)
    return None


def _container(raw: Mapping[str, Any], kind: Kind, ours: Ours) -> Container:
    if kind == "init" and raw.get("restartPolicy") == "Always":
        kind = "native"
    _list(raw.get("env"))
    _object(raw.get("resources"))
    words = _words(raw.get("command")), _words(raw.get("args"))
    command, args = unwrap(*words)
    mounts = [_mount(mount) for mount in _named(raw.get("volumeMounts"))]
    ours_here = [mount for mount in mounts if mount.volume in ours.volumes]
    return Container(
        name=raw["name"],
        kind=kind,
        raw=raw,
        mounts=tuple(mount for mount in mounts if mount.volume not in ours.volumes),
        command=command,
        args=args,
        kept_mounts=tuple(mount for mount in ours_here if _is_kept(mount, raw["name"])),
        is_mirrored=(command, args) != words,
    )


def _is_kept(mount: Mount, container: str) -> bool:
    """Return whether a mount of ours is that of a directory of the container's logs."""
    is_for_mirror = mount.path[:1] == (ROOT[1:],)
    is_part = is_own_part(mount.sub_path, container) and not mount.is_expression
    return is_part and bool(mount.path) and not is_for_mirror


def _mount(raw: Mapping[str, Any]) -> Mount:
    path = raw.get("mountPath")
    if not isinstance(path, str) or not path:
        raise MalformedPodError
    sub_path, expression = _text(raw.get("subPath")), _text(raw.get("subPathExpr"))
    return Mount(
        volume=raw["name"],
        path=segments(path),
        sub_path=sub_path or expression,
        is_expression=not sub_path and bool(expression),
        read_only=raw.get("readOnly") is True,
    )
