"""Injected pods that somebody changed: what is missing comes back, what others set stays."""

import copy
import json

import pytest

from contract.annotations import PREFIX, STATUS
from contract.names import SAFE_TO_EVICT, TOKEN_DIR
from tests.injection import (
    MODERN,
    apply,
    assert_sound,
    container,
    containers_of,
    document_of,
    settings_with,
    status_of,
)
from webhook.cluster import NOTHING_KNOWN
from webhook.mutate import admit_pod

SETTINGS = settings_with(image_pull_secret="registry")
POD = {
    "metadata": {
        "name": "p",
        "annotations": {
            PREFIX + "paths": "/srv/logs/*.log,/srv/logs/audit/*.log",
            PREFIX + "stdout": "mirror",
            PREFIX + "seed": "true",
            PREFIX + "metrics-port": "19095",
        },
    },
    "spec": {
        "initContainers": [{"name": "migrate", "image": "migrate:1"}],
        "containers": [
            {"name": "app", "image": "app:1", "command": ["/bin/app"], "args": ["serve"]},
            {"name": "two", "image": "two:1"},
        ],
    },
}


def admit(pod, facts=MODERN):
    return admit_pod(pod, "shop", settings=SETTINGS, facts=facts)


INJECTED = apply(POD, admit(POD))


def drop(elements, name, key="name"):
    elements[:] = [element for element in elements if element.get(key) != name]


def without_sidecar(pod):
    drop(pod["spec"]["initContainers"], "sidetail")


def without_init(pod):
    drop(pod["spec"]["initContainers"], "sidetail-init")


def without_seed(pod):
    drop(pod["spec"]["initContainers"], "sidetail-seed-1")


def without_any_of_ours(pod):
    for name in ("sidetail", "sidetail-init", "sidetail-seed-1"):
        drop(pod["spec"]["initContainers"], name)


def without_restart_policy(pod):
    del container(pod, "sidetail")["restartPolicy"]


def without_mounts(pod):
    container(pod, "sidetail")["volumeMounts"] = []


def without_configuration(pod):
    drop(container(pod, "sidetail")["env"], "SIDETAIL_CONFIG")


def with_another_configuration(pod):
    for row in container(pod, "sidetail")["env"]:
        if row["name"] == "SIDETAIL_CONFIG":
            row["value"] = '{"backends": []}'


def without_security_context(pod):
    del container(pod, "sidetail")["securityContext"]


def without_parts_of_the_security_context(pod):
    context = container(pod, "sidetail")["securityContext"]
    del context["seccompProfile"]
    context["capabilities"] = {}


def without_resources(pod):
    container(pod, "sidetail")["resources"] = {}


def without_ports(pod):
    del container(pod, "sidetail")["ports"]


def without_the_mirror(pod):
    container(pod, "app")["command"] = ["/bin/app"]


def without_the_apps_mounts(pod):
    container(pod, "app")["volumeMounts"] = None


def without_a_volume(pod):
    drop(pod["spec"]["volumes"], "sidetail-state")


def without_volumes(pod):
    pod["spec"]["volumes"] = []


def without_status(pod):
    del pod["metadata"]["annotations"][STATUS]


def without_the_autoscalers_list(pod):
    del pod["metadata"]["annotations"][SAFE_TO_EVICT]


def without_the_pull_secret(pod):
    pod["spec"]["imagePullSecrets"] = None


DAMAGES = [
    without_sidecar,
    without_init,
    without_seed,
    without_any_of_ours,
    without_restart_policy,
    without_mounts,
    without_configuration,
    with_another_configuration,
    without_security_context,
    without_parts_of_the_security_context,
    without_resources,
    without_ports,
    without_the_mirror,
    without_the_apps_mounts,
    without_a_volume,
    without_volumes,
    without_status,
    without_the_autoscalers_list,
    without_the_pull_secret,
]
each_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)


