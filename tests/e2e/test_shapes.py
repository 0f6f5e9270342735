"""Pods of many shapes, of which the kubelet makes users, folders and processes in many ways."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e import workloads
from tests.e2e.cluster import Cluster, Json, KubectlError
from tests.e2e.system import System
from tests.e2e.workloads import RESTRICTED_CONTAINER, RESTRICTED_POD


def _plan(container: Json, **keys: Any) -> None:
    """Change keys of the writer's plan."""
    value = json.loads(container["env"][0]["value"])
    container["env"][0] = {"name": "PLAN", "value": json.dumps(value | keys)}


def share_processes(template: Json) -> None:
    """The mirror is not the first process of such a pod."""
    template["spec"]["shareProcessNamespace"] = True


def use_the_network_of_the_node(template: Json) -> None:
    """Where no port of ours is opened."""
    template["spec"]["hostNetwork"] = True


def be_nobody_with_files_of_its_own(template: Json) -> None:
    """The sidecar has the application's user, so it reads files that nobody else may."""
    template["spec"]["securityContext"] = {**RESTRICTED_POD, "fsGroup": 2000}
    template["spec"]["containers"][0]["securityContext"] = dict(RESTRICTED_CONTAINER)
    _plan(template["spec"]["containers"][0], file_mode=0o600)


def be_guaranteed(template: Json) -> None:
    resources = {"cpu": "100m", "memory": "128Mi"}
    template["spec"]["containers"][0]["resources"] = {"requests": resources, "limits": resources}


def have_two_containers(template: Json) -> None:
    """Each with its own file below the same path, and its own stdout."""
    second = copy.deepcopy(template["spec"]["containers"][0])
    _plan(second, name="second")
    template["spec"]["containers"].append(second | {"name": "second"})
    template["metadata"]["annotations"] |= {
        "sidetail.dev/paths": "/var/log/app/app.log, second:/var/log/app/app.log",
        "sidetail.dev/stdout": "all",
    }


def begin_with_an_init_container_that_writes(template: Json) -> None:
    first = copy.deepcopy(template["spec"]["containers"][0])
    _plan(first, name="first", stdout=False)
    template["spec"]["initContainers"] = [first | {"name": "first"}]
    template["metadata"]["annotations"]["sidetail.dev/paths"] = (
        "/var/log/app/app.log, first:/var/log/app/app.log"
    )


def mount_a_folder_named_after_the_pod(template: Json) -> None:
    """The author's own volume, by `subPathExpr`."""
    app = template["spec"]["containers"][0]
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    app["env"].append({"name": "MY_NAME", "valueFrom": field})
    app["volumeMounts"].append(
        {"name": "own", "mountPath": "/var/log/app", "subPathExpr": "pods/$(MY_NAME)"}
    )
    template["spec"]["volumes"].append({"name": "own", "emptyDir": {}})


def run_through_a_shell(template: Json) -> None:
    """The program is a grandchild, and its arguments stand in `args`."""
    app = template["spec"]["containers"][0]
    program = " ".join(app["command"])
    app["command"] = ["/bin/sh", "-c"]
    app["args"] = [f"echo $$(id -u) >/dev/null; {program}; exit $?"]


def keep_its_root_read_only(template: Json) -> None:
    template["spec"]["containers"][0]["securityContext"] = {"readOnlyRootFilesystem": True}


SHAPES: dict[Callable[[Json], None], int] = {
    share_processes: 2,
    use_the_network_of_the_node: 2,
    be_nobody_with_files_of_its_own: 2,
    be_guaranteed: 2,
    have_two_containers: 4,
    begin_with_an_init_container_that_writes: 3,
    mount_a_folder_named_after_the_pod: 2,
    run_through_a_shell: 2,
    keep_its_root_read_only: 2,
}
"""With the number of streams that each one writes."""


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_pods_of_every_shape_end_by_themselves_and_lose_nothing(
    system: System, cluster: Cluster, namespace: str, shape: Callable[[Json], None]
):
    plan = {"lines": 1000, "name": "app"}
    writer = system.writer(namespace, plan=plan, paths="/var/log/app/app.log")
    template = writer.template(restartPolicy="Never")
    shape(template)
    try:
        cluster.apply(workloads.bare_pod("shaped", namespace, template))
    except KubectlError as error:
        if "forbidden" in str(error).lower():
            pytest.skip(f"the cluster does not allow it: {error}")
        raise

    pod = cluster.wait_for_pods(
        namespace, lambda pods: pods[0]["status"]["phase"] in {"Succeeded", "Failed"}
    )[0]
    verdict = system.wait_for_lines(namespace, streams=SHAPES[shape])
    system.report(f"shape, {shape.__name__.replace('_', ' ')}", namespace, verdict)

    verdict.assert_exact()
    assert pod["status"]["phase"] == "Succeeded"
    assert json.loads(pod["metadata"]["annotations"]["sidetail.dev/status"])["left_out"] == []
