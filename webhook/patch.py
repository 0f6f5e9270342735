"""Step 6 of the webhook: the operations that bring our additions into the raw pod.

In: the pod as it was sent and the additions. Out: RFC 6902 operations, all of them `add`. What
already means the same stays as it is: a second run gives no operation, and a value that another
plugin set to something else is never fought over. An `add` to a member that exists replaces it;
that is done to what is ours alone: our configuration, what our init containers are told, our
annotations, a service-account token in one of our containers, and a command that the mirror is
put in front of.
Source: RFC 6902, RFC 6901; design 3.4.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from contract.annotations import STATUS
from contract.names import IMAGE_MIRROR, MIRROR, SAFE_TO_EVICT, TOKEN_DIR
from contract.sidecar_config import CONFIG_ENV
from webhook.admission import Operation
from webhook.injection import Additions
from webhook.ours import is_ours
from webhook.pod import segments
from webhook.volumes import is_token

Json = dict[str, Any]

_KEY_OF = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
"""What tells the elements of a container's lists apart."""


def escaped(key: str) -> str:
    """Return a member's name as it stands in a JSON Pointer.

    >>> escaped("a/b~c")
    'a~1b~0c'
    """
    return key.replace("~", "~0").replace("/", "~1")


def to_patch(pod: Mapping[str, Any], additions: Additions) -> list[Operation]:
    """Return the operations; `pod` is the object of the AdmissionReview, and stays as it is."""
    spec = pod.get("spec") or {}
    patch = _annotations(pod, additions.annotations)
    patch += _appended(spec.get("volumes"), "/spec/volumes", additions.volumes, key="name")
    if additions.pull_secret is not None:
        wanted = [{"name": additions.pull_secret}]
        secrets = spec.get("imagePullSecrets")
        patch += _appended(secrets, "/spec/imagePullSecrets", wanted, key="name")
    for section in ("initContainers", "containers"):
        patch += _authors(spec, section, additions)
    patch += _init_containers(spec, additions)
    return patch + _ordinary_containers(spec, additions)


def _add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _annotations(pod: Mapping[str, Any], wanted: Mapping[str, str]) -> list[Operation]:
    if not wanted:
        return []
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict):
        return [_add("/metadata", {"annotations": dict(wanted)})]
    there = metadata.get("annotations")
    if not isinstance(there, dict):
        return [_add("/metadata/annotations", dict(wanted))]
    return [
        _add(f"/metadata/annotations/{escaped(key)}", text)
        for key, text in wanted.items()
        if not _means_the_same(key, there.get(key), text)
    ]


def _means_the_same(key: str, there: Any, wanted: str) -> bool:
    if there == wanted:
        return True
    if key == STATUS and isinstance(there, str):
        try:
            return bool(json.loads(there) == json.loads(wanted))
        except (ValueError, RecursionError):
            return False
    if key == SAFE_TO_EVICT and isinstance(there, str):
        return set(wanted.split(",")) <= {name.strip() for name in there.split(",")}
    return False


def _appended(there: Any, path: str, wanted: Sequence[Json], *, key: str) -> list[Operation]:
    """Return the operations that add to a list what it lacks; one for the whole of a new list."""
    if not there or not isinstance(there, list):
        return [_add(path, list(wanted))] if wanted else []
    known = {_identity(element, key) for element in there}
    return [
        _add(f"{path}/-", element) for element in wanted if _identity(element, key) not in known
    ]


def _identity(element: Any, key: str) -> Any:
    value = element.get(key) if isinstance(element, dict) else None
    if not isinstance(value, (str, int)):
        return None
    return segments(value) if key == "mountPath" and isinstance(value, str) else value


def _authors(spec: Mapping[str, Any], section: str, additions: Additions) -> list[Operation]:
    """Return what the author's containers get: mounts, and the mirror in front."""
    patch: list[Operation] = []
    for place, raw in enumerate(spec.get(section) or ()):
        path = f"/spec/{section}/{place}"
        wanted = additions.mounts.get(raw["name"])
        command = additions.commands.get(raw["name"])
        if (wanted is None and command is None) or is_ours(raw):
            continue
        mounts = raw.get("volumeMounts")
        patch += _appended(mounts, f"{path}/volumeMounts", wanted or (), key="mountPath")
        if command is not None and not _has_mirror(raw):
            patch.append(_add(f"{path}/command", command))
    return patch


def _has_mirror(raw: Mapping[str, Any]) -> bool:
    """Return whether the mirror is there, also behind another injector's own program."""
    return any(MIRROR in (raw.get(key) or ()) for key in ("command", "args"))


