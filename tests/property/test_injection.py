"""What must hold for any pod, whoever wrote it: generated pods, and pods that are no pods."""

import copy
import json
import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.annotations import KEYS, PREFIX, STATUS
from contract.names import DEFAULT_CONTAINER
from tests.injection import (
    MODERN,
    apply,
    assert_only_added,
    assert_sound,
    containers_of,
    document_of,
    expand,
    is_guaranteed,
    second_injector,
    settings_with,
    status_of,
)
from webhook.cluster import NOTHING_KNOWN, ClusterFacts, Namespace
from webhook.containers import escaped
from webhook.mutate import admit_pod
from webhook.ours import is_ours
from webhook.quantities import parse_quantity, render_quantity
from webhook.sidecar_document import environment_text

CONFIGS = (
    settings_with(),
    settings_with(defaults={"stdout": "all", "metrics_port": 19095, "redact": ["card"]}),
    settings_with(tenant_keys=["paths", "stdout"], image_pull_secret="registry"),
    settings_with(defaults={"collector": "node", "stdout": "mirror", "seed": True}),
)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

words = st.sampled_from(["var", "log", "app", "data", "logs", "srv", "tmp", "a b", "é", "x$y"])
folders = st.lists(words, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
mount_paths = folders | folders.map(lambda path: path.replace("/", "//") + "/")
names = st.sampled_from(["app", "web", "db", "istio-proxy", "sidetail-x", "a" * 63])
globs = st.sampled_from(["*.log", "a.log", "**/*.log", "*/x-?.log", "[ab]*", "**"])
paths = st.builds(lambda folder, glob: f"{folder}/{glob}", folders, globs)
VOLUMES: tuple[dict[str, Any], ...] = (
    {"emptyDir": {}},
    {"emptyDir": {"medium": "Memory"}},
    {"persistentVolumeClaim": {"claimName": "c"}},
    {"configMap": {"name": "c"}},
    {"hostPath": {"path": "/x"}},
    {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    {"future": {"kind": 1}},
)


@st.composite
def mounts(draw, volumes):
    found = {}
    for _ in range(draw(st.integers(0, 3)) if volumes else 0):
        mount = {"name": draw(st.sampled_from(volumes)), "mountPath": draw(mount_paths)}
        extra = draw(st.sampled_from([{}, {"readOnly": True}, {"subPath": "s"}, {"future": 1}]))
        found[mount["mountPath"].replace("//", "/").rstrip("/")] = mount | extra
        if draw(st.integers(0, 9)) == 0:
            mount["subPathExpr"] = draw(st.sampled_from(["$(POD_NAME)", "$(A)/$(B)", "$$(A)"]))
            found[mount["mountPath"].replace("//", "/").rstrip("/")] = mount
    return list(found.values())


@st.composite
def containers(draw, volumes):
    one = {"image": draw(st.sampled_from(["a:1", "r/b@sha256:" + "0" * 64, ""])), "future": [{}]}
    command = draw(st.sampled_from([None, [], ["/bin/app"], ["/srv/app/x", "$(A)"], ["/init"]]))
    if command is not None:
        one["command"] = command
    one |= draw(
        st.sampled_from(
            [
                {},
                {"args": ["/var/log/app/x.conf", "--", "$$"]},
                {"tty": True},
                {"workingDir": "/srv/app"},
                {"env": None},
                {"env": [{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)$(POD_NAME)"}]},
                {"securityContext": {"runAsUser": 1000}},
                {"securityContext": {"runAsUser": 0, "seLinuxOptions": {"level": "s0"}}},
                {"volumeDevices": [{"name": "raw", "devicePath": "/data"}]},
            ]
        )
    )
    figures = {"cpu": "100m", "memory": "64Mi"}
    one["resources"] = draw(
        st.sampled_from([{}, {"limits": figures}, {"limits": figures, "requests": figures}])
    )
    where = draw(mounts(volumes))
    if where or draw(st.booleans()):
        one["volumeMounts"] = where or draw(st.sampled_from([None, []]))
    return one


ODD = ("", "mirror", "all", "off", "app", "true", "json", "java", "/^x/", "(", "ERROR", "email")
MORE = ("main", "audit,zzz", "node", "sidecar", "1Gi", "16Mi", "-1", "a=b", "19095", "debug")
VALUES = st.sampled_from((*ODD, *MORE)) | st.text(max_size=12)


@st.composite
def annotations(draw):
    chosen = draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
    listed = draw(st.lists(paths | st.builds(lambda c, p: f"{c}:{p}", names, paths), max_size=5))
    chosen[PREFIX + "paths"] = draw(st.sampled_from([",".join(listed), json.dumps(listed)]))
    chosen[PREFIX + "stdout"] = draw(st.sampled_from(["mirror", "all", "off", "app,web"]))
    return chosen | {"other/key~x": "1"}


@st.composite
def pods(draw):
    kinds = draw(st.lists(st.sampled_from(VOLUMES), max_size=4))
    volumes = [{"name": f"v{number}"} | kind for number, kind in enumerate(kinds)]
    taken = draw(st.sampled_from([[], [{"name": "sidetail-logs", "emptyDir": {}}]]))
    volumes += taken
    known = [volume["name"] for volume in volumes]
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    everyone = [{"name": name} | draw(containers(known)) for name in chosen]
    split = draw(st.integers(0, len(everyone) - 1))
    spec = {"containers": everyone[split:], "future": {"deep": [None, 1.5]}}
    inits = everyone[:split]
    for init in inits:
        init.update(draw(st.sampled_from([{}, {"restartPolicy": "Always"}])))
    if inits or draw(st.booleans()):
        spec["initContainers"] = inits or draw(st.sampled_from([None, []]))
    if volumes or draw(st.booleans()):
        spec["volumes"] = volumes or draw(st.sampled_from([None, []]))
    spec |= draw(
        st.sampled_from(
            [
                {},
                {"hostNetwork": True},
                {"restartPolicy": "Never"},
                {"hostPID": True},
                {"securityContext": {"runAsUser": 0}},
                {"resources": {"limits": {"cpu": "1"}}},
            ]
        )
    )
    metadata = {"annotations": draw(annotations()), "labels": {"team": "shop"}}
    metadata |= draw(st.sampled_from([{"name": "p"}, {"generateName": "p-"}]))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


NAMESPACES = (
    None,
    {"shop": Namespace({"sidetail.dev/inject": "enabled"}, {PREFIX + "format": "json"})},
)
worlds = st.builds(
    lambda minor, namespaces, low: ClusterFacts(
        minor,
        minor,
        namespaces=namespaces,
        limit_ranges={"shop": ({"type": "Container", "min": {"memory": "100Mi"}},)} if low else {},
    ),
    st.sampled_from([None, 27, 30]),
    st.sampled_from(NAMESPACES),
    st.booleans(),
)


def check(pod, config, facts):
    """Admit, admit again, damage, repair; return the admission."""
    before = json.dumps(pod)
    first = admit_pod(pod, "shop", settings=config, facts=facts)
    assert json.dumps(pod) == before, "the pod was changed"
    assert {operation["op"] for operation in first.patch} <= {"add"}
    once = apply(pod, first)
    assert_only_added(pod, once)
    assert_sound(once)
    for container in containers_of(once):
        assert LABEL.fullmatch(container["name"])
    for volume in once["spec"].get("volumes") or []:
        assert LABEL.fullmatch(volume["name"])
    if is_guaranteed(pod):
        assert is_guaranteed(once)
    second = admit_pod(once, "shop", settings=config, facts=facts)
    assert second.patch == ()
    assert (second.outcome, second.left_out) == (first.outcome, first.left_out)
    if first.patch:
        damaged = second_injector(once)
        repaired = apply(damaged, admit_pod(damaged, "shop", settings=config, facts=facts))
        assert_only_added(damaged, repaired)
        assert_sound(repaired)
        assert admit_pod(repaired, "shop", settings=config, facts=facts).patch == ()
    return first


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(pod=pods(), config=st.sampled_from(CONFIGS), facts=worlds)
def test_a_second_run_is_empty_and_nothing_but_additions_is_made(pod, config, facts):
    check(pod, config, facts)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(pod=pods(), config=st.sampled_from(CONFIGS), facts=worlds)
def test_ten_thousand_pods_are_admitted_twice(pod, config, facts):
    check(pod, config, facts)


KEPT_WORDS = st.sampled_from(["var", "log", "app", "a-b"])
kept_folders = st.lists(KEPT_WORDS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
kept_paths = st.builds(
    lambda folder, glob: f"{folder}/{glob}", kept_folders, st.sampled_from(["*.log", "**/*.log"])
)


@st.composite
def seeded_pods(draw):
    """Return a pod most of whose paths name no container, mostly with what they hide seeded."""
    pod = draw(pods())
    named = st.builds(
        lambda one, path: f"{one['name']}:{path}",
        st.sampled_from(list(containers_of(pod))),
        kept_paths,
    )
    listed = draw(st.lists(kept_paths | kept_paths | named, min_size=1, max_size=6))
    pod["metadata"]["annotations"] = {
        PREFIX + "paths": ",".join(listed),
        PREFIX + "seed": draw(st.sampled_from(["true", "true", "false"])),
        PREFIX + "stdout": draw(st.sampled_from(["mirror", "all", "off"])),
        PREFIX + "collector": draw(st.sampled_from(["sidecar", "node"])),
    }
    return pod


def newcomer(pod, draw):
    """Put a container in front, which may mount where ours are mounted."""
    one = {"name": "newcomer", "image": draw(st.sampled_from(["n:1", "a:1"])), "command": ["/n"]}
    taken = [mount["mountPath"] for mount in our_mounts(pod)]
    if taken and draw(st.booleans()):
        pod["spec"]["volumes"].append({"name": "newcomers", "emptyDir": {}})
        one["volumeMounts"] = [{"name": "newcomers", "mountPath": draw(st.sampled_from(taken))}]
    pod["spec"]["containers"].insert(0, one)


def default_is_said(pod, draw):
    names = [found["name"] for found in pod["spec"]["containers"]]
    pod["metadata"]["annotations"][DEFAULT_CONTAINER] = draw(st.sampled_from(names))


def no_status(pod, draw):
    pod["metadata"]["annotations"].pop(STATUS, None)


def no_mounts(pod, draw):
    taken = our_mounts(pod)
    for found in containers_of(pod):
        if not is_ours(found) and found.get("volumeMounts"):
            found["volumeMounts"] = [
                mount
                for mount in found["volumeMounts"]
                if mount not in taken and not mount["mountPath"].startswith("/sidetail/")
            ]


def one_of_ours_is_gone(pod, draw):
    found = our_containers(pod)
    if found:
        gone = draw(st.sampled_from(found))
        for key in ("initContainers", "containers"):
            there = pod["spec"].get(key) or []
            pod["spec"][key] = [one for one in there if one is not gone]


def one_of_ours_mounts_nothing(pod, draw):
    found = our_containers(pod)
    if found:
        draw(st.sampled_from(found))["volumeMounts"] = []


def a_volume_around_ours(pod, draw):
    for found in pod["spec"]["containers"]:
        mounts = found.get("volumeMounts") or []
        if any(mount in our_mounts(pod) for mount in mounts) and not any(
            mount["mountPath"].strip("/") in ("var", "log", "app") for mount in mounts
        ):
            pod["spec"]["volumes"].append({"name": f"around-{found['name'][:40]}", "emptyDir": {}})
            around = {"name": f"around-{found['name'][:40]}"}
            mounts += [around | {"mountPath": path} for path in ("/var", "/log", "/app")]


def our_containers(pod):
    return [found for found in containers_of(pod) if is_ours(found)]


def our_mounts(pod):
    """Return the mounts of our log volume that the author's containers have."""
    return [
        mount
        for found in containers_of(pod)
        if not is_ours(found)
        for mount in found.get("volumeMounts") or ()
        if (mount.get("subPath") or "").startswith(found["name"] + "/")
        and mount["name"].startswith("sidetail-logs")
        and not mount["mountPath"].startswith("/sidetail/")
    ]


CHANGES = (
    default_is_said,
    no_status,
    no_mounts,
    one_of_ours_is_gone,
    one_of_ours_mounts_nothing,
    a_volume_around_ours,
)


def jobs(pod):
    """Return what each seeding container does, by its name."""
    return {
        found["name"]: (found.get("image"), found["command"])
        for found in our_containers(pod)
        if found["name"].startswith("sidetail-seed-")
    }


def parts(pod):
    """Return which part of the log volume each seeding container has at each target."""
    return {
        (found["name"], mount["mountPath"]): mount["subPath"]
        for found in our_containers(pod)
        if found["name"].startswith("sidetail-seed-")
        for mount in found["volumeMounts"]
        if "subPath" in mount
    }


def check_kept(pod, config, facts, changes, draw):
    """Admit, let others change the pod, admit again: what was decided is still so."""
    once = apply(pod, admit_pod(pod, "shop", settings=config, facts=facts))
    if status_of(once) is None:
        return
    changed = copy.deepcopy(once)
    newcomer(changed, draw)
    for change in changes:
        if change is not a_volume_around_ours or no_mounts not in changes:  # then it is theirs
            change(changed, draw)
    repaired = apply(changed, admit_pod(changed, "shop", settings=config, facts=facts))
    assert_only_added(changed, repaired)
    assert_sound(repaired)
    assert admit_pod(repaired, "shop", settings=config, facts=facts).patch == ()
    if not our_containers(changed) and STATUS not in changed["metadata"]["annotations"]:
        return  # nothing is left that says what was decided
    before, after = status_of(once), status_of(repaired)
    assert after["default_container"] == before["default_container"]
    assert [entry for entry in before["plan"] if entry not in after["plan"]] == []
    added = [entry for entry in after["plan"] if entry not in before["plan"]]
    assert all(one["container"] != "newcomer" or one["stream"] == "stdout" for one in added)
    there, then = jobs(changed), jobs(repaired)
    assert {name: then[name] for name in there} == there
    assert set(parts(once).values()) == set(parts(repaired).values())
    for place, part in parts(once).items():
        if place[0] in there:
            assert parts(repaired)[place] == part


CHANGED_PODS = {
    "pod": seeded_pods(),
    "config": st.sampled_from(CONFIGS),
    "facts": worlds,
    "changes": st.lists(st.sampled_from(CHANGES), max_size=3, unique=True),
    "data": st.data(),
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(**CHANGED_PODS)
def test_what_was_decided_is_kept_when_others_have_changed_the_pod(
    pod, config, facts, changes, data
):
    check_kept(pod, config, facts, changes, data.draw)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(**CHANGED_PODS)
def test_what_was_decided_about_ten_thousand_pods_is_kept(pod, config, facts, changes, data):
    check_kept(pod, config, facts, changes, data.draw)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def broken_pods(draw):
    """Return a pod with something of another shape in one place that we read."""
    pod = draw(pods())
    pod["metadata"]["labels"] = {"sidetail.dev/inject": "true"}
    pod["spec"]["affinity"] = pod["spec"]["os"] = pod["spec"]["imagePullSecrets"] = None
    first = pod["spec"]["containers"][0]
    first |= {"ports": None, "securityContext": None, "env": first.get("env")}
    parents = [pod, pod["metadata"], pod["spec"], first, pod["metadata"]["annotations"]]
    for row in (first.get("volumeMounts") or [], pod["spec"].get("volumes") or []):
        parents += row
    for _ in range(draw(st.integers(1, 3))):
        parent = draw(st.sampled_from(parents))
        if parent:
            parent[draw(st.sampled_from(sorted(parent)))] = draw(anything)
    return pod


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(pod=broken_pods(), config=st.sampled_from(CONFIGS))
def test_no_json_pod_raises(pod, config):
    admission = admit_pod(pod, "shop", settings=config, facts=MODERN)

    assert admission.outcome in {"injected", "partial", "skipped", "none"}
    assert all(text.isprintable() for text in admission.warnings)
    json.dumps(admission.patch)


def places_in(value):
    """Return every (parent, key) in a JSON value."""
    found = []
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in children:
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += places_in(inner)
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(pod=pods(), config=st.sampled_from(CONFIGS), data=st.data())
def test_no_injected_pod_raises_whatever_became_of_it(pod, config, data):
    first = admit_pod(pod, "shop", settings=config, facts=MODERN)
    once = copy.deepcopy(apply(pod, first))
    for _ in range(data.draw(st.integers(1, 3))):
        parent, key = data.draw(st.sampled_from(places_in(once)))
        if not isinstance(parent, list) or key < len(parent):
            parent[key] = data.draw(anything)
    admission = admit_pod(once, "shop", settings=config, facts=MODERN)

    json.dumps(admission.patch)


@settings(max_examples=120, deadline=None)
@given(
    pod=st.dictionaries(
        st.sampled_from(["metadata", "spec", "kind"]),
        st.dictionaries(
            st.sampled_from(["annotations", "labels", "containers", "volumes", "initContainers"]),
            anything,
            max_size=5,
        )
        | anything,
    )
)
def test_no_json_object_raises(pod):
    for facts in (MODERN, NOTHING_KNOWN):
        admit_pod(pod, "shop", settings=CONFIGS[1], facts=facts)


def test_a_hundred_thousand_strings_reach_the_sidecar_as_they_are():
    seeded = random.Random(20)
    alphabet = "$$$(()){}\\\"'`ab_ 1/~%é\u2028\U0001f600\n\t"
    environment = {"ab": "REPLACED", "a": "REPLACED", "": "REPLACED"}
    for _ in range(100_000):
        text = "".join(seeded.choices(alphabet, k=seeded.randint(0, 24)))
        value = environment_text({"backends": [], "state_dir": text})

        assert json.loads(expand(value, environment)) == {"backends": [], "state_dir": text}
        assert expand(escaped(text), environment) == text


@settings(max_examples=80, deadline=None)
@given(
    folder=st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/~`\\{}[]*?:"),
        min_size=1,
        max_size=30,
    )
)
def test_a_path_reaches_the_sidecar_and_its_arguments_as_it_is(folder):
    if folder.strip(".") == "" or "$(" in folder or folder != folder.strip():
        return
    path = f"/var/log/{folder}/x/*.log"
    request = json.dumps([f"/var/log/{folder}/*.log", path])
    pod = {
        "metadata": {
            "name": "p",
            "annotations": {PREFIX + "paths": request, PREFIX + "seed": "true"},
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    }
    admission = admit_pod(pod, "shop", settings=CONFIGS[0], facts=MODERN)
    patched = apply(pod, admission)
    shown = [source["shown_as"] for source in document_of(patched)["sources"]]
    seed = next(c for c in containers_of(patched) if c["name"] == "sidetail-seed-1")
    made = next(c for c in containers_of(patched) if c["name"] == "sidetail-init")["command"]

    assert shown == [f"/var/log/{folder}", f"/var/log/{folder}/x"]
    assert expand(seed["command"][2], {"x": "REPLACED"}) == f"/var/log/{folder}"
    assert made[-2] == "--mkdir"
    assert made[-1].endswith("/x")


@given(st.integers(1, 10**18))
def test_a_rendered_quantity_is_the_same_amount(milli):
    amount = milli * 10**6

    assert parse_quantity(render_quantity(amount)) == amount
