"""Whose stdout is collected: part of step 4 of the webhook.

The mirror runs a container's own command as its child, so the command has to be known, and
nothing may depend on a terminal or on being process 1.
"""

import re
from dataclasses import dataclass

from contract.annotations import STDOUT
from contract.names import KNOWN_SIDECARS, ROOT
from contract.plan import STDOUT_PATH
from contract.reasons import (
    NAME_TAKEN,
    NEEDS_PID_1,
    NO_COMMAND,
    TERMINAL,
    TOO_MANY,
    UNKNOWN_CONTAINER,
)
from webhook.default_container import default_container
from webhook.faults import Fault, unprotected
from webhook.options import Options
from webhook.pod import Container, Pod, Segments
from webhook.shown import shown_name

_PID_1 = frozenset({"systemd", "s6-svscan", "s6-overlay-suexec", "s6-linux-init", "runit-init"})
_PID_1_PATHS = re.compile(r"/(?:s?bin/|usr/s?bin/)?init")
_STDOUT_PATHS = frozenset(
    {
        ("dev", "stdout"),
        ("dev", "stderr"),
        *(("dev", "fd", number) for number in "12"),
        *(("proc", process, "fd", number) for process in ("1", "self") for number in "12"),
    }
)
MAX_MIRRORED = 128
"""More would not fit anyway."""
MAX_NAMED = 16
"""Containers that a message lists."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One container whose stdout is collected."""

    container: str
    command: tuple[str, ...]
    """What the mirror is to run, without the spec's `args`; empty for the node agent."""
    is_kept: bool = False
    """As at an earlier run: where room is short, others give way."""


def is_stdout(pattern: Segments) -> bool:
    """Return whether a path means the container's stdout or stderr, as images link their logs."""
    return pattern in _STDOUT_PATHS


def unknown_container(pod: Pod) -> str:
    """Return the message for a container that the pod does not have."""
    names = ", ".join(shown_name(found.name) for found in pod.containers[:MAX_NAMED])
    return f"no container of that name; the pod has {names}"


def command_of(container: Container, options: Options) -> tuple[str, ...]:
    """Return what the container runs; empty where only its image knows."""
    return container.command or options.command.get(container.name, ())


def plan_stdout(
    pod: Pod, options: Options, more: list[Container]
) -> tuple[list[Mirrored], list[Fault]]:
    """Return the containers whose stdout is collected, and why others are not.

    `more` are those whose stdout was asked for by a path.
    """
    from_pod = STDOUT in pod.annotations
    containers, faults = _asked(pod, options, from_pod=from_pod)
    mirrored: list[Mirrored] = []
    cause = options.refuses_stdout()
    for container in {found.name: found for found in (*containers, *more)}.values():
        obstacle = None if options.choices.collector == "node" else _obstacle(container, options)
        mends = from_pod
        if obstacle is None and cause is not None:
            obstacle, mends = (cause.reason, unprotected(cause)), from_pod and cause.from_pod
        if obstacle is None and len(mirrored) >= MAX_MIRRORED:
            obstacle = TOO_MANY, f"a pod may have {MAX_MIRRORED} mirrors"
        if obstacle is None:
            command = _to_run(container, options)
            mirrored.append(Mirrored(container.name, command, is_kept=_is_kept(pod, container)))
        else:
            text = f"container {shown_name(container.name)}: {obstacle[1]}"
            faults.append(Fault(STDOUT, obstacle[0], text, from_pod=mends))
    return mirrored, faults


def _is_kept(pod: Pod, container: Container) -> bool:
    """Return whether an earlier run has planned it, by our mirror or by the status."""
    planned = ((entry[0], entry[1]) for entry in pod.ours.planned)
    return container.is_mirrored or (container.name, STDOUT_PATH) in planned


def _to_run(container: Container, options: Options) -> tuple[str, ...]:
    return () if options.choices.collector == "node" else command_of(container, options)


def _asked(pod: Pod, options: Options, *, from_pod: bool) -> tuple[list[Container], list[Fault]]:
    wanted = options.choices.stdout
    if wanted == "off":
        return [], []
    if wanted == "mirror":
        return [default_container(pod, options)], []
    if wanted == "all":
        return [app for app in pod.apps if app.name not in KNOWN_SIDECARS], []
    found = [pod.container(name) for name in wanted]
    unknown = [str(place) for place, container in enumerate(found, 1) if container is None]
    faults = []
    if unknown:
        numbers = ", ".join(unknown[:8])
        message = f"{unknown_container(pod)} (number {numbers} of the list)"
        faults.append(Fault(STDOUT, UNKNOWN_CONTAINER, message, from_pod=from_pod))
    return [container for container in found if container is not None], faults


def _obstacle(container: Container, options: Options) -> tuple[str, str] | None:
    """Return the reason and the message why a container cannot be mirrored, or None."""
    if container.raw.get("tty") is True or container.raw.get("stdin") is True:
        return TERMINAL, "it has a terminal (tty or stdin), which a mirror would take away"
    command = command_of(container, options)
    if not command:
        return NO_COMMAND, "its spec has no command: set it, or name it in sidetail.dev/command"
    program = command[0]
    if program.rpartition("/")[2] in _PID_1 or _PID_1_PATHS.fullmatch(program):
        return NEEDS_PID_1, "its program has to be process 1"
    if any(mount.path[:1] == (ROOT[1:],) for mount in container.mounts):
        return NAME_TAKEN, f"it has a mount of its own below {ROOT}"
    return None
