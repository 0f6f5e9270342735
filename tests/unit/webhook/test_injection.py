"""Every row of the table of cases: a pod, what is expected of it, and its golden patch."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.annotations import PREFIX, STATUS
from contract.names import SAFE_TO_EVICT, TOKEN_DIR
from contract.plan import PlanEntry
from contract.reasons import BY_CODE
from tests.injection import (
    PODS,
    Case,
    apply,
    assert_only_added,
    assert_sound,
    container,
    containers_of,
    document_of,
    is_guaranteed,
    load_cases,
    second_injector,
    status_of,
)
from webhook.admission import Admission

CASES = load_cases()
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Rows that are not the webhook's engine, and whose they are.
ELSEWHERE = {
    "S8": "the mirror",
    "S10": "the mirror",
    "S12": "the mirror",
    "L9": "the sidecar",
    "L12": "the sidecar: it has no preStop, which L1 checks",
    "R3": "the service",
    "R11": "the service: /validate",
    "R12": "the service: the patch does not know of dry runs",
    "R15": "test_what_another_injector_damaged_is_repaired",
    "R16": "test_what_another_injector_adds_is_picked_up",
    "R17": "the service",
    "R18": "the service",
    **{f"R{number}": "operations" for number in (36, 37, 38, 39, 40, 41, 43, 44, 45)},
}


def test_every_row_of_the_table_has_a_case():
    table = {
        *(f"V{n}" for n in range(1, 34)),
        *(f"P{n}" for n in range(1, 13)),
        *(f"C{n}" for n in range(1, 10)),
        *(f"I{n}" for n in range(1, 18)),
        *(f"S{n}" for n in range(1, 18)),
        *(f"L{n}" for n in range(1, 15)),
        *(f"R{n}" for n in range(1, 46)),
        *(f"A{n}" for n in range(1, 36)),
    }
    covered = {row for case in CASES for row in case.rows}

    assert table - covered - set(ELSEWHERE) == set()


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]

    assert len(names) == len(set(names))


@each_case
def test_the_outcome_is_the_one_expected(case):
    admission = case.admission
    expect = case.expect

    if "skip" in expect:
        assert (admission.outcome, admission.skip, admission.patch) == ("none", expect["skip"], ())
    elif "denied" in expect:
        assert admission.denied is not None
        assert (admission.denied.code, admission.patch) == (expect["denied"], ())
    else:
        assert (admission.outcome, admission.denied) == (expect["outcome"], None)
        _check_left_out(admission, expect)
    _check_warnings(admission, expect)


def _check_left_out(admission: Admission, expect: dict[str, Any]) -> None:
    shown = [
        f"{row['reason']} {row.get('path', row.get('key', '')).removeprefix(PREFIX)}"
        for row in admission.left_out
    ]
    counts: dict[str, int] = {}
    for row in admission.left_out:
        assert row["reason"] in BY_CODE
        assert row["message"].isprintable()
        assert len(row["message"]) <= 512
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    if "reasons_at_least" in expect:
        assert all(counts[code] >= least for code, least in expect["reasons_at_least"].items())
    elif "reasons" in expect:
        assert counts == expect["reasons"]
    else:
        assert shown == expect.get("left_out", [])


def _check_warnings(admission: Admission, expect: dict[str, Any]) -> None:
    faults = [text for text in admission.warnings if text.endswith(")") and " (" in text]
    others = [text for text in admission.warnings if text not in faults]
    for part in expect.get("warns", []):
        assert any(part in text for text in admission.warnings), admission.warnings
    if expect.get("quiet"):
        assert others == []
    if "warn_count" in expect:
        assert len(admission.warnings) == expect["warn_count"]
    assert all(len(text) <= 256 or admission.denied for text in admission.warnings)


@each_case
def test_the_plan_is_the_one_expected(case):
    if "outcome" not in case.expect:
        return
    patched = case.patched
    status = status_of(patched)
    if case.expect.get("no_status"):
        assert status is None
        return

    assert status is not None
    entries = [_shown(entry) for entry in status["plan"]]
    if "plan" in case.expect:
        assert entries == case.expect["plan"]
    if "plan_count" in case.expect:
        assert len(entries) == case.expect["plan_count"]
    assert status["outcome"] == case.expect["outcome"]
    assert bool(entries) == (status["outcome"] != "skipped")
    assert len(status["left_out"]) <= 64


def _shown(entry: PlanEntry) -> str:
    where = f"{entry['volume']}:{entry['subPath']}"
    start = f"{entry['container']} {entry['stream']} {entry['path']}"
    return f"{start} | {where} | {entry['glob']}"


@each_case
def test_the_pod_looks_as_expected(case):
    expect = case.expect
    admission = case.admission
    pod = case.patched
    if "operations" in expect:
        _check_operations(admission, expect["operations"])
    if "nowhere" in expect:
        said = [admission.warnings, admission.left_out, admission.patch, admission.denied]
        assert expect["nowhere"] not in json.dumps(said, default=str)
    if "outcome" not in expect:
        return
    for name, wanted in (("app", "app"), ("init", "sidetail-init"), ("sidecar", "sidetail")):
        if name in expect:
            _assert_holds(expect[name], container(pod, wanted), name)
    if "seed" in expect:
        _assert_holds(expect["seed"], container(pod, "sidetail-seed-1"), "seed")
    if "volumes" in expect:
        _assert_holds(expect["volumes"], pod["spec"]["volumes"], "volumes")
    _check_lists(pod, expect)
    _check_sidecar(pod, expect)
    _check_document(pod, expect)


def _check_operations(admission: Admission, wanted: dict[str, int]) -> None:
    """Paths that are not named may be there too, but for the lists of those that are."""
    paths = [operation["path"] for operation in admission.patch]
    for path, count in wanted.items():
        assert paths.count(path) == count, paths


def _check_lists(pod: dict[str, Any], expect: dict[str, Any]) -> None:
    spec = pod["spec"]
    inits = [found["name"] for found in spec.get("initContainers") or []]
    checks = {
        "inits": inits,
        "names": [found["name"] for found in spec["containers"]],
        "app_mounts": len(spec["containers"][0].get("volumeMounts") or []),
        "only_volumes": [volume["name"] for volume in spec.get("volumes") or []],
        "pull_secrets": [secret["name"] for secret in spec.get("imagePullSecrets") or []],
        "evictable": pod["metadata"]["annotations"].get(SAFE_TO_EVICT),
        "is_guaranteed": is_guaranteed(pod),
    }
    for key, actual in checks.items():
        if key in expect:
            assert actual == expect[key], key
    if "annotations" in expect:
        added = [
            key
            for key in pod["metadata"]["annotations"]
            if key != STATUS and key.startswith(("cluster-autoscaler", "kubectl"))
        ]
        for key in expect["annotations"]:
            assert key in added
        if not expect["annotations"]:
            assert added == []
    if "status_left_out" in expect:
        status = status_of(pod)
        assert status is not None
        assert len(status["left_out"]) == expect["status_left_out"]
    if "every_one_of_ours_mounts" in expect:
        for found in containers_of(pod):
            if found["name"].startswith("sidetail"):
                mounts = {mount["mountPath"]: mount["name"] for mount in found["volumeMounts"]}
                assert mounts[TOKEN_DIR] == "sidetail-empty"
    if expect.get("no_user_anywhere"):
        ours = [found for found in containers_of(pod) if found["name"].startswith("sidetail")]
        assert all("runAsUser" not in found["securityContext"] for found in ours)
    if "mirrors_below_half_of" in expect:
        commands = [found["command"] for found in containers_of(pod)]
        mirrors = [argv for argv in commands if argv[0].startswith("/sidetail/bin/")]
        sizes = [int(argv[argv.index("--max-bytes") + 1]) for argv in mirrors]
        assert sum(sizes) * 3 < expect["mirrors_below_half_of"] / 2


def _check_sidecar(pod: dict[str, Any], expect: dict[str, Any]) -> None:
    wanted = {"sidecar_user", "sidecar_has_not", "sidecar_selinux", "writable_mounts"}
    if not wanted & set(expect):
        return
    sidecar = container(pod, "sidetail")
    context = sidecar["securityContext"]
    if "sidecar_user" in expect:
        assert context.get("runAsUser") == expect["sidecar_user"]
    if "sidecar_selinux" in expect:
        assert list(context.get("seLinuxOptions", {})) == expect["sidecar_selinux"]
    for key in expect.get("sidecar_has_not", []):
        assert key not in sidecar
    if "writable_mounts" in expect:
        writable = [m["mountPath"] for m in sidecar["volumeMounts"] if not m.get("readOnly")]
        assert writable == expect["writable_mounts"]


def _check_document(pod: dict[str, Any], expect: dict[str, Any]) -> None:
    wanted = {"document", "source", "sources", "source_has_not", "every_source", "document_has_not"}
    if not wanted & set(expect):
        return
    document = document_of(pod)
    _assert_holds(expect.get("document", {}), document, "document")
    _assert_holds(expect.get("source", {}), document["sources"][0], "source")
    for source in document["sources"]:
        _assert_holds(expect.get("every_source", {}), source, "source")
    assert len(document["sources"]) == expect.get("sources", len(document["sources"]))
    for key in expect.get("source_has_not", []):
        assert key not in document["sources"][0]
    for key in expect.get("document_has_not", []):
        assert key not in document


def _assert_holds(wanted: Any, actual: Any, where: str) -> None:
    """Check that `wanted` is a part of `actual`; of lists of objects each has its counterpart."""
    if isinstance(wanted, dict):
        assert isinstance(actual, dict), where
        for key, value in wanted.items():
            assert key in actual, f"{where}.{key}"
            _assert_holds(value, actual[key], f"{where}.{key}")
    elif isinstance(wanted, list) and wanted and isinstance(wanted[0], dict):
        for value in wanted:
            assert any(_holds(value, element) for element in actual), f"{where}: {value}: {actual}"
    else:
        assert actual == wanted, where


def _holds(wanted: Any, actual: Any) -> bool:
    try:
        _assert_holds(wanted, actual, "")
    except AssertionError:
        return False
    return True


@each_case
def test_the_patch_only_adds_and_the_pod_is_sound(case):
    admission, patched = case.admission, case.patched

    assert {operation["op"] for operation in admission.patch} <= {"add"}
    assert_only_added(case.pod, patched)
    if admission.outcome != "none" and not case.expect.get("is_invalid"):
        assert_sound(patched)


@each_case
def test_the_case_is_as_small_as_it_may_be(case):
    size = len(json.dumps(list(case.admission.patch)))
    status = status_of(case.patched)

    assert size <= 48 * 1024
    if status is not None and len(status["plan"]) <= 10:
        assert size <= 16 * 1024


@each_case
def test_a_second_run_changes_nothing(case):
    again = case.admit(case.patched)

    assert again.patch == ()
    if again.denied is None:
        assert again.left_out == case.admission.left_out


@each_case
def test_what_another_injector_damaged_is_repaired(case):
    once = case.patched
    if not any(
        found.get("name") == "sidetail" for found in once["spec"].get("initContainers") or []
    ):
        return
    if case.name.startswith("arrays-container-name") or status_of(once) is None:
        return
    damaged = second_injector(once)
    repaired = apply(damaged, case.admit(damaged))
    sidecar, before = container(repaired, "sidetail"), container(once, "sidetail")

    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == "mirror.test/" + before["image"]
    assert {"name": "INJECTED_BY", "value": "mesh"} in sidecar["env"]
    assert _sorted(sidecar["volumeMounts"]) == _sorted(before["volumeMounts"])
    assert sidecar["securityContext"] == before["securityContext"]
    assert container(repaired, "mesh")
    assert container(repaired, "mesh-init")
    assert case.admit(repaired).patch == ()
    if not case.expect.get("is_invalid"):
        assert_sound(repaired)


each_second_run = pytest.mark.parametrize(
    "case", [case for case in CASES if case.between], ids=lambda case: case.name
)


@each_second_run
def test_what_the_first_run_decided_is_kept_whatever_came_in_between(case):
    before, after = case.patched, case.repaired
    plan = status_of(after)["plan"]
    told = {
        found["name"]: found["command"]
        for found in containers_of(after)
        if found["name"].startswith("sidetail-seed-")
    }
    kept = [entry for entry in status_of(before)["plan"] if entry in plan]

    assert [_shown(entry) for entry in plan] == case.then["plan"]
    assert kept == status_of(before)["plan"] or case.then.get("asks_for_something_else")
    assert {name: " ".join(argv[2:]) for name, argv in told.items()} == case.then.get("seeds", {})
    for name, parts in case.then.get("parts", {}).items():
        mounts = container(after, name)["volumeMounts"]
        assert [mount["subPath"] for mount in mounts if "subPath" in mount] == parts
    if "document_paths" in case.then:
        sources = document_of(after)["sources"]
        assert [source["path"] for source in sources] == case.then["document_paths"]
    if "init" in case.then:
        _assert_holds(case.then["init"], container(after, "sidetail-init"), "init")
    assert_only_added(case.changed, after)
    assert_sound(after)
    assert case.admit(after).patch == ()


def _sorted(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(mounts, key=lambda mount: mount["mountPath"])


@pytest.mark.parametrize("family", sorted({case.name.partition("-")[0] for case in CASES}))
def test_the_golden_file_is_unchanged(family, pytestconfig):
    path = PODS / f"{family}.golden.yaml"
    text = _golden([case for case in CASES if case.name.startswith(f"{family}-")])
    if pytestconfig.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")

    assert path.read_text(encoding="utf-8") == text, "see the diff of `--update-golden`"


def _golden(cases: list[Case]) -> str:
    documents = []
    for case in cases:
        admission = case.admission
        document: dict[str, Any] = {"name": case.name, "outcome": admission.outcome}
        if admission.skip:
            document["skip"] = admission.skip
        if admission.denied:
            document["denied"] = [admission.denied.code, admission.denied.message]
        if not case.is_large:
            document["warnings"] = list(admission.warnings)
            document["left_out"] = [dict(row) for row in admission.left_out]
            document["patch"] = [_readable(operation) for operation in admission.patch]
            if case.between:
                again = case.second_admission
                document["second_patch"] = [_readable(operation) for operation in again.patch]
        documents.append(document)
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes every value out: what is shared in memory is no alias in a file."""

    def ignore_aliases(self, data):
        return True


def _readable(operation: dict[str, Any]) -> dict[str, Any]:
    """Return an operation with the JSON inside of it opened up."""
    value = operation["value"]
    if isinstance(value, str) and value.startswith("{"):
        return operation | {"value": {"json": json.loads(value)}}
    return operation | {"value": _opened(value)}


def _opened(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("name") == "SIDETAIL_CONFIG":
            return value | {"value": {"json": json.loads(value["value"])}}
        return {key: _opened(inner) for key, inner in value.items()}
    return [_opened(inner) for inner in value] if isinstance(value, list) else value


def test_golden_files_are_those_of_the_cases():
    families = {case.name.partition("-")[0] for case in CASES}
    golden = {path.name.partition(".")[0] for path in Path(PODS).glob("*.golden.yaml")}

    assert golden == families
