"""Is Sidetail installed, is its config one that it can use, and does a replica answer?"""

from collections.abc import Iterator
from typing import Any

from contract.names import CONFIG_MAP
from runtime.kube import Json, KubeError
from runtime.settings import SettingsError
from webhook.doctor.containers import trouble_of
from webhook.doctor.findings import Finding, broken, counted, odd, ok
from webhook.doctor.sight import CONFIG_KEY, Sight
from webhook.settings import OperatorConfig, load_operator_config

WEBHOOK = "sidetail-webhook"
"""Name of the Deployment and of the Service."""
APPLY = "kubectl apply -f manifests/install.yaml"
PLACEHOLDER = "registry.example/"
_REPLICAS = "app.kubernetes.io/name=sidetail,app.kubernetes.io/component=webhook"


def check_installed(sight: Sight) -> Iterator[Finding]:
    """Is there a namespace of ours?"""
    name = sight.place.system
    found = sight.find(f"/api/v1/namespaces/{name}")
    if found is None:
        yield broken(f"there is no namespace {name}: Sidetail is not installed", APPLY)
    elif found["metadata"].get("deletionTimestamp"):
        yield broken(f"namespace {name} is being deleted", f"wait for its end, then {APPLY}")
    else:
        yield ok(f"namespace {name}")


def check_config(sight: Sight) -> Iterator[Finding]:
    """Can the operator config be used?"""
    where = f"ConfigMap {CONFIG_MAP}"
    if sight.place.config is not None:
        yield _ok_config(sight.place.config, "the file that was given")
        return
    text = sight.config_text
    if text is None:
        yield broken(f"{where} with a key {CONFIG_KEY} is not there", APPLY)
        return
    try:
        config = load_operator_config(text)
    except SettingsError as error:
        yield broken(
            f"{where} cannot be used: replicas keep the last good one, new ones do not start",
            f"kubectl -n {sight.place.system} edit configmap {CONFIG_MAP}; docs/operator.md",
            [str(problem) for problem in error.problems],
        )
        return
    yield _ok_config(config, where)
    if config.image.startswith(PLACEHOLDER):
        yield odd(
            f"image is {config.image}, a name that stands for yours",
            f"put your registry into `image` of {where} and into the Deployment; docs/install.md",
        )


def _ok_config(config: OperatorConfig, where: str) -> Finding:
    names = ", ".join(f"{name} ({row.document['type']})" for name, row in config.backends.items())
    return ok(f"{where}: backends {names}")


def check_replicas(sight: Sight) -> Iterator[Finding]:
    """Do the replicas run?"""
    deployment = sight.find(sight.system("/apis/apps/v1", "deployments", WEBHOOK))
    if deployment is None:
        yield broken(f"there is no Deployment {WEBHOOK}", APPLY)
        return
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    ready = (deployment.get("status") or {}).get("readyReplicas") or 0
    look = f"kubectl -n {sight.place.system} describe pods -l {_REPLICAS}"
    if wanted == 0:
        scale = f"kubectl -n {sight.place.system} scale deployment {WEBHOOK} --replicas 2"
        yield broken(f"Deployment {WEBHOOK} is scaled to 0", scale)
    elif ready == 0:
        yield broken(f"none of {counted(wanted, 'replica')} is ready", look, _troubles(sight))
    elif ready < wanted:
        yield odd(f"{ready} of {counted(wanted, 'replica')} ready", look, _troubles(sight))
    else:
        yield ok(f"{ready} of {counted(wanted, 'replica')} ready")


def _troubles(sight: Sight) -> list[str]:
    """Return why each replica that is not ready is not, as far as that can be seen."""
    try:
        pods = list(sight.items(sight.system("/api/v1", "pods"), labelSelector=_REPLICAS))
    except KubeError:
        return []
    found = [(pod["metadata"]["name"], _why_not_ready(pod)) for pod in pods]
    return [f"{name}: {why}" for name, why in found if why is not None]


def _why_not_ready(pod: Json) -> str | None:
    status: dict[str, Any] = pod.get("status") or {}
    conditions = {row.get("type"): row for row in status.get("conditions") or ()}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    for container in status.get("containerStatuses") or ():
        trouble = trouble_of(container)
        if trouble is not None:
            return trouble
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason')}: {scheduled.get('message')}"
    return f"not ready, {status.get('phase', 'Pending')}"


def check_endpoints(sight: Sight) -> Iterator[Finding]:
    """Does the Service lead to a replica that is ready?"""
    if sight.find(sight.system("/api/v1", "services", WEBHOOK)) is None:
        yield broken(f"there is no Service {WEBHOOK}", APPLY)
        return
    slices = sight.items(
        sight.system("/apis/discovery.k8s.io/v1", "endpointslices"),
        labelSelector=f"kubernetes.io/service-name={WEBHOOK}",
    )
    addresses = {
        address
        for one in slices
        for endpoint in one.get("endpoints") or ()
        # Absent means ready. Source: Kubernetes API, EndpointConditions.
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint.get("addresses") or ()
    }
    if addresses:
        yield ok(f"Service {WEBHOOK} leads to {counted(len(addresses), 'ready endpoint')}")
    else:
        yield broken(
            f"Service {WEBHOOK} has no ready endpoint: the API server has nobody to ask",
            "see to the replicas above; do their labels match the Service's selector?",
        )
