import copy
import json
from dataclasses import replace

import pytest

from tests.webhook_process import review_of
from webhook.cluster import ClusterFacts, Namespace
from webhook.request import parse_review
from webhook.settings import DEFAULT_CONFIG, load_operator_config
from webhook.validate import WORKLOADS, validate_workload

DENY = load_operator_config(
    json.dumps(
        {"on_error": "deny", "backends": [{"name": "main", "type": "stdout"}], "tenant_keys": "*"}
    )
)
GOOD = {"sidetail.dev/paths": "/var/log/orders/*.log"}
BAD = {"sidetail.dev/paths": "var/log"}
ENABLED = ClusterFacts(
    api_server_minor=31,
    oldest_kubelet_minor=31,
    namespaces={"shop": Namespace(labels={"sidetail.dev/inject": "enabled"})},
)
UNLABELLED = ClusterFacts(
    api_server_minor=31, oldest_kubelet_minor=31, namespaces={"shop": Namespace()}
)
KINDS = {
    "Deployment": ("apps", "deployments"),
    "StatefulSet": ("apps", "statefulsets"),
    "DaemonSet": ("apps", "daemonsets"),
    "ReplicaSet": ("apps", "replicasets"),
    "Job": ("batch", "jobs"),
    "CronJob": ("batch", "cronjobs"),
}


def workload(kind="Deployment", annotations=None, labels=None, **metadata):
    template = {
        "metadata": {"annotations": GOOD if annotations is None else annotations},
        "spec": {"containers": [{"name": "app", "image": "orders:1", "command": ["/orders"]}]},
    }
    if labels is not None:
        template["metadata"]["labels"] = labels
    if kind in ("Job", "CronJob"):
        template["spec"]["restartPolicy"] = "Never"
    spec = {"template": copy.deepcopy(template)}
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    group, _ = KINDS.get(kind, ("apps", ""))
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": "orders", "namespace": "shop", **metadata},
        "spec": spec,
    }


def judge(document, *, kind="Deployment", settings=DEFAULT_CONFIG, facts=ENABLED, **request):
    group, plural = KINDS[kind]
    review = review_of(
        document,
        kind={"group": group, "version": "v1", "kind": kind},
        resource={"group": group, "version": "v1", "resource": plural},
        **request,
    )
    body = bytearray(json.dumps(review).encode())
    parsed = parse_review(body, content_type="application/json")
    return validate_workload(parsed, settings=settings, facts=facts)


def test_the_table_has_the_six_kinds():
    assert {kind: at for at, (kind, _) in WORKLOADS.items()} == KINDS


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_template_is_admitted_without_a_word(kind, operation):
    verdict = judge(workload(kind), kind=kind, operation=operation)

    assert verdict is not None
    assert (verdict.warnings, verdict.denied) == ((), None)


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_annotation_of_the_template_is_a_warning(kind, operation):
    verdict = judge(workload(kind, BAD), kind=kind, operation=operation)

    assert verdict.denied is None
    assert any("bad-path" in warning for warning in verdict.warnings)
    assert verdict.reason == "bad-path"


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_on_error_deny_it_is_a_denial_of_the_workload(kind, operation):
    verdict = judge(workload(kind, BAD), kind=kind, operation=operation, settings=DENY)

    assert verdict.denied.code == 400
    assert "sidetail.dev/paths" in verdict.denied.message or "var/log" in verdict.denied.message


def test_a_workload_that_another_controls_costs_nothing():
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "y"}
    controlled = workload("ReplicaSet", BAD, ownerReferences=[owner | {"controller": True}])
    merely_owned = workload("ReplicaSet", BAD, ownerReferences=[owner])

    assert judge(controlled, kind="ReplicaSet", settings=DENY) is None
    assert judge(merely_owned, kind="ReplicaSet", settings=DENY).denied


def test_a_workload_that_is_being_deleted_is_never_denied():
    """A denial would keep the finalizer that its controller wants to remove."""
    document = workload(annotations=BAD, deletionTimestamp="2026-01-01T00:00:00Z")

    assert judge(document, operation="UPDATE", settings=DENY) is None


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT"},
        {"subResource": "scale"},
        {"subResource": "status"},
        {"namespace": "kube-system"},
        {"namespace": "sidetail-system"},
        {"object": None},
        {"object": {"metadata": None}},
    ],
)
def test_what_is_no_workload_to_look_at_is_none_of_ours(request_):
    assert judge(workload(annotations=BAD), settings=DENY, **request_) is None


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_on_the_workload_instead_of_its_template_are_found(kind):
    where = "jobTemplate.spec.template" if kind == "CronJob" else "spec.template"
    verdict = judge(_misplaced(kind), kind=kind)

    (warning,) = verdict.warnings
    assert "sidetail.dev/paths" in warning
    assert f"{where}.metadata.annotations" in warning
    assert len(warning) <= 256
    assert verdict.denied is None


def _misplaced(kind):
    document = workload(kind, {})
    document["metadata"]["annotations"] = GOOD
    return document