def _init_containers(spec: Mapping[str, Any], additions: Additions) -> list[Operation]:
    """Return what brings our init containers in front of the author's, in their order."""
    there = spec.get("initContainers")
    if not there:
        wanted = list(additions.init_containers)
        return [_add("/spec/initContainers", wanted)] if wanted else []
    names = [raw["name"] if is_ours(raw) else None for raw in there]
    repairs: list[Operation] = []
    for wanted_one in additions.init_containers:
        if wanted_one["name"] in names:
            place = names.index(wanted_one["name"])
            repairs += _repaired(spec, "initContainers", place, wanted_one)
    inserted: list[Operation] = []
    place = 0
    for index, wanted_one in enumerate(additions.init_containers):
        if wanted_one["name"] in names:
            place = names.index(wanted_one["name"]) + 1
            continue
        later = [one["name"] for one in additions.init_containers[index + 1 :]]
        found = [names.index(name) for name in later if name in names]
        place = min([place, *found])
        inserted.append(_add(f"/spec/initContainers/{place}", wanted_one))
        names.insert(place, wanted_one["name"])
        place += 1
    return repairs + inserted


def _ordinary_containers(spec: Mapping[str, Any], additions: Additions) -> list[Operation]:
    patch: list[Operation] = []
    there = spec.get("containers") or ()
    names = [raw["name"] if is_ours(raw) else None for raw in there]
    for wanted in additions.containers:
        if wanted["name"] in names:
            patch += _repaired(spec, "containers", names.index(wanted["name"]), wanted)
        else:
            patch.append(_add("/spec/containers/-", wanted))
    return patch


def _repaired(spec: Mapping[str, Any], section: str, place: int, wanted: Json) -> list[Operation]:
    """Return what restores one of our containers where it stands."""
    raw = spec[section][place]
    path = f"/spec/{section}/{place}"
    patch: list[Operation] = []
    for name, value in wanted.items():
        there = raw.get(name)
        if name in _KEY_OF:
            patch += _appended(there, f"{path}/{name}", value, key=_KEY_OF[name])
        elif name == "securityContext":
            patch += _missing_members(there, value, f"{path}/{name}")
        elif name == "resources":
            if not there or not any(there.values()):
                patch.append(_add(f"{path}/{name}", value))
        elif there in (None, "", []):
            patch.append(_add(f"{path}/{name}", value))
        elif name == "command" and (more := _not_yet_told(there, value)):
            patch.append(_add(f"{path}/{name}", [*there, *more]))
    patch += _configuration(raw, wanted, path)
    return patch + _without_token(spec, raw, wanted, path)


def _not_yet_told(there: Any, wanted: list[str]) -> list[str]:
    """Return the options and arguments that `sidetail-init` lacks.

    It keeps those for an earlier plan: what was mounted and wrapped for that is still in the pod.
    """
    if wanted[0] != IMAGE_MIRROR or IMAGE_MIRROR not in there:
        return []
    known = set(pairwise(there))
    told = zip(wanted[2::2], wanted[3::2], strict=True)
    return [word for pair in told if pair not in known for word in pair]


def _missing_members(there: Any, wanted: Json, path: str) -> list[Operation]:
    if not isinstance(there, dict):
        return [_add(path, wanted)]
    patch: list[Operation] = []
    for name, value in wanted.items():
        if there.get(name) is None:
            patch.append(_add(f"{path}/{name}", value))
        elif isinstance(value, dict):
            patch += _missing_members(there[name], value, f"{path}/{name}")
    return patch


def _configuration(raw: Mapping[str, Any], wanted: Json, path: str) -> list[Operation]:
    """Return what makes the text of our configuration follow the pod."""
    text = next((row["value"] for row in wanted["env"] if row["name"] == CONFIG_ENV), None)
    if text is None:
        return []
    return [
        _add(f"{path}/env/{place}/value", text)
        for place, row in enumerate(raw.get("env") or ())
        if row.get("name") == CONFIG_ENV and not _is_same_json(row.get("value"), text)
    ]


def _is_same_json(there: Any, wanted: str) -> bool:
    if there == wanted:
        return True
    try:
        return bool(json.loads(there) == json.loads(wanted))
    except (TypeError, ValueError, RecursionError):
        return False


def _without_token(
    spec: Mapping[str, Any], raw: Mapping[str, Any], wanted: Json, path: str
) -> list[Operation]:
    """Return what lays our empty volume over a service-account token in our container."""
    empty = next(m["name"] for m in wanted["volumeMounts"] if m["mountPath"] == TOKEN_DIR)
    tokens = {volume.get("name") for volume in spec.get("volumes") or () if is_token(volume)}
    patch: list[Operation] = []
    for place, mount in enumerate(raw.get("volumeMounts") or ()):
        is_there = _identity(mount, "mountPath") == segments(TOKEN_DIR)
        if mount.get("name") != empty and (is_there or mount.get("name") in tokens):
            patch.append(_add(f"{path}/volumeMounts/{place}/name", empty))
    return patch