def normal(pod):
    """Return the pod with its unordered lists in an order."""
    pod = copy.deepcopy(pod)
    for found in containers_of(pod):
        for key, by in (("volumeMounts", "mountPath"), ("env", "name")):
            if key in found:
                found[key] = sorted(found[key], key=lambda row: row[by])
    pod["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    annotations = pod["metadata"]["annotations"]
    annotations[STATUS] = json.loads(annotations[STATUS])
    annotations[SAFE_TO_EVICT] = sorted(annotations[SAFE_TO_EVICT].split(","))
    return pod


@each_damage
def test_what_is_missing_comes_back(damage):
    damaged = copy.deepcopy(INJECTED)
    damage(damaged)
    assert damaged != INJECTED
    admission = admit(damaged)
    repaired = apply(damaged, admission)

    assert normal(repaired) == normal(INJECTED)
    assert admission.patch
    assert admit(repaired).patch == ()
    assert_sound(repaired)


@each_damage
def test_a_repair_touches_nothing_else(damage):
    """A repair of one thing is no rewriting of the others."""
    damaged = copy.deepcopy(INJECTED)
    damage(damaged)
    whole = len(json.dumps(list(admit(POD).patch)))

    assert len(json.dumps(list(admit(damaged).patch))) < whole


def test_values_of_others_stay():
    pod = copy.deepcopy(INJECTED)
    sidecar = container(pod, "sidetail")
    sidecar["image"] = "mirror.test/sidetail:1"
    sidecar["imagePullPolicy"] = "Always"
    sidecar["resources"] = {"requests": {"cpu": "1m"}}
    sidecar["securityContext"]["runAsUser"] = 4711
    sidecar["env"].append({"name": "HTTPS_PROXY", "value": "http://proxy"})
    sidecar["volumeMounts"].append({"name": "ca", "mountPath": "/etc/ssl/ca"})
    sidecar["terminationMessagePolicy"] = "File"
    pod["spec"]["volumes"].append({"name": "ca", "configMap": {"name": "ca"}})

    assert admit(pod).patch == ()


def test_defaults_of_the_api_server_are_no_difference():
    pod = copy.deepcopy(INJECTED)
    for found in containers_of(pod):
        found |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "Always"}
        for row in found.get("env", []):
            if "valueFrom" in row:
                row["valueFrom"]["fieldRef"]["apiVersion"] = "v1"
        if "resources" in found:
            found["resources"]["limits"]["memory"] = "134217728"
        for mount in found.get("volumeMounts", []):
            mount["mountPath"] = mount["mountPath"] + "/"
    for volume in pod["spec"]["volumes"]:
        if "secret" in volume:
            volume["secret"]["defaultMode"] = 420
        else:
            volume["emptyDir"]["sizeLimit"] = "4294967296"

    assert admit(pod).patch == ()


def test_a_token_mounted_into_ours_is_replaced():
    pod = copy.deepcopy(INJECTED)
    source = {"serviceAccountToken": {"path": "token"}}
    for name in ("kube-api-access-x", "aws-iam-token"):
        pod["spec"]["volumes"].append({"name": name, "projected": {"sources": [source]}})
    for found in containers_of(pod):
        mounts = found.setdefault("volumeMounts", [])
        drop(mounts, TOKEN_DIR, key="mountPath")
        mounts.append({"name": "kube-api-access-x", "mountPath": TOKEN_DIR, "readOnly": True})
        mounts.append({"name": "aws-iam-token", "mountPath": "/var/run/secrets/aws"})
    repaired = apply(pod, admit(pod))

    for found in containers_of(repaired):
        mounted = {mount["mountPath"]: mount["name"] for mount in found["volumeMounts"]}
        ours = found["name"].startswith("sidetail")
        assert mounted[TOKEN_DIR] == ("sidetail-empty" if ours else "kube-api-access-x")
        assert mounted["/var/run/secrets/aws"] == ("sidetail-empty" if ours else "aws-iam-token")
    assert admit(repaired).patch == ()


def test_the_configuration_follows_the_images_of_the_pod():
    """As in `kubectl debug --copy-to --set-image`."""
    pod = copy.deepcopy(INJECTED)
    container(pod, "app")["image"] = "app:2"
    pod["metadata"]["name"] = "p-debug"
    repaired = apply(pod, admit(pod))
    attributes = document_of(repaired)["sources"][0]["attributes"]

    assert (attributes["service.version"], attributes["service.name"]) == ("2", "p-debug")
    assert len(admit(pod).patch) == 1


@pytest.mark.parametrize(("before", "after"), [(MODERN, NOTHING_KNOWN), (NOTHING_KNOWN, MODERN)])
def test_a_sidecar_stays_where_it_stands(before, after):
    pod = apply(POD, admit(POD, before))

    assert admit(pod, after).patch == ()


@pytest.mark.parametrize("name", ["sidetail-logs", "sidetail-state", "sidetail-bin"])
def test_a_volume_of_ours_on_other_storage_is_still_ours(name):
    pod = copy.deepcopy(INJECTED)
    for volume in pod["spec"]["volumes"]:
        if volume["name"] == name:
            del volume["emptyDir"]
            volume["ephemeral"] = {"volumeClaimTemplate": {"spec": {}}}

    assert admit(pod).patch == ()


