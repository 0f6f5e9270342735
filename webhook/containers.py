"""The containers that we add, as the API takes them: the sidecar, `sidetail-init`, the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract import VERSION
from contract.names import (
    BACKEND_VOLUME_PREFIX,
    BACKENDS_DIR,
    BIN_DIR,
    BIN_VOLUME,
    DEFAULT_CONTAINER_ENV,
    EMPTY_VOLUME,
    IMAGE_MIRROR,
    INIT,
    LOGS_DIR,
    LOGS_VOLUME,
    MIRROR,
    SEED_OF_ENV,
    SIDECAR,
    STATE_DIR,
    STATE_VOLUME,
    STDOUT_DIR,
    STDOUT_FILE,
    TOKEN_DIR,
    VERSION_ENV,
)
from contract.sidecar_config import CONFIG_ENV, DOWNWARD_ATTRIBUTES
from webhook.directories import show
from webhook.environment import Row, rename_references
from webhook.options import Options
from webhook.planned import NewMount, Place, Plan, stdout_sub_path
from webhook.seeding import Seed
from webhook.settings import OperatorConfig
from webhook.sidecar_document import root_of

Json = dict[str, Any]

_FIELDS = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "POD_UID": "metadata.uid",
    "NODE_NAME": "spec.nodeName",
}
_OF_OUR_PROCESS = ("SIDETAIL_", "PYTHON", "LD_")
"""Variables that would change how our own program runs."""
_OF_OUR_PROCESS_TOO = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE"})
METRICS_PORT_NAME = "sidetail"


@dataclass(frozen=True, slots=True)
class Frame:
    """What all our containers of one pod have in common."""

    settings: OperatorConfig
    resources: Mapping[str, Mapping[str, str]]
    suffix: str
    """Of the names of our volumes."""
    default_container: str
    """The one that is meant where none is named: each of ours says it to a second run."""

    def volume(self, name: str) -> str:
        """Return the name of one of our volumes in this pod."""
        return name + self.suffix

    def of_our_image(self, name: str, context: Json, mounts: Sequence[Json]) -> Json:
        """Return a container that runs the sidecar's image; the caller adds its command."""
        image = {
            "image": self.settings.image,
            "imagePullPolicy": self.settings.image_pull_policy,
        }
        return self.container(name, image, context, mounts)

    def container(self, name: str, image: Json, context: Json, mounts: Sequence[Json]) -> Json:
        """Return what each of our containers has."""
        token = {"name": self.volume(EMPTY_VOLUME), "mountPath": TOKEN_DIR, "readOnly": True}
        container: Json = {
            "name": name,
            **image,
            "env": [
                {"name": VERSION_ENV, "value": VERSION},
                {"name": DEFAULT_CONTAINER_ENV, "value": self.default_container},
            ],
            "securityContext": context,
            "volumeMounts": [*mounts, token],
        }
        if self.resources:
            container["resources"] = {key: dict(part) for key, part in self.resources.items()}
        return container


def escaped(argument: str) -> str:
    """Return an argument that the kubelet turns into `argument`: it replaces `$(NAME)`."""
    return argument.replace("$", "$$")


def sidecar(
    frame: Frame,
    plan: Plan,
    options: Options,
    context: Json,
    *,
    text: str,
    port: int | None,
) -> Json:
    """Return the sidecar; `text` is its configuration, `port` is one that is announced."""
    mounts: list[Json] = [{"name": frame.volume(STATE_VOLUME), "mountPath": STATE_DIR}]
    mounts += [_backend_mount(frame, name) for name in with_secret(frame.settings, options)]
    # It deletes files of the log volume only where the author has said so.
    writable = options.choices.clean_above is not None
    places, environment = _places(frame, plan, writable=writable)
    container = frame.of_our_image(SIDECAR, context, [*mounts, *places])
    container["command"] = ["python", "-m", "sidecar", "--keep-running"]
    container["env"] += _downward()
    container["env"].append({"name": CONFIG_ENV, "value": text})
    container["env"] += environment
    if port is not None:
        container["ports"] = [{"name": METRICS_PORT_NAME, "containerPort": port, "protocol": "TCP"}]
    return container


def with_secret(settings: OperatorConfig, options: Options) -> list[str]:
    """Return the chosen backends that have credentials to mount."""
    return [name for name in options.choices.backend if settings.backends[name].secret]


def _backend_mount(frame: Frame, name: str) -> Json:
    volume = frame.volume(BACKEND_VOLUME_PREFIX + name)
    return {"name": volume, "mountPath": f"{BACKENDS_DIR}/{name}", "readOnly": True}


def _downward() -> list[Row]:
    return [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": _FIELDS[name]}}}
        for name in DOWNWARD_ATTRIBUTES
    ]


