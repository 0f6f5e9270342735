"""Cases of the injection engine: pods from tests/data/pods, and what must hold for any of them.

In: a case as its file has it. Out: the pod, the settings and the facts; the pod after the patch.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

from contract.annotations import INJECT_LABEL, PREFIX, STATUS
from contract.names import DEFAULT_CONTAINER, IMAGE_MIRROR, MIRROR, SAFE_TO_EVICT
from contract.sidecar_config import CONFIG_ENV
from webhook.admission import Admission
from webhook.cluster import ClusterFacts, Namespace
from webhook.mutate import admit_pod
from webhook.settings import OperatorConfig, load_operator_config

PODS = Path(__file__).resolve().parent / "data" / "pods"

CONFIG: dict[str, Any] = {
    "image": "registry.test/sidetail-sidecar:1.0",
    "attributes": {"k8s.cluster.name": "prod"},
    "pod_labels": ["team"],
    "backends": [
        {
            "name": "main",
            "type": "loki",
            "url": "http://loki.logging:3100",
            "tenant": "$namespace",
            "credentials": {"secret": "loki-auth"},
        },
        {"name": "audit", "type": "http", "url": "https://audit.example.com/ingest"},
    ],
    "redact": {"email": "[a-z]+@[a-z]+", "card": "[0-9]{16}"},
}
MODERN = ClusterFacts(api_server_minor=30, oldest_kubelet_minor=30)

Json = dict[str, Any]


@cache
def settings_of(text: str) -> OperatorConfig:
    """Return the operator config of a JSON text; parsed once."""
    return load_operator_config(text)


def settings_with(**changes: Any) -> OperatorConfig:
    """Return the usual operator config with some keys changed."""
    return settings_of(json.dumps(CONFIG | changes))


@dataclass(frozen=True)
class Case:
    """One row's pod, and what is expected of it."""

    name: str
    rows: list[str]
    pod: Json
    namespace: str
    settings: OperatorConfig
    facts: ClusterFacts
    expect: Json
    between: list[Json]
    """The patch of another injector that comes after us; none where it is empty."""
    then: Json
    """What is expected after our second run."""
    is_large: bool
    """Its golden patch would be pages of the same."""

    def admit(self, pod: Json) -> Admission:
        """Return the admission of any pod in the case's place."""
        return admit_pod(pod, self.namespace, settings=self.settings, facts=self.facts)

    @cached_property
    def admission(self) -> Admission:
        """The admission of the case's own pod."""
        return self.admit(self.pod)

    @cached_property
    def patched(self) -> Json:
        """The case's pod after its patch; not to be changed."""
        return apply(self.pod, self.admission)

    @cached_property
    def changed(self) -> Json:
        """The patched pod after the other injector's patch; not to be changed."""
        changed: Json = jsonpatch.apply_patch(self.patched, self.between)
        return changed

    @cached_property
    def second_admission(self) -> Admission:
        """The admission of what the other injector has made of the pod."""
        return self.admit(self.changed)

    @cached_property
    def repaired(self) -> Json:
        """The pod after our second patch; not to be changed."""
        return apply(self.changed, self.second_admission)


def load_cases() -> list[Case]:
    """Return the cases of all files."""
    return [
        _case(document, path.stem)
        for path in sorted(PODS.glob("*.yaml"))
        if not path.stem.endswith(".golden")
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]


def _case(document: Json, family: str) -> Case:
    name = document.get("in", "shop")
    facts = document.get("facts", {"api_server": 30, "kubelets": 30})
    shared = document.get("namespace", {})
    namespaces = None
    if shared is not None:
        labels = shared.get("labels", {INJECT_LABEL: "enabled"})
        namespaces = {name: Namespace(labels, shared.get("annotations", {}))}
    return Case(
        name=f"{family}-{document['name']}",
        rows=document["rows"],
        pod=_pod(document, name),
        namespace=name,
        settings=settings_with(**document.get("settings", {})),
        facts=ClusterFacts(
            api_server_minor=facts.get("api_server"),
            oldest_kubelet_minor=facts.get("kubelets"),
            has_no_nodes=facts.get("has_no_nodes", False),
            kubelet_minor_by_node=facts.get("nodes", {}),
            namespaces=namespaces,
            limit_ranges={name: tuple(document.get("limit_range", []))},
        ),
        expect=document["expect"],
        between=document.get("between", []),
        then=document.get("then", {}),
        is_large=bool({"many_paths", "many_containers"} & set(document)),
    )