def test_what_our_init_containers_are_told_follows_the_paths_and_keeps_what_is_mounted():
    pod = copy.deepcopy(INJECTED)
    paths = ",".join(f"/srv/{number}/*.log,/srv/{number}/deep/*.log" for number in range(6))
    pod["metadata"]["annotations"][PREFIX + "paths"] = paths
    repaired = apply(pod, admit(pod))
    told = container(repaired, "sidetail-init")["command"]
    seed = container(repaired, "sidetail-seed-2")
    targets = seed["command"][3::2]

    assert (
        told[: len(container(INJECTED, "sidetail-init")["command"])]
        == (container(INJECTED, "sidetail-init")["command"])
    )
    assert [f"/sidetail/logs/app/srv-{number}/deep" for number in range(6)] == told[-11::2]
    assert container(repaired, "sidetail-seed-1") == container(INJECTED, "sidetail-seed-1")
    assert seed["command"][2::2] == [f"/srv/{number}" for number in range(6)]
    assert set(targets) <= {mount["mountPath"] for mount in seed["volumeMounts"]}
    assert admit(repaired).patch == ()


def test_a_command_that_another_plugin_put_in_front_of_ours_stays():
    pod = copy.deepcopy(INJECTED)
    for name in ("sidetail-init", "sidetail-seed-1", "sidetail"):
        container(pod, name)["command"].insert(0, "/mesh/wait")
    container(pod, "sidetail")["command"].append("--more")

    assert admit(pod).patch == ()


def test_a_container_that_another_injector_adds_is_picked_up():
    pod = copy.deepcopy(INJECTED)
    pod["metadata"]["annotations"][PREFIX + "stdout"] = "all"
    pod["spec"]["containers"].insert(0, {"name": "new", "image": "new:1", "command": ["/new"]})
    repaired = apply(pod, admit(pod))

    assert container(repaired, "new")["command"][-1] == "/new"
    assert len(document_of(repaired)["sources"]) == len(document_of(INJECTED)["sources"]) + 1
    assert admit(repaired).patch == ()


def test_parts_stand_in_their_order_wherever_others_have_put_theirs():
    for first in ("sidetail-init", "sidetail-seed-1", "sidetail"):
        pod = copy.deepcopy(INJECTED)
        drop(pod["spec"]["initContainers"], first)
        pod["spec"]["initContainers"].insert(0, {"name": "mesh", "image": "mesh:1"})
        repaired = apply(pod, admit(pod))
        names = [found["name"] for found in repaired["spec"]["initContainers"]]
        ours = [name for name in names if name.startswith("sidetail")]

        assert ours == ["sidetail-init", "sidetail-seed-1", "sidetail"]
        assert names.index("migrate") > names.index("sidetail")


def crowded(**asked):
    """Return a pod for which there is not room for all that it asks."""
    names = [f"c{number}" for number in range(60)]
    apps = [{"name": name, "image": "c:1", "command": ["/bin/c", "x" * 100]} for name in names]
    asked = {PREFIX + key: value for key, value in asked.items()}
    return {"metadata": {"name": "p", "annotations": asked}, "spec": {"containers": apps}}


CROWDED = [
    crowded(stdout="all"),
    crowded(paths=",".join(f"c{number}:/srv/logs/*.log" for number in range(32)), seed="true"),
    crowded(
        paths=",".join(f"c{number}:/srv/logs/*.log" for number in range(28)),
        seed="true",
        stdout="all",
        collector="node",
    ),
]


@pytest.mark.parametrize("pod", CROWDED, ids=["mirrored", "seeded", "by-the-node"])
def test_where_there_is_not_room_for_all_those_that_are_collected_stay_so(pod):
    """Others make images longer in between, and come first with containers of their own."""
    once = apply(pod, admit(pod))
    changed = copy.deepcopy(once)
    for found in containers_of(changed):
        found["image"] = "mirror.test/of-all-our-registries/" + found["image"]
    for number in range(8):
        new = {"name": f"new-{number}", "image": "new:1", "command": ["/new"]}
        changed["spec"]["containers"].insert(0, new)
    repaired = apply(changed, admit(changed))
    before, after = (status_of(one)["plan"] for one in (once, repaired))

    assert any(row["reason"] == "too-large" for row in status_of(once)["left_out"])
    assert [entry for entry in before if entry not in after] == []
    assert admit(repaired).patch == ()
    assert admit(once).patch == ()