def _places(frame: Frame, plan: Plan, *, writable: bool) -> tuple[list[Json], list[Row]]:
    """Return the mounts of what the sidecar reads, and the environment they need."""
    mounts: dict[str, Json] = {}
    environment = {str(row["name"]): row for row in _downward()}
    for one in plan.followed:
        root = root_of(one.place)
        if root not in mounts:
            place = _with_environment(one.place, environment, len(mounts))
            mounts[root] = _place_mount(place, root, read_only=not (writable and place.is_new))
    for mirrored in plan.mirrored:
        place = Place(frame.volume(LOGS_VOLUME), stdout_sub_path(mirrored.container), is_new=True)
        mounts[root_of(place)] = _place_mount(place, root_of(place), read_only=True)
    added = [row for name, row in environment.items() if name not in _FIELDS]
    return list(mounts.values()), added


def _place_mount(place: Place, path: str, *, read_only: bool) -> Json:
    mount: Json = {"name": place.volume, "mountPath": path}
    if read_only:
        mount["readOnly"] = True
    if place.sub_path:
        mount["subPathExpr" if place.is_expression else "subPath"] = place.sub_path
    return mount


def _with_environment(place: Place, environment: dict[str, Row], number: int) -> Place:
    """Add what a `subPathExpr` needs to `environment`, under other names where they are taken."""
    names = {str(row["name"]): row for row in place.environment}
    taken = [
        name
        for name, row in names.items()
        if _is_of_our_process(name) or not _means_the_same(environment.get(name, row), row)
    ]
    if not taken:
        environment.update(names)
        return place
    renamed = {name: f"SIDETAIL_PATH_{number}_{name}" for name in names}
    for name, row in names.items():
        copy = {**row, "name": renamed[name]}
        if isinstance(row.get("value"), str):
            copy["value"] = rename_references(row["value"], renamed)
        environment[renamed[name]] = copy
    expression = rename_references(place.sub_path, renamed)
    return Place(place.volume, expression, is_expression=True)


def _is_of_our_process(name: str) -> bool:
    return name.startswith(_OF_OUR_PROCESS) or name in _OF_OUR_PROCESS_TOO


def _means_the_same(one: Row, other: Row) -> bool:
    return one == other or (_field_path(one) is not None and _field_path(one) == _field_path(other))


def _field_path(row: Row) -> object:
    source = row.get("valueFrom")
    reference = source.get("fieldRef") if isinstance(source, dict) else None
    return reference.get("fieldPath") if isinstance(reference, dict) else None


def init_container(frame: Frame, plan: Plan, context: Json, *, brings_mirror: bool) -> Json:
    """Return `sidetail-init`, which brings the mirror and makes directories."""
    command = [IMAGE_MIRROR, "--init"]
    mounts: list[Json] = []
    if brings_mirror:
        command += ["--install", MIRROR]
        mounts.append({"name": frame.volume(BIN_VOLUME), "mountPath": BIN_DIR})
    for folder in plan.folders:
        command += ["--mkdir", escaped(f"{LOGS_DIR}/{folder}")]
    if plan.folders:
        mounts.append({"name": frame.volume(LOGS_VOLUME), "mountPath": LOGS_DIR})
    return frame.of_our_image(INIT, context, mounts) | {"command": command}


def seed_container(frame: Frame, seed: Seed, context: Json) -> Json:
    """Return the container that copies what an app's image has under directories of its logs."""
    command = [MIRROR, "--seed"]
    mounts: list[Json] = [
        {"name": frame.volume(BIN_VOLUME), "mountPath": BIN_DIR, "readOnly": True}
    ]
    for mount, target in seed.targets.items():
        command += [escaped(show(mount.directory)), target]
        mounts.append(app_mount(mount) | {"mountPath": target})
    image = {
        key: seed.app.raw[key]
        for key in ("image", "imagePullPolicy")
        if seed.app.raw.get(key) and isinstance(seed.app.raw[key], str)
    }
    container = frame.container(seed.name, image, context, mounts)
    container["env"].append({"name": SEED_OF_ENV, "value": seed.app.name})
    return container | {"command": command}


def app_mount(mount: NewMount) -> Json:
    """Return the mount of a new volume in the container that writes there."""
    return {
        "name": mount.place.volume,
        "mountPath": show(mount.directory),
        "subPath": mount.place.sub_path,
    }


def mirror_mounts(frame: Frame, container: str) -> list[Json]:
    """Return the mounts of the mirror and of its files in the container that it runs in."""
    return [
        {"name": frame.volume(BIN_VOLUME), "mountPath": BIN_DIR, "readOnly": True},
        {
            "name": frame.volume(LOGS_VOLUME),
            "mountPath": f"{STDOUT_DIR}/{container}",
            "subPath": stdout_sub_path(container),
        },
    ]


def mirror_command(
    container: str, command: Sequence[str], *, max_bytes: int, max_files: int
) -> list[str]:
    """Return the command that runs `command` under the mirror; the spec's `args` stay behind it."""
    return [
        MIRROR,
        "--file",
        f"{STDOUT_DIR}/{container}/{STDOUT_FILE}",
        "--max-bytes",
        str(max_bytes),
        "--max-files",
        str(max_files),
        "--",
        *command,
    ]
