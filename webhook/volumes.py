"""What kinds of volumes there are: which ones can hold logs, and whose files stand in them."""

from collections.abc import Mapping
from typing import Any

from webhook.pod import Container, Mount, Pod

_WITHOUT_LOGS = ("configMap", "secret", "downwardAPI", "projected", "image")
_OF_ONE_POD = ("emptyDir", "ephemeral", "csi")
"""Made for the pod and deleted with it."""


def without_logs(volume: Mapping[str, Any]) -> str | None:
    """Return the kind of a volume that nothing can be logged to, or None."""
    return next((kind for kind in _WITHOUT_LOGS if volume.get(kind) is not None), None)


def is_token(volume: Mapping[str, Any]) -> bool:
    """Return whether a volume brings a service-account token."""
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, dict) else None
    if not isinstance(sources, list):
        return False
    return any(isinstance(one, dict) and "serviceAccountToken" in one for one in sources)


def reuse_warnings(pod: Pod, container: Container, mount: Mount) -> list[str]:
    """Return what there is to say about files in an author's own volume."""
    warnings = []
    volume = pod.volumes.get(mount.volume, {})
    if mount.read_only:
        warnings.append(
            f"volume {mount.volume}: container {container.name} mounts it read-only and cannot"
            " write there"
        )
    if volume.get("hostPath") is not None:
        warnings.append(
            f"volume {mount.volume}: on a hostPath the files of other pods of the node are"
            " shipped too, once by each"
        )
    elif not mount.is_expression and _is_shared(pod, volume):
        who = "each pod that shares it" if pod.replicas is None else f"each of {pod.replicas} pods"
        warnings.append(
            f"volume {mount.volume}: {who} ships all of its files; give each a directory of its"
            " own, with subPathExpr and the pod's name"
        )
    return warnings


def _is_shared(pod: Pod, volume: Mapping[str, Any]) -> bool:
    """Return whether other pods may have the volume; access modes are not in the pod."""
    if any(volume.get(kind) is not None for kind in _OF_ONE_POD):
        return False
    if pod.replicas is not None and pod.replicas <= 1:
        return False
    claim = volume.get("persistentVolumeClaim")
    if not isinstance(claim, dict):
        return len(volume) > 1
    # A claim made from a StatefulSet's template is the pod's own.
    name = claim.get("claimName")
    is_stateful = pod.owner is not None and pod.owner.kind == "StatefulSet"
    own = is_stateful and pod.name and isinstance(name, str) and name.endswith(f"-{pod.name}")
    return not own
