"""Does the API server answer, and do it and the kubelets know native sidecars?"""

from collections.abc import Iterator

from webhook.cluster import NATIVE_SIDECAR_MINOR
from webhook.doctor.findings import Finding, broken, counted, odd, ok
from webhook.doctor.sight import Sight

OLDEST_MINOR = 25
_LEFT_ALONE = "sidecars are ordinary containers, and pods that end by themselves are left alone"


def check_api_server(sight: Sight) -> Iterator[Finding]:
    """Is it there, and not too old?"""
    version = str(sight.version.get("gitVersion") or "of an unknown version")
    minor = sight.facts.api_server_minor
    if minor is not None and minor < OLDEST_MINOR:
        yield broken(
            f"Kubernetes {version} is older than 1.{OLDEST_MINOR}", "upgrade the control plane"
        )
    else:
        yield ok(f"Kubernetes {version}")


def check_native_sidecars(sight: Sight) -> Iterator[Finding]:
    """Do the API server and every kubelet know native sidecars?"""
    wanted = f"1.{NATIVE_SIDECAR_MINOR}"
    minor = sight.facts.api_server_minor
    if minor is not None and minor < NATIVE_SIDECAR_MINOR:
        yield odd(
            f"the API server is older than {wanted}: {_LEFT_ALONE}", "upgrade the control plane"
        )
    kubelets = sight.kubelets
    old = {
        name: known for name, known in kubelets.items() if known and known < NATIVE_SIDECAR_MINOR
    }
    if not kubelets:
        yield odd(f"there is no node: {_LEFT_ALONE} until there is one")
    elif old:
        details = [f"{name}: 1.{known}" for name, known in sorted(old.items())]
        text = (
            f"{len(old)} of {counted(len(kubelets), 'kubelet')} older than {wanted}: {_LEFT_ALONE}"
        )
        yield odd(
            text, "upgrade the nodes; see sidetail.dev/native in docs/annotations.md", details
        )
    else:
        yield ok(f"{counted(len(kubelets), 'kubelet')}, none older than {wanted}")
