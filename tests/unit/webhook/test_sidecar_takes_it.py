"""What the webhook writes, the sidecar reads: every configuration, and one dialect of globs."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.annotations import PREFIX
from runtime.settings import ValueProblem
from sidecar.glob import GlobError, compile_exclude, compile_path
from sidecar.settings import read_settings
from tests.injection import (
    MODERN,
    apply,
    container,
    containers_of,
    expand,
    load_cases,
    settings_with,
)
from webhook.globs import check_glob, path_matches
from webhook.mutate import admit_pod

CASES = [
    case
    for case in load_cases()
    if any(
        found.get("name") == "sidetail" and "env" in found for found in containers_of(case.patched)
    )
]
POD = {"POD_NAME": "p-1", "POD_NAMESPACE": "shop", "POD_UID": "u-1", "NODE_NAME": "n-1"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_sidecar_has_nothing_against_its_configuration(case):
    rows = {row["name"]: row.get("value") for row in container(case.patched, "sidetail")["env"]}
    environment = POD | {name: value for name, value in rows.items() if isinstance(value, str)}
    read, problems = read_settings(expand(rows["SIDETAIL_CONFIG"], environment), environment)
    mounts = [mount["mountPath"] for mount in container(case.patched, "sidetail")["volumeMounts"]]

    assert problems == []
    assert read.sources
    assert read.state_dir in mounts
    for source in read.sources:
        base, globs = compile_path(source.path)
        assert globs
        assert any(base == path or base.startswith(path + "/") for path in mounts)
        assert source.attributes["k8s.namespace.name"] == case.namespace
        assert source.attributes["k8s.pod.uid"] == "u-1"
        compile_exclude(source.exclude)
    for backend in read.backends:
        assert backend.credentials_dir is None or backend.credentials_dir in mounts
    assert len(set(mounts)) == len(mounts)
    assert not [p for p in mounts for q in mounts if p != q and p.startswith(q + "/")]


def test_what_many_sources_share_is_said_once_and_means_the_same():
    def attributes(count):
        paths = [f"/logs/{number}/*.log" for number in range(count)] + ["two:/l/*.log"]
        pod = {
            "metadata": {"annotations": {PREFIX + "paths": ",".join(paths)}},
            "spec": {
                "containers": [{"name": "app", "image": "a:1"}, {"name": "two", "image": "b:2"}]
            },
        }
        admission = admit_pod(pod, "shop", settings=settings_with(), facts=MODERN)
        rows = {
            row["name"]: row.get("value")
            for row in container(apply(pod, admission), "sidetail")["env"]
        }
        read, _ = read_settings(rows["SIDETAIL_CONFIG"], POD | rows)
        sources = json.loads(rows["SIDETAIL_CONFIG"])["sources"]
        said = [len(source.get("attributes", {})) for source in sources]
        return {source.container: source.attributes for source in read.sources}, sum(said)

    (few, said_by_few), (many, said_by_many) = attributes(1), attributes(9)

    assert few == many
    assert said_by_many / 10 < said_by_few / 2


segments = st.text(alphabet="ab.*?[]!-", min_size=1, max_size=5) | st.just("**")
names = st.text(alphabet="ab.-", min_size=1, max_size=3).filter(lambda name: name.strip("."))


def accepted_by_the_sidecar(pattern):
    try:
        return compile_path(pattern)[1]
    except GlobError:
        return None


@settings(max_examples=500, deadline=None)
@given(
    pattern=st.lists(segments, min_size=1, max_size=4),
    path=st.lists(names, min_size=1, max_size=4),
)
def test_both_sides_read_a_glob_alike(pattern, path):
    text = "/" + "/".join(pattern)
    if pattern[-1] == "**" or {".", ".."} & set(pattern):
        return  # the list of paths completes the one and refuses the others
    try:
        check_glob(text)
    except ValueProblem:
        return
    (glob,) = accepted_by_the_sidecar(text) or (None,)
    assert glob is not None, "the webhook takes what the sidecar refuses"
    fixed = [part for part in glob.folder.split("/") if part]
    inside = path[len(fixed) :]
    found = False
    if path[: len(fixed)] == fixed and inside:
        states = glob.start()
        for folder in inside[:-1]:
            states = glob.enter(states, folder)
        found = glob.matches(states, inside[-1])

    assert path_matches(pattern, path) == found


def test_the_defaults_of_the_webhook_are_those_that_the_sidecar_is_told():
    case = next(case for case in CASES if case.name == "where-no-mount")
    rows = {row["name"]: row.get("value") for row in container(case.patched, "sidetail")["env"]}
    (source,) = json.loads(rows["SIDETAIL_CONFIG"])["sources"]

    assert source["exclude"] == ["*.gz", "*.zip", "*.bz2", "*.xz", "*.zst"]
    assert "format" not in source
    assert "multiline" not in source