def _pod(document: Json, namespace: str) -> Json:
    if "pod" in document:
        return {"apiVersion": "v1", "kind": "Pod", **document["pod"]}
    asked = {PREFIX + key: value for key, value in document.get("ask", {}).items()}
    if document.get("long_paths"):
        asked[PREFIX + "paths"] = "/var/log/" + "a" * 300 + ",/" + "abcd/" * 1000 + "x"
    if "many_paths" in document:
        paths = [f"/l/{number}/x.log" for number in range(document["many_paths"])]
        asked[PREFIX + "paths"] = ",".join(paths)
    metadata = {"name": "p", "namespace": namespace} | document.get("metadata", {})
    if "generateName" in metadata:
        del metadata["name"]
    metadata["annotations"] = {**metadata.get("annotations", {}), **asked}
    metadata["labels"] = metadata.get("labels", {}) | document.get("labels", {})
    if "fill_annotations" in document:
        _fill(metadata["annotations"], document["fill_annotations"])
    app = {"name": "app", "image": "app:1", "command": ["/bin/app"]} | document.get("app", {})
    if app["command"] is None:
        del app["command"]
    spec = document.get("spec", {}) | {"containers": [app, *document.get("containers", [])]}
    for number in range(1, document.get("many_containers", 0)):
        extra = {"name": f"c{number}", "image": "c:1", "command": ["/bin/c", "x" * 100]}
        spec["containers"].append(extra)
    if "inits" in document:
        spec["initContainers"] = document["inits"]
    if "volumes" in document:
        spec["volumes"] = document["volumes"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _fill(annotations: Json, total: int) -> None:
    """Add an annotation so that all of them together have `total` bytes."""
    key = "filler"
    size = sum(len(name) + len(value) for name, value in annotations.items()) + len(key)
    annotations[key] = "x" * (total - size)


def apply(pod: Json, admission: Admission) -> Json:
    """Return the pod after the patch; `pod` stays as it is."""
    operations: list[Any] = list(admission.patch)
    patched: Json = jsonpatch.apply_patch(pod, operations)
    return patched


def second_injector(pod: Json) -> Json:
    """Return what another webhook and an API server of a bad day make of an injected pod.

    It puts containers of its own in front, sets an image and a resource of ours to what it likes
    better, takes `restartPolicy` from the sidecar, and drops a mount and a capability of it.
    """
    pod = copy.deepcopy(pod)
    spec = pod["spec"]
    mesh = {"name": "mesh", "image": "mesh:1", "env": [{"name": "A", "value": "b"}]}
    spec["containers"].insert(0, mesh)
    spec["initContainers"] = [mesh | {"name": "mesh-init"}, *(spec.get("initContainers") or [])]
    for container in (*spec["initContainers"], *spec["containers"]):
        if container["name"] == "sidetail":
            container.pop("restartPolicy", None)
            container["image"] = "mirror.test/" + container["image"]
            container["env"].append({"name": "INJECTED_BY", "value": "mesh"})
            container["volumeMounts"].pop(1)
            container["securityContext"].pop("capabilities")
    return pod


def containers_of(pod: Json) -> Iterator[Json]:
    """Yield every container of a pod, init containers first."""
    yield from pod["spec"].get("initContainers") or []
    yield from pod["spec"]["containers"]


def container(pod: Json, name: str) -> Json:
    """Return the container of that name."""
    return next(found for found in containers_of(pod) if found["name"] == name)


def document_of(pod: Json) -> Json:
    """Return the sidecar's configuration as its process gets it."""
    rows = {row["name"]: row.get("value") for row in container(pod, "sidetail")["env"]}
    document: Json = json.loads(expand(rows["SIDETAIL_CONFIG"], rows))
    return document


def expand(text: str, environment: Json) -> str:
    """Return what the kubelet makes of an env value, a command or an argument.

    Source: Kubernetes, third_party/forked/golang/expansion: `$$` is a dollar, `$(NAME)` is
    replaced if the name is known and stays if not, any other dollar stays.
    """
    out, place = [], 0
    while place < len(text):
        if text[place] != "$" or place + 1 == len(text):
            out.append(text[place])
            place += 1
        elif text[place + 1] == "$":
            out.append("$")
            place += 2
        elif text[place + 1] == "(" and ")" in text[place:]:
            end = text.index(")", place)
            name = text[place + 2 : end]
            known = environment.get(name)
            out.append(text[place : end + 1] if known is None else known)
            place = end + 1
        else:
            out.append(text[place : place + 2])
            place += 2
    return "".join(out)


def assert_only_added(before: Any, after: Any, where: str = "") -> None:
    """Check that everything of `before` is still there, but for what we may put in front."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            assert key in after, f"{where}/{key} is gone"
            if key == "command" and IMAGE_MIRROR in (value or []):
                assert after[key][: len(value)] == value, f"{where}: what it was told is gone"
            elif key == "command" and MIRROR in (after[key] or []) and value != after[key]:
                assert after[key][-len(value or []) or len(after[key]) :] == (value or [])
            elif key == STATUS or (key == "value" and before.get("name") == CONFIG_ENV):
                continue
            elif key == SAFE_TO_EVICT:
                kept = {name.strip() for name in value.split(",") if name.strip()}
                assert kept <= set(after[key].split(","))
            else:
                assert_only_added(value, after[key], f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and _is_of_objects(before):
        _assert_subsequence(before, after, where)
    elif before is None:
        pass  # null is an empty list to the API
    else:
        assert before == after, f"{where} changed"


def _is_of_objects(elements: list[Any]) -> bool:
    return all(isinstance(element, dict) for element in elements)


def _assert_subsequence(before: list[Json], after: list[Json], where: str) -> None:
    """Check that the elements are there in their order; what is new has a name of its own."""
    kept = iter(after)
    for element in before:
        key: str | None = next((k for k in ("name", "mountPath") if k in element), None)
        if where.endswith(("volumeMounts", "volumeDevices")):
            key = "mountPath" if "mountPath" in element else "devicePath"
        if key is None:
            assert element in after, f"{where}: an element is gone"
            continue
        for candidate in kept:
            if candidate.get(key) == element[key]:
                assert_only_added(element, candidate, f"{where}/{element[key]}")
                break
        else:
            raise AssertionError(f"{where}: {element[key]} is gone or out of order")


def assert_sound(pod: Json) -> None:
    """Check what an API server checks across the fields of a pod."""
    spec = pod["spec"]
    names = [found["name"] for found in containers_of(pod)]
    assert len(names) == len(set(names)), "container names"
    volumes = [volume["name"] for volume in spec.get("volumes") or []]
    assert len(volumes) == len(set(volumes)), "volume names"
    for found in containers_of(pod):
        mounts = found.get("volumeMounts") or []
        paths = [mount["mountPath"] for mount in mounts]
        assert len(paths) == len(set(paths)), f"mount paths of {found['name']}"
        for mount in mounts:
            assert mount["name"] in volumes, f"{found['name']} mounts no volume {mount['name']}"
            assert ":" not in mount["mountPath"]
            assert ".." not in (mount.get("subPath") or "").split("/")
        rows = [row["name"] for row in found.get("env") or []]
        if found["name"].startswith("sidetail"):
            assert len(rows) == len(set(rows)), f"environment of {found['name']}"


def is_guaranteed(pod: Json) -> bool:
    """Return whether a pod is of the class Guaranteed: by its own figures if it has any."""
    of_pod = pod["spec"].get("resources")
    return all(
        _is_equal(found) for found in ([pod["spec"]] if of_pod else list(containers_of(pod)))
    )


def _is_equal(found: Json) -> bool:
    resources = found.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return all(
        name in limits and _amount(requests.get(name, limits[name])) == _amount(limits[name])
        for name in ("cpu", "memory")
    )


def _amount(quantity: Any) -> float:
    text = str(quantity)
    for unit, factor in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("m", 1e-3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def status_of(pod: Json) -> Json | None:
    """Return the status that was written to a pod."""
    text = (pod.get("metadata", {}).get("annotations") or {}).get(STATUS)
    return None if text is None else json.loads(text)


def authored_annotations(pod: Json) -> Json:
    """Return a pod's annotations but ours."""
    ours = (STATUS, SAFE_TO_EVICT, DEFAULT_CONTAINER)
    annotations = pod.get("metadata", {}).get("annotations") or {}
    return {key: value for key, value in annotations.items() if key not in ours}
