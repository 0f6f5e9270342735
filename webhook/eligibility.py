"""Step 2 of the webhook: whether a pod is looked at, `Skip(reason)` or the way on.

| namespace label | pod label         | looked at |
|-----------------|-------------------|-----------|
| enabled         | absent or `true`  | yes       |
| enabled         | `false`           | no        |
| anything else   | `true`            | yes       |
| anything else   | absent or `false` | no        |

The API server's selectors say the same; the code says it again for callers without them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contract.annotations import INJECT_LABEL, KEYS, PREFIX, SHORT_KEYS, STATUS
from contract.names import EXCLUDED_NAMESPACES
from runtime.settings import nearest
from webhook.cluster import Namespace
from webhook.pod import Pod
from webhook.shown import got

_STATIC_POD = "kubernetes.io/config.mirror"
_OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")
MAX_ODD = 16
"""Misspelt keys that are named in warnings."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The pod is left as it is."""

    reason: str
    """A key of `contract.reasons.SKIPS`."""
    warnings: tuple[str, ...] = ()


def decide(pod: Pod, namespace: Namespace | None) -> Skip | None:
    """Return why the pod is left as it is, or None if it is to be injected.

    `namespace` is None where it is not in memory: then it counts as without annotations, and
    the API server is believed that the label is there.
    """
    reason = _excluded(pod, namespace)
    if reason is not None:
        return Skip(reason)
    warnings = odd_keys(pod, namespace)
    if not _asks(pod, namespace):
        return Skip("nothing-asked", warnings)
    if runs_on_windows(pod):
        return Skip("windows", ("Windows pods are left as they are (windows)",))
    return None


def _excluded(pod: Pod, namespace: Namespace | None) -> str | None:
    label = pod.labels.get(INJECT_LABEL)
    if pod.namespace in EXCLUDED_NAMESPACES:
        return "excluded-namespace"
    if _STATIC_POD in pod.annotations:
        return "static-pod"
    if label == "false":
        return "opted-out"
    enabled = namespace is None or namespace.labels.get(INJECT_LABEL) == "enabled"
    return None if enabled or label == "true" else "not-enabled"


def _asks(pod: Pod, namespace: Namespace | None) -> bool:
    if pod.labels.get(INJECT_LABEL) == "true":
        return True
    if any(key in pod.annotations for key in KEYS):
        return True
    return namespace is not None and any(key in namespace.annotations for key in KEYS)


def runs_on_windows(pod: Pod) -> bool:
    """Return whether the spec says that the pod runs on Windows nodes."""
    system = pod.spec.get("os")
    if isinstance(system, dict) and system.get("name") == "windows":
        return True
    selector = pod.spec.get("nodeSelector")
    return isinstance(selector, dict) and any(
        selector.get(label) == "windows" for label in _OS_LABELS
    )


def odd_keys(pod: Pod, namespace: Namespace | None) -> tuple[str, ...]:
    """Return a warning for each key or label value under our prefix that nobody knows."""
    odd = [(key, "annotation") for key in _odd(pod.annotations)]
    if namespace is not None:
        odd += [(key, "annotation of the namespace") for key in _odd(namespace.annotations)]
    warnings = [_odd_key(key, what) for key, what in odd[:MAX_ODD]]
    if len(odd) > MAX_ODD:
        warnings.append(f"and {len(odd) - MAX_ODD} more keys that nobody knows")
    label = pod.labels.get(INJECT_LABEL, "true")
    if label not in ("true", "false"):
        shown = got(INJECT_LABEL, label)
        warnings.append(f'label {INJECT_LABEL}: {shown}expected "true" or "false"')
    return tuple(warnings)


def _odd(annotations: Mapping[str, str]) -> list[str]:
    return [
        key for key in annotations if key.startswith(PREFIX) and key not in KEYS and key != STATUS
    ]


def _odd_key(key: str, what: str) -> str:
    shown = ascii(key)[1:-1][:100]
    if key == INJECT_LABEL:
        return f"{what} {shown}: it is a label, expected it under labels"
    near = nearest(key.removeprefix(PREFIX), SHORT_KEYS)
    hint = f"; did you mean {PREFIX}{near}?" if near else ""
    return f"{what} {shown}: nobody knows this key{hint}"
