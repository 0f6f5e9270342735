"""Does the API server answer, and do it and the kubelets know native sidecars?"""

from collections.abc import Iterator, Mapping

from webhook.cluster import NATIVE_SIDECAR_MINOR
from webhook.doctor.findings import Finding, broken, counted, odd, ok
from webhook.doctor.sight import Sight
from webhook.native import NO_OLDER_KUBELETS

OLDEST_MINOR = 25
_WANTED = f"1.{NATIVE_SIDECAR_MINOR}"
_LEFT_ALONE = "sidecars are ordinary containers, and pods that end by themselves are left alone"


def check_api_server(sight: Sight) -> Iterator[Finding]:
    """Is it there, and not too old?"""
    version = str(sight.version.get("gitVersion") or "of an unknown version")
    if sight.minor is not None and sight.minor < OLDEST_MINOR:
        text = f"Kubernetes {version} is older than 1.{OLDEST_MINOR}"
        yield broken(text, "upgrade the control plane")
    else:
        yield ok(f"Kubernetes {version}")


def check_native_sidecars(sight: Sight) -> Iterator[Finding]:
    """Do the API server and every kubelet know native sidecars?"""
    if sight.minor is not None and sight.minor < NATIVE_SIDECAR_MINOR:
        text = f"the API server is older than {_WANTED}: {_LEFT_ALONE}"
        yield odd(text, "upgrade the control plane")
    kubelets = sight.kubelets
    if kubelets:
        yield _judge(kubelets)
    elif sight.minor is not None and sight.minor >= NO_OLDER_KUBELETS:
        yield ok("there is no node yet; any that may join knows them")
    else:
        yield odd(f"there is no node: {_LEFT_ALONE} until there is one")


def _judge(kubelets: Mapping[str, int | None]) -> Finding:
    number = counted(len(kubelets), "kubelet")
    old = [
        f"{name}: 1.{minor}"
        for name, minor in sorted(kubelets.items())
        if minor is not None and minor < NATIVE_SIDECAR_MINOR
    ]
    if not old:
        return ok(f"{number}, none older than {_WANTED}")
    remedy = "upgrade the nodes; see sidetail.dev/native in docs/annotations.md"
    return odd(f"{len(old)} of {number} older than {_WANTED}: {_LEFT_ALONE}", remedy, old)
