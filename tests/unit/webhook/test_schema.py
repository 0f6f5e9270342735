"""Injected pods against the API's own schemas, strictly: no field that the API does not know."""

import copy
import json
from functools import cache
from pathlib import Path

import jsonschema  # type: ignore[import-untyped] # its stubs are a package of their own
import pytest
import referencing
from kubernetes_validate import utils

from contract.annotations import PREFIX
from tests.injection import MODERN, apply, load_cases, settings_with
from webhook.cluster import NOTHING_KNOWN
from webhook.mutate import admit_pod

REVIEWS = Path(__file__).resolve().parents[2] / "data" / "admission-reviews"
NEWEST = utils.latest_version()

CASES = [
    case
    for case in load_cases()
    if case.expect.get("outcome") in {"injected", "partial"}
    and not case.expect.get("is_invalid")
    and case.name != "where-ephemeral-and-inline-csi"
]


@cache
def validator(version):
    """Return the strict schema of a v1 Pod; kubernetes-validate reads it anew for each object."""
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    pod = utils.schema_contents(f"{folder}/pod-v1.json", version)
    definitions = utils.schema_contents(f"{folder}/_definitions.json", version)
    resources = [referencing.Resource.from_contents(each) for each in (pod, definitions)]
    registry = resources[1] @ (resources[0] @ referencing.Registry())
    return jsonschema.validators.Draft202012Validator(pod, registry=registry)


def problems(pod, version=NEWEST):
    found = validator(version).iter_errors(pod)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def complete(pod):
    """Return a pod with what a case leaves out for brevity."""
    pod = {"apiVersion": "v1", "kind": "Pod"} | copy.deepcopy(pod)
    pod.get("metadata", {}).pop("future", None)
    return pod


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_pod_of_each_case_is_valid(case):
    known = problems(complete(case.pod))
    after = problems(complete(case.patched))

    assert [problem for problem in after if problem not in known] == []


def recorded():
    return sorted(REVIEWS.glob("[0-9]*.json"))


def pods_recorded():
    return [*_pods_recorded()]


def _pods_recorded():
    for path in recorded():
        review = json.loads(path.read_text(encoding="utf-8"))["body"]["request"]
        if review["resource"]["resource"] == "pods" and review["operation"] == "CREATE":
            yield pytest.param(review["object"], review["namespace"], id=path.stem)


@pytest.mark.parametrize(("pod", "namespace"), pods_recorded())
@pytest.mark.parametrize("version", utils.all_versions())
def test_recorded_pods_are_injected_for_every_supported_version(pod, namespace, version):
    minor = int(version.split(".")[1])
    facts = type(MODERN)(api_server_minor=minor, oldest_kubelet_minor=minor)
    pod = complete(pod)
    programs = {container["name"]: ["/bin/app"] for container in pod["spec"]["containers"]}
    asked = {
        "paths": "/var/log/app/*.log,/srv/x/**/*.log",
        "stdout": "mirror",
        "command": json.dumps(programs),
    }
    annotations = pod["metadata"].setdefault("annotations", {})
    annotations.update({PREFIX + key: value for key, value in asked.items()})
    settings = settings_with(defaults={"metrics_port": 19095}, image_pull_secret="registry")
    admission = admit_pod(pod, namespace, settings=settings, facts=facts)
    ends = pod["spec"]["restartPolicy"] != "Always"
    patched = apply(pod, admission)
    known = problems(pod, version)

    refused = {row["reason"] for row in admission.left_out}
    has_terminal = any(container.get("tty") for container in pod["spec"]["containers"])
    expected = {"terminal"} if has_terminal else set()
    assert refused == ({"job-needs-native"} if ends and minor < 29 else expected)
    assert [problem for problem in problems(patched, version) if problem not in known] == []
    assert admit_pod(patched, namespace, settings=settings, facts=facts).patch == ()


@pytest.mark.parametrize(("pod", "namespace"), pods_recorded())
def test_recorded_pods_that_ask_for_nothing_stay_as_they_are(pod, namespace):
    for facts in (MODERN, NOTHING_KNOWN):
        admission = admit_pod(pod, namespace, settings=settings_with(), facts=facts)

        assert (admission.outcome, admission.patch, admission.warnings) == ("none", (), ())


def test_there_are_recordings():
    assert len(recorded()) == 17
