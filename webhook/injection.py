"""Step 5 of the webhook: what we want in the pod, before it is a patch.

In: pod, options, plan. Out: `Additions`: whole containers, volumes, mounts and commands, said
as they should stand; what of it stands there already is for `patch` to see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from contract.names import (
    BACKEND_VOLUME_PREFIX,
    BIN_VOLUME,
    EMPTY_VOLUME,
    LOGS_VOLUME,
    STATE_VOLUME,
)
from webhook import containers
from webhook.cluster import Namespace
from webhook.containers import Frame, Json
from webhook.default_container import default_container
from webhook.identity import choose_identity, seed_context
from webhook.options import Options
from webhook.planned import Plan
from webhook.pod import Pod
from webhook.quantities import NANO, parse_quantity
from webhook.seeding import plan_seeds, runs_mirror
from webhook.settings import OperatorConfig
from webhook.sidecar_document import build_document, environment_text

MIRROR_MAX_BYTES = 10 * 1024 * 1024
MIRROR_MAX_FILES = 3
_STATE_SIZE = "256Mi"
"""Checkpoints and quarantine stay far below it; what is more would evict the pod."""
_BIN_SIZE = "16Mi"
_EMPTY_SIZE = "1Mi"


@dataclass(frozen=True, slots=True)
class Additions:
    """What we want in the pod."""

    init_containers: Sequence[Json] = ()
    """In the order in which they start, before all of the author's."""
    containers: Sequence[Json] = ()
    """The sidecar, where it is an ordinary one; behind the author's."""
    volumes: Sequence[Json] = ()
    mounts: dict[str, list[Json]] = field(default_factory=dict)
    """By the author's container."""
    commands: dict[str, list[str]] = field(default_factory=dict)
    """By the author's container: the mirror and what it runs."""
    pull_secret: str | None = None
    default_container: str | None = None
    """For kubectl, where an ordinary sidecar would make it ask which container is meant."""
    annotations: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def local_volumes(self) -> list[str]:
        """The names of our volumes that the cluster's autoscaler would keep a node for."""
        return [volume["name"] for volume in self.volumes if "emptyDir" in volume]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the plan alone does not say: how the containers are to look."""

    settings: OperatorConfig
    namespace: Namespace | None
    resources: dict[str, dict[str, str]]
    is_native: bool
    suffix: str
    port: int | None
    announces_port: bool
    """False on the node's own network, where a container's port would be the node's."""


def build_additions(pod: Pod, options: Options, plan: Plan, setting: Setting) -> Additions:
    """Return what we want in the pod, but our annotations."""
    default = default_container(pod, options).name
    frame = Frame(setting.settings, setting.resources, setting.suffix, default)
    by_sidecar = options.choices.collector == "sidecar"
    mirrored = plan.mirrored if by_sidecar else ()
    seeded = plan.mounts if options.choices.seed else ()
    brings_mirror = bool(mirrored or seeded) or runs_mirror(pod)
    identity = choose_identity(pod, plan, setting.namespace)
    inits: list[Json] = []
    if brings_mirror or plan.folders:
        context = identity.security_context
        inits.append(containers.init_container(frame, plan, context, brings_mirror=brings_mirror))
    for seed in plan_seeds(pod, seeded):
        context = seed_context(seed.app, pod, setting.namespace)
        inits.append(containers.seed_container(frame, seed, context))
    ordinary: list[Json] = []
    if by_sidecar:
        sidecar = _sidecar(frame, pod, options, plan, identity.security_context, setting)
        if setting.is_native:
            inits.append(sidecar | {"restartPolicy": "Always"})
        else:
            ordinary.append(sidecar)
    ours = [*inits, *ordinary]
    return Additions(
        init_containers=inits,
        containers=ordinary,
        volumes=_volumes(frame, options, plan, ours, brings_mirror=brings_mirror),
        mounts=_mounts(frame, plan, [one.container for one in mirrored]),
        commands=_commands(options, [(one.container, one.command) for one in mirrored]),
        pull_secret=setting.settings.image_pull_secret if ours else None,
        default_container=default if ordinary else None,
        warnings=identity.warnings if by_sidecar else (),
    )


def _sidecar(
    frame: Frame, pod: Pod, options: Options, plan: Plan, context: Json, setting: Setting
) -> Json:
    document = build_document(pod, options, plan, setting.settings, port=setting.port)
    text = environment_text(document)
    port = setting.port if setting.announces_port else None
    return containers.sidecar(frame, plan, options, context, text=text, port=port)


def _volumes(
    frame: Frame, options: Options, plan: Plan, ours: Sequence[Json], *, brings_mirror: bool
) -> list[Json]:
    """Return the volumes that anything of what is added needs."""
    by_sidecar = options.choices.collector == "sidecar"
    sizes = []
    if plan.mounts or (plan.mirrored and by_sidecar):
        sizes.append((LOGS_VOLUME, options.choices.size_limit))
    if by_sidecar:
        sizes.append((STATE_VOLUME, _STATE_SIZE))
    if brings_mirror:
        sizes.append((BIN_VOLUME, _BIN_SIZE))
    if ours:
        sizes.append((EMPTY_VOLUME, _EMPTY_SIZE))
    volumes: list[Json] = [
        {"name": frame.volume(name), "emptyDir": {"sizeLimit": size}} for name, size in sizes
    ]
    backends = containers.with_secret(frame.settings, options) if by_sidecar else []
    for name in backends:
        secret = {"secretName": frame.settings.backends[name].secret, "optional": True}
        volumes.append({"name": frame.volume(BACKEND_VOLUME_PREFIX + name), "secret": secret})
    return volumes


def _mounts(frame: Frame, plan: Plan, mirrored: Sequence[str]) -> dict[str, list[Json]]:
    mounts: dict[str, list[Json]] = {}
    for mount in plan.mounts:
        mounts.setdefault(mount.container, []).append(containers.app_mount(mount))
    for container in mirrored:
        mounts.setdefault(container, []).extend(containers.mirror_mounts(frame, container))
    return mounts


def _commands(
    options: Options, mirrored: Sequence[tuple[str, tuple[str, ...]]]
) -> dict[str, list[str]]:
    max_bytes = mirror_bytes(options.choices.size_limit, len(mirrored))
    return {
        container: containers.mirror_command(
            container, command, max_bytes=max_bytes, max_files=MIRROR_MAX_FILES
        )
        for container, command in mirrored
    }


def mirror_bytes(size_limit: str, count: int) -> int:
    """Return the size of a mirror's file: all of them together stay below half of the volume."""
    half = ((parse_quantity(size_limit) or 0) // NANO - 1) // 2
    return max(1, min(MIRROR_MAX_BYTES, half // (max(1, count) * MIRROR_MAX_FILES)))
