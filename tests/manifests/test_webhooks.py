"""Who is asked: the selectors hold the table of the design, for every combination."""

import itertools

import pytest

from certs.ca_bundle import OUR_ENTRIES
from certs.keep import Place
from contract.annotations import INJECT_LABEL, PREFIX
from contract.names import EXCLUDED_NAMESPACES, SYSTEM_NAMESPACE
from tests.manifests.objects import FOLDERS, Json, find, installed, of_kind, rendered, selects

MUTATING, VALIDATING = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
NAMESPACES = ["shop", *sorted(EXCLUDED_NAMESPACES)]
NAMESPACE_LABELS = [None, "enabled", "disabled", "true", "Enabled", ""]
POD_LABELS = [None, "true", "false", "yes", "True", ""]


def entries(kind: str) -> list[Json]:
    return list(find(installed(), kind, "sidetail")["webhooks"])


def asked(namespace: str, namespace_label: str | None, pod_label: str | None) -> list[str]:
    """Return the names of the mutating webhooks that are called for a pod."""
    namespace_labels = {"kubernetes.io/metadata.name": namespace}
    if namespace_label is not None:
        namespace_labels[INJECT_LABEL] = namespace_label
    pod_labels = {"app": "x"} if pod_label is None else {INJECT_LABEL: pod_label}
    return [
        entry["name"]
        for entry in entries(MUTATING)
        if selects(entry["namespaceSelector"], namespace_labels)
        and selects(entry["objectSelector"], pod_labels)
    ]


@pytest.mark.parametrize(
    ("namespace", "namespace_label", "pod_label"),
    list(itertools.product(NAMESPACES, NAMESPACE_LABELS, POD_LABELS)),
)
def test_the_truth_table(
    namespace: str, namespace_label: str | None, pod_label: str | None
) -> None:
    wanted = pod_label != "false" if namespace_label == "enabled" else pod_label == "true"
    expected = wanted and namespace not in EXCLUDED_NAMESPACES

    assert len(asked(namespace, namespace_label, pod_label)) == int(expected)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_workloads_are_looked_at_in_every_namespace_but_the_systems(namespace: str) -> None:
    (entry,) = entries(VALIDATING)
    labels = {"kubernetes.io/metadata.name": namespace}

    assert selects(entry["namespaceSelector"], labels) == (namespace not in EXCLUDED_NAMESPACES)
    assert "objectSelector" not in entry


def test_pods_are_changed_when_they_are_created_and_never_after() -> None:
    for entry in entries(MUTATING):
        assert entry["rules"] == [
            {
                "operations": ["CREATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ]
        assert entry["reinvocationPolicy"] == "IfNeeded"
        assert entry["clientConfig"]["service"]["path"] == "/mutate"


def test_the_six_kinds_of_workload_are_looked_at_when_created_and_updated() -> None:
    (entry,) = entries(VALIDATING)
    rules = {
        (group, resource)
        for rule in entry["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        if rule["operations"] == ["CREATE", "UPDATE"] and rule["apiVersions"] == ["v1"]
    }

    assert rules == {
        ("apps", "deployments"),
        ("apps", "statefulsets"),
        ("apps", "daemonsets"),
        ("apps", "replicasets"),
        ("batch", "jobs"),
        ("batch", "cronjobs"),
    }
    assert entry["clientConfig"]["service"]["path"] == "/validate"


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_a_webhook_that_does_not_answer_holds_nobody_up_for_long(kind: str) -> None:
    for entry in entries(kind):
        assert entry["failurePolicy"] == "Ignore"
        assert entry["timeoutSeconds"] == 5
        assert entry["sideEffects"] == "NoneOnDryRun"
        assert entry["matchPolicy"] == "Equivalent"
        assert entry["admissionReviewVersions"] == ["v1"]


def test_fail_closed_holds_pods_and_nothing_else() -> None:
    objects = rendered("fail-closed")

    assert {e["failurePolicy"] for e in find(objects, MUTATING, "sidetail")["webhooks"]} == {"Fail"}
    (entry,) = find(objects, VALIDATING, "sidetail")["webhooks"]
    assert entry["failurePolicy"] == "Ignore"


@pytest.mark.parametrize("folder", [folder.name for folder in FOLDERS])
@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_names_are_those_that_the_certificates_are_kept_for(folder: str, kind: str) -> None:
    place = Place()
    configuration = find(rendered(folder), kind, place.configurations)

    for entry in configuration["webhooks"]:
        service = entry["clientConfig"]["service"]
        assert entry["name"].endswith(OUR_ENTRIES)
        assert (service["name"], service["namespace"]) == (place.service, place.namespace)
        assert place.namespace == SYSTEM_NAMESPACE


def test_no_match_condition_looks_at_an_annotation_of_ours() -> None:
    objects = rendered("match")
    conditions = [
        condition["expression"]
        for kind in (MUTATING, VALIDATING)
        for entry in find(objects, kind, "sidetail")["webhooks"]
        for condition in entry["matchConditions"]
    ]

    assert len(conditions) == 4
    assert not [one for one in conditions if PREFIX in one or "annotations" in one]


def test_the_base_has_no_match_conditions_which_an_old_api_server_would_drop() -> None:
    assert all("matchConditions" not in entry for entry in entries(MUTATING) + entries(VALIDATING))
    assert not of_kind(installed(), "ValidatingAdmissionPolicy")
