"""What the kubelet says of one container: its `status.containerStatuses[]` in words."""

from typing import Any

from runtime.kube import Json

_STARTING = frozenset({"ContainerCreating", "PodInitializing"})
MANY_RESTARTS = 3


def trouble_of(status: Json) -> str | None:
    """Return why a container does not run, or None where nothing is wrong with it."""
    state: dict[str, Any] = status.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting and waiting.get("reason") not in _STARTING:
        ended = (status.get("lastState") or {}).get("terminated") or {}
        code = f" (ended with status {ended['exitCode']})" if "exitCode" in ended else ""
        return f"{waiting.get('reason')}{code}: {waiting.get('message') or 'no message'}"
    terminated = state.get("terminated") or {}
    if terminated.get("exitCode"):
        return f"{terminated.get('reason')}: ended with status {terminated['exitCode']}"
    return None


def remark_on(status: Json) -> str | None:
    """Return what is odd about a container that runs, or None."""
    restarts = status.get("restartCount") or 0
    if restarts < MANY_RESTARTS:
        return None
    last = ((status.get("lastState") or {}).get("terminated") or {}).get("reason")
    return f"{restarts} restarts" + (f", the last for {last}" if last else "")
