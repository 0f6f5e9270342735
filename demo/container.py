"""What the kubelet makes of a container's spec: command, environment and mounts. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """One mount of a container: a folder of a volume at a path."""

    volume: str
    sub_path: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Container:
    """A container that is ready to be started."""

    name: str
    image: str
    command: tuple[str, ...]
    """Empty where the spec leaves it to the image."""
    environment: Mapping[str, str] = field(repr=False)
    mounts: tuple[VolumeMount, ...]
    directory: str | None
    native_sidecar: bool


def resolve(container: Json, pod: Json, facts: Mapping[str, str]) -> Container:
    """Return a container of a pod with every `$(NAME)` and downward field filled in.

    Args:
        container: an item of `spec.containers[]` or `spec.initContainers[]`.
        pod: the pod, whose labels and annotations the downward API may name.
        facts: field path → value, such as `status.podIP`.

    Source: Kubernetes API, EnvVar and Container.command.
    """
    environment: dict[str, str] = {}
    for entry in container.get("env") or []:
        value = entry.get("value")
        if value is None:
            value = _field((entry.get("valueFrom") or {}).get("fieldRef"), pod, facts)
        else:
            value = expand(value, environment)
        if value is not None:
            environment[entry["name"]] = value
    argv = [*(container.get("command") or []), *(container.get("args") or [])]
    return Container(
        name=container["name"],
        image=str(container.get("image", "")),
        command=tuple(expand(text, environment) for text in argv)
        if container.get("command")
        else (),
        environment=environment,
        mounts=tuple(
            VolumeMount(
                volume=mount["name"],
                sub_path=expand(
                    mount.get("subPathExpr") or mount.get("subPath") or "", environment
                ),
                path=mount["mountPath"],
                read_only=bool(mount.get("readOnly")),
            )
            for mount in container.get("volumeMounts") or []
        ),
        directory=container.get("workingDir"),
        native_sidecar=container.get("restartPolicy") == "Always",
    )


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with `$(NAME)` replaced where NAME is known, and `$$` as `$`.

    >>> expand("$(A) $$(A) $(B) $A", {"A": "1"})
    '1 $(A) $(B) $A'
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def _field(reference: Json | None, pod: Json, facts: Mapping[str, str]) -> str | None:
    path = (reference or {}).get("fieldPath", "")
    match = re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path)
    if match:
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    return facts.get(path)


def map_paths(text: str, folders: Mapping[str, str]) -> str:
    """Return `text` with each path below a mount written as its folder on this machine.

    The way out where mounts cannot be made: the programs are told other paths.

    >>> map_paths('--dir=/var/log/a/x.log "/var/log/ab"', {"/var/log/a": "/tmp/v"})
    '--dir=/tmp/v/x.log "/var/log/ab"'
    """
    for path in sorted(folders, key=len, reverse=True):
        pattern = rf"(?<![\w./-]){re.escape(path)}(?![\w.-])"
        text = folders[path].join(re.split(pattern, text))
    return text


def map_config(text: str, folders: Mapping[str, str]) -> str:
    """Return the sidecar's configuration with the paths that it opens mapped, and no others."""
    document = json.loads(text)
    for source in document.get("sources", []):
        source["path"] = map_paths(source["path"], folders)
    document["state_dir"] = map_paths(document["state_dir"], folders)
    return json.dumps(document)
