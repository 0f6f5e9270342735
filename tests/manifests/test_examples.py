"""The examples do what they say: each is injected whole, each backend's config can be used."""

import json
from pathlib import Path
from typing import Any

import jsonpatch
import kubernetes_validate
import pytest
import yaml

from contract.sidecar_config import BACKEND_TYPES
from manifests.build import HERE
from tests.manifests.objects import EXAMPLES, Json, documents, find, installed
from webhook.cluster import ClusterFacts
from webhook.mutate import admit_pod
from webhook.settings import OperatorConfig, load_operator_config

BACKENDS = sorted((HERE / "examples" / "backends").glob("*.yaml"))
FOR_PODS = [path for path in BACKENDS if path.stem != "file"]
WORKLOADS = [path for path in EXAMPLES if path.stem != "namespace"]
NEW_CLUSTER = ClusterFacts(api_server_minor=34, oldest_kubelet_minor=34)


def pod_of(workload: Json) -> Json:
    """Return the pod that the workload's controller would create."""
    if workload["kind"] == "Pod":
        return workload
    spec = workload["spec"]
    template = (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    claims = spec.get("volumeClaimTemplates", [])
    pod["spec"] = dict(pod["spec"])
    pod["spec"]["volumes"] = [
        *pod["spec"].get("volumes", []),
        *(
            {
                "name": claim["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": claim["metadata"]["name"] + "-0"},
            }
            for claim in claims
        ),
    ]
    return pod


def operator_config() -> OperatorConfig:
    text = find(installed(), "ConfigMap", "sidetail-config")["data"]["config.yaml"]
    return load_operator_config(text)


@pytest.mark.parametrize("example", WORKLOADS, ids=lambda path: path.stem)
def test_each_workload_is_injected_whole_and_valid(example: Path) -> None:
    (workload,) = documents(example)
    pod = pod_of(workload)
    namespace = workload["metadata"]["namespace"]
    admission = admit_pod(pod, namespace, settings=operator_config(), facts=NEW_CLUSTER)

    assert admission.outcome == "injected"
    assert not admission.left_out
    patch = jsonpatch.JsonPatch.from_string(json.dumps(admission.patch))
    patched: Any = patch.apply(pod)
    patched["metadata"].setdefault("name", "example")
    kubernetes_validate.validate(patched, "1.34", strict=True)


def test_there_is_one_for_each_kind_of_workload() -> None:
    kinds = {documents(example)[0]["kind"] for example in WORKLOADS}

    assert kinds == {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod"}


@pytest.mark.parametrize("example", FOR_PODS, ids=lambda path: path.stem)
def test_each_backend_is_one_that_the_operator_config_takes(example: Path) -> None:
    config = load_operator_config(example.read_text("utf-8"))

    assert "main" in config.backends


@pytest.mark.parametrize("example", FOR_PODS, ids=lambda path: path.stem)
def test_a_pod_can_be_sent_to_each_backend(example: Path) -> None:
    (workload,) = documents(HERE / "examples" / "deployment.yaml")
    settings = load_operator_config(example.read_text("utf-8"))
    admission = admit_pod(pod_of(workload), "shop", settings=settings, facts=NEW_CLUSTER)

    assert admission.outcome == "injected"


def test_there_is_one_for_each_backend() -> None:
    types = {
        row["type"]
        for example in BACKENDS
        for row in yaml.safe_load(example.read_text("utf-8"))["backends"]
    }

    assert types == set(BACKEND_TYPES)


def test_examples_name_no_real_registry_or_host() -> None:
    for example in [*EXAMPLES, *BACKENDS]:
        text = example.read_text("utf-8")

        for line in text.splitlines():
            if "image:" in line:
                assert "registry.example/" in line
