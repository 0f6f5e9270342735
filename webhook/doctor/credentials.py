"""Is each backend's Secret where it is needed? What is in it is never asked for."""

from collections.abc import Iterator, Mapping

from contract.annotations import INJECT_LABEL
from contract.names import EXCLUDED_NAMESPACES
from runtime.kube import KubeError
from webhook.doctor.findings import Finding, Level, counted, ok, unseen
from webhook.doctor.pods import seen_pods
from webhook.doctor.sight import Sight


def check_secrets(sight: Sight) -> Iterator[Finding]:
    """Is it there in each namespace whose pods mount it, or will?"""
    mounted = _mounted(sight)
    if mounted is None:
        yield unseen("not allowed to look at pods: which Secrets they mount is not known")
        mounted = frozenset()
    if sight.config is None:
        yield unseen("the operator config cannot be read: backends of pods to come are not known")
    wanted = mounted | _expected(sight)
    missing: dict[tuple[str, str], list[str]] = {}
    for namespace, backend, secret in sorted(wanted):
        if not sight.has(f"/api/v1/namespaces/{namespace}/secrets/{secret}"):
            missing.setdefault((backend, secret), []).append(namespace)
    for (backend, secret), namespaces in missing.items():
        held = [name for name in namespaces if (name, backend, secret) in mounted]
        yield _missing(backend, secret, held or namespaces, is_mounted=bool(held))
    if not missing:
        yield ok(f"{len(wanted)} needed, all there" if wanted else "none is known to be needed")


def _missing(backend: str, secret: str, namespaces: list[str], *, is_mounted: bool) -> Finding:
    level = Level.BROKEN if is_mounted else Level.ODD
    so = "its lines wait in their files" if is_mounted else "lines of its pods will wait"
    where = counted(len(namespaces), "namespace")
    text = f"Secret {secret} of backend {backend} is missing in {where}: {so}"
    remedy = (
        f"kubectl -n {namespaces[0]} create secret generic {secret} --from-file=…; what it may"
        " hold: docs/operator.md"
    )
    return Finding(level, text, (", ".join(namespaces),), remedy)


def _mounted(sight: Sight) -> frozenset[tuple[str, str, str]] | None:
    """Return namespace, backend and Secret of what pods mount; None where they cannot be seen."""
    try:
        pods = seen_pods(sight)
    except KubeError:
        return None
    return frozenset(
        (pod.namespace, backend, secret) for pod in pods for backend, secret in pod.secrets
    )


def _expected(sight: Sight) -> frozenset[tuple[str, str, str]]:
    """Return the same for backends that hold by default, in namespaces with the label."""
    config = sight.config
    if config is None:
        return frozenset()
    secrets: Mapping[str, str] = {
        name: secret
        for name in config.defaults.backend or ()
        if (secret := config.backends[name].secret) is not None
    }
    return frozenset(
        (name, backend, secret)
        for name, namespace in (sight.facts.namespaces or {}).items()
        if namespace.labels.get(INJECT_LABEL) == "enabled" and name not in EXCLUDED_NAMESPACES
        for backend, secret in secrets.items()
    )
