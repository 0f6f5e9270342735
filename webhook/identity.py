"""Who our containers run as: restricted in full, and able to read what the app writes.

Source: Kubernetes Pod Security Standards (restricted); design 3.4.
"""

from dataclasses import dataclass
from typing import Any

from contract.names import IMAGE_UID
from webhook.cluster import Namespace
from webhook.planned import Plan
from webhook.pod import Container, Pod

_OPENSHIFT_RANGE = "openshift.io/sa.scc.uid-range"


@dataclass(frozen=True, slots=True)
class Identity:
    """The security context of the sidecar and of `sidetail-init`."""

    security_context: dict[str, Any]
    warnings: tuple[str, ...] = ()


def choose_identity(pod: Pod, plan: Plan, namespace: Namespace | None) -> Identity:
    """Return how the sidecar runs; `namespace` is None where it is not in memory."""
    context = restricted()
    writers = _writers(pod, plan)
    warnings = []
    user = None if has_uid_range(namespace) else _user(pod, writers)
    if user is not None:
        context["runAsUser"] = user
    if shares_processes(pod) and not has_uid_range(namespace):
        warnings.append(
            f"the containers of the pod see each other's processes, so the sidecar runs as"
            f" {IMAGE_UID}: files of mode 0600 will not be readable"
        )
    else:
        warnings += _unreadable(pod, writers, user)
    level = _selinux_level(pod, writers)
    if level is not None:
        context["seLinuxOptions"] = {"level": level}
    return Identity(context, tuple(warnings))


def restricted() -> dict[str, Any]:
    """Return what the standard `restricted` asks of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def seed_context(container: Container, pod: Pod, namespace: Namespace | None) -> dict[str, Any]:
    """Return the security context of a container that seeds for `container`, from its image."""
    context = restricted()
    if not has_uid_range(namespace):
        context["runAsUser"] = user_of(pod, container) or IMAGE_UID
    return context


def has_uid_range(namespace: Namespace | None) -> bool:
    """Return whether OpenShift gives each container of the namespace a user of its own range."""
    return namespace is not None and _OPENSHIFT_RANGE in namespace.annotations


def shares_processes(pod: Pod) -> bool:
    """Return whether the app can see our processes, and so read what has the same user."""
    return pod.spec.get("shareProcessNamespace") is True or pod.spec.get("hostPID") is True


def user_of(pod: Pod, container: Container) -> int | None:
    """Return the user of an author's container; None where only the image knows."""
    own = _user_in(container.raw.get("securityContext"))
    return _user_in(pod.spec.get("securityContext")) if own is None else own


def _user_in(context: Any) -> int | None:
    user = context.get("runAsUser") if isinstance(context, dict) else None
    return user if isinstance(user, int) and not isinstance(user, bool) else None


def _writers(pod: Pod, plan: Plan) -> list[Container]:
    """Return the containers that are collected from, those with files first."""
    names = [one.container for one in plan.followed]
    names += [one.container for one in plan.mirrored]
    found = [pod.container(name) for name in dict.fromkeys(names)]
    return [container for container in found if container is not None]


def _user(pod: Pod, writers: list[Container]) -> int | None:
    """Return the user to write down; None leaves the image's own, or the pod's."""
    if shares_processes(pod):
        return IMAGE_UID
    user = user_of(pod, writers[0]) if writers else None
    if user:
        return user
    return IMAGE_UID if _user_in(pod.spec.get("securityContext")) == 0 else None


def _unreadable(pod: Pod, writers: list[Container], user: int | None) -> list[str]:
    others = [(container, user_of(pod, container)) for container in writers[1:]]
    return [
        f"container {container.name} runs as {other} and the sidecar as {user}: files of mode 0600"
        " of that container will not be readable"
        for container, other in others
        if user is not None and other and other != user
    ]


def _selinux_level(pod: Pod, writers: list[Container]) -> str | None:
    """Return the level of the first writer that has one of its own, if the pod has none."""
    if _options(pod.spec.get("securityContext")):
        return None
    for container in writers:
        level = _options(container.raw.get("securityContext")).get("level")
        if isinstance(level, str) and level:
            return level
    return None


def _options(context: Any) -> dict[str, Any]:
    options = context.get("seLinuxOptions") if isinstance(context, dict) else None
    return options if isinstance(options, dict) else {}