@pytest.mark.parametrize("section", ["annotations", "labels"])
def test_keys_on_the_job_template_of_a_cron_job_are_found(section):
    document = workload("CronJob", {})
    document["spec"]["jobTemplate"]["metadata"] = {section: {"sidetail.dev/inject": "true"}}
    (warning,) = judge(document, kind="CronJob").warnings

    assert f"{section} of the jobTemplate do nothing" in warning
    assert f"spec.jobTemplate.spec.template.metadata.{section}" in warning


def test_many_misplaced_keys_are_one_short_warning():
    document = workload(annotations={})
    document["metadata"]["annotations"] = {f"sidetail.dev/{'x' * 63}{n}": "y" for n in range(50)}
    (warning,) = judge(document).warnings

    assert len(warning) <= 400


def test_a_label_on_the_workload_instead_of_its_template_is_found():
    document = workload(annotations={})
    document["metadata"]["labels"] = {"sidetail.dev/inject": "true", "app": "orders"}
    (warning,) = judge(document).warnings

    assert "sidetail.dev/inject" in warning
    assert "labels" in warning


def test_a_template_that_asks_in_a_namespace_without_the_label_is_told_so_and_never_denied():
    verdict = judge(workload(annotations=BAD), facts=UNLABELLED, settings=DENY)

    assert verdict.denied is None
    assert any("lacks the label" in warning for warning in verdict.warnings)


def test_the_pods_own_label_makes_up_for_the_namespaces():
    verdict = judge(workload(labels={"sidetail.dev/inject": "true"}), facts=UNLABELLED)

    assert verdict.warnings == ()


def test_with_the_pods_own_label_a_bad_annotation_denies_in_any_namespace():
    document = workload(annotations=BAD, labels={"sidetail.dev/inject": "true"})

    assert judge(document, facts=UNLABELLED, settings=DENY).denied


@pytest.mark.parametrize("facts", [ENABLED, UNLABELLED])
def test_a_template_that_says_no_is_left_in_peace(facts):
    document = workload(annotations=BAD, labels={"sidetail.dev/inject": "false"})
    verdict = judge(document, facts=facts, settings=DENY)

    assert (verdict.warnings, verdict.denied) == ((), None)


def test_a_template_that_asks_for_nothing_is_left_in_peace_in_any_namespace():
    assert judge(workload(annotations={}), facts=UNLABELLED).warnings == ()
    assert judge(workload(annotations={}), facts=ENABLED).warnings == ()


@pytest.mark.parametrize("facts", [ClusterFacts(), ClusterFacts(namespaces={})])
def test_where_the_namespace_is_not_known_nothing_is_said_of_its_labels(facts):
    assert not any("label" in warning for warning in judge(workload(), facts=facts).warnings)


def test_a_status_that_was_copied_from_a_pod_does_no_harm():
    verdict = judge(workload(annotations=GOOD | {"sidetail.dev/status": "{}"}), settings=DENY)

    assert (verdict.denied, verdict.warnings) == (None, ())


def test_a_status_alone_asks_for_nothing_in_a_namespace_without_the_label():
    verdict = judge(workload(annotations={"sidetail.dev/status": "{}"}), facts=UNLABELLED)

    assert verdict.warnings == ()


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_a_job_where_native_sidecars_are_not_to_be_had_is_a_warning_and_never_a_denial(kind):
    old = ClusterFacts(api_server_minor=28, oldest_kubelet_minor=28, namespaces=ENABLED.namespaces)
    verdict = judge(workload(kind), kind=kind, facts=old, settings=DENY)

    assert verdict.denied is None
    assert verdict.reason == "job-needs-native"


def test_an_unknown_backend_is_found():
    verdict = judge(workload(annotations=GOOD | {"sidetail.dev/backend": "nowhere"}))

    assert verdict.reason == "unknown-backend"


def test_a_new_volume_that_hides_what_the_image_has_is_a_warning():
    verdict = judge(workload(annotations={"sidetail.dev/paths": "/opt/orders/log/*.log"}))

    assert any("/opt/orders/log" in warning for warning in verdict.warnings)
    assert verdict.denied is None


def test_a_key_that_is_not_allowed_is_forbidden():
    closed = replace(DENY, tenant_keys=frozenset({"sidetail.dev/paths"}))
    document = workload(annotations=GOOD | {"sidetail.dev/stdout": "mirror"})

    assert judge(document, settings=closed).denied.code == 403


def test_claim_templates_are_known_volumes():
    document = workload("StatefulSet", {"sidetail.dev/paths": "/data/log/*.log"})
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    document["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]

    assert judge(document, kind="StatefulSet").warnings == ()


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"template": 5}, {"template": None}])
@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_any_shape_of_a_spec_is_survived(kind, value):
    document = workload(kind)
    document["spec"] = value
    for claims in (None, "x", [None], [{"metadata": 5}]):
        if isinstance(value, dict):
            document["spec"] = value | {"volumeClaimTemplates": claims, "replicas": "many"}
        assert judge(document, kind=kind, settings=DENY).denied is None


@pytest.mark.parametrize("section", ["annotations", "labels", "ownerReferences"])
@pytest.mark.parametrize("value", [None, 1, "x", [], [None], {"sidetail.dev/paths": 5}])
def test_any_shape_of_metadata_is_survived(section, value):
    document = workload()
    document["metadata"][section] = value
    document["spec"]["template"]["metadata"][section] = value

    assert judge(document, settings=DENY) is not None
