"""Pods as large as an API server lets through: answered soon, with a patch of bounded size.

No time is a gate here: the limits only catch what would never end.
"""

import json
import time

import pytest

from contract.annotations import PREFIX
from tests.injection import MODERN, apply, containers_of, settings_with, status_of
from webhook.cluster import ClusterFacts, Namespace
from webhook.mutate import admit_pod

PATIENCE = 10.0


def pod_with(asked, *, spec=None, **app):
    container = {"name": "app", "image": "app:1", "command": ["/bin/app"]} | app
    annotations = {PREFIX + key: value for key, value in asked.items()}
    return {
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [container]} | (spec or {}),
    }


def many_mounts(count):
    return [{"name": "v", "mountPath": f"/data/{n}", "subPath": str(n)} for n in range(count)]


DEEP = ",".join(f"/data/**/{n}*.log" for n in range(32))
PODS = {
    "many-environment-variables": pod_with(
        {"paths": "/logs/*.log"},
        env=[{"name": f"N{n}", "value": "x" * 2300} for n in range(1000)],
    ),
    "many-paths": pod_with({"paths": ",".join(f"/l/{n}/*.log" for n in range(10_000))}),
    "many-bad-paths": pod_with({"paths": json.dumps(["../x" * 200] * 300)}),
    "many-mounts": pod_with(
        {"paths": DEEP},
        volumeMounts=many_mounts(5000),
        spec={"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    "many-containers": pod_with(
        {"stdout": "all", "paths": "/logs/*.log"},
        spec={
            "containers": [
                {"name": f"c{n}", "image": "c:1", "command": ["/bin/c"]} for n in range(10_000)
            ]
        },
    ),
    "long-commands": pod_with({"stdout": "mirror"}, command=["/bin/app", *["x" * 100] * 10_000]),
    "long-values": pod_with(
        dict.fromkeys(("stdout", "backend", "keep", "fields", "format", "native"), "x" * 250000)
    ),
    "long-lists": pod_with(
        dict.fromkeys(("stdout", "backend", "redact", "fields", "exclude"), "a," * 120000)
        | {"command": json.dumps({f"c{n}": ["x"] for n in range(10_000)})}
    ),
    "many-odd-keys": pod_with({f"path{n}": "x" for n in range(5000)} | {"stdout": "mirror"}),
    "long-expression": pod_with(
        {"paths": "/logs/*.log"},
        env=[{"name": f"N{n}", "value": f"$(N{n - 1})$(N{n - 1})"} for n in range(1, 2000)]
        + [{"name": "N0", "value": "x"}],
        volumeMounts=[{"name": "v", "mountPath": "/logs", "subPathExpr": "$(N1999)"}],
        spec={"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    "deep-unknown-fields": pod_with(
        {"paths": "/logs/*.log"}, future=json.loads("[" * 400 + "]" * 400)
    ),
}


@pytest.mark.parametrize("name", PODS)
@pytest.mark.parametrize("collector", ["sidecar", "node"])
def test_a_hostile_pod_is_answered(name, collector):
    pod = PODS[name]
    settings = settings_with(defaults={"collector": collector})
    facts = ClusterFacts(30, 30, namespaces={"shop": Namespace({"sidetail.dev/inject": "enabled"})})
    began = time.perf_counter()
    admission = admit_pod(pod, "shop", settings=settings, facts=facts)

    assert time.perf_counter() - began < PATIENCE
    assert admission.outcome != "none"
    assert len(json.dumps(list(admission.patch))) <= 48 * 1024
    again = admit_pod(apply(pod, admission), "shop", settings=settings, facts=facts)
    assert again.patch == ()


TEN = [f"/var/log/checkout/component-{n}/*.log" for n in range(10)]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/checkout:2026.11.21-abcdef0123"


@pytest.mark.parametrize(
    "asked",
    [
        {"paths": ",".join(TEN)},
        {"paths": ",".join(TEN), "stdout": "mirror"},
        {"paths": ",".join(TEN), "seed": "true"},
        {"paths": ",".join(TEN), "seed": "true", "stdout": "mirror", "backend": "main,audit"},
        {
            "paths": json.dumps(
                [{"path": path, "format": "json", "fields": {"part": path[-6:]}} for path in TEN]
            ),
            "seed": "true",
            "keep": "ERROR|WARN",
        },
    ],
    ids=["plain", "stdout", "seeded", "everything", "objects"],
)
def test_ten_paths_take_at_most_16_kib_with_their_status_in_full(asked):
    settings = settings_with(defaults={"metrics_port": 19095}, image_pull_secret="registry")
    pod = pod_with(asked, image=IMAGE)
    admission = admit_pod(pod, "checkout-production", settings=settings, facts=MODERN)
    status = status_of(apply(pod, admission))

    assert len(json.dumps(list(admission.patch))) <= 16 * 1024
    assert status is not None
    assert (status["outcome"], len(status["plan"])) == ("injected", 10 + ("stdout" in asked))


def test_few_seeded_directories_have_a_container_each_and_many_share_one():
    few = pod_with({"paths": ",".join(TEN[:4]), "seed": "true"})
    paths = [*TEN[:5], "two:/logs/$a/*.log"]
    two = {"name": "two", "image": "two:1", "securityContext": {"runAsUser": 7}}
    many = pod_with({"paths": ",".join(paths), "seed": "true"})
    many["spec"]["containers"].append(two)

    assert [name for name, _ in seeds(few)] == [f"sidetail-seed-{n}" for n in range(1, 5)]
    (_, first), (_, second) = seeds(many)
    assert (first["image"], second["image"]) == ("app:1", "two:1")
    assert second["command"][1:] == ["--seed", "/logs/$$a", "/sidetail/seed"]
    assert second["securityContext"]["runAsUser"] == 7
    mounted = {mount["mountPath"]: mount.get("subPath") for mount in first["volumeMounts"]}
    pairs = first["command"][2:]
    assert first["command"][1] == "--seed"
    assert pairs[::2] == [path.removesuffix("/*.log") for path in TEN[:5]]
    assert [mounted[target] for target in pairs[1::2]] == [
        "app/" + path.removesuffix("/*.log")[1:].replace("/", "-") for path in TEN[:5]
    ]


def seeds(pod):
    patched = apply(pod, admit_pod(pod, "shop", settings=settings_with(), facts=MODERN))
    return [
        (found["name"], found)
        for found in containers_of(patched)
        if found["name"].startswith("sidetail-seed-")
    ]


def test_everything_at_once_stays_within_the_bounds():
    """32 long paths, long regexes, many fields, bad ones beside them."""
    fields = ",".join(f"k{n}={'v' * 63}" for n in range(32))
    paths = [f"/var/log/{'a' * 200}{n}/{'b' * 200}/*.log" for n in range(31)]
    asked = {
        "paths": json.dumps([*paths, "../x"]),
        "keep": "k" * 4000,
        "drop": "d" * 4000,
        "fields": fields,
        "multiline": "/" + "m" * 4000 + "/",
        "stdout": "mirror",
        "seed": "true",
    }
    admission = admit_pod(pod_with(asked), "shop", settings=settings_with(), facts=MODERN)

    assert admission.outcome == "partial"
    assert len(json.dumps(list(admission.patch))) <= 48 * 1024
    assert {row["reason"] for row in admission.left_out} == {"bad-path", "too-large"}
