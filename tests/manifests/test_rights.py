"""What the accounts may do: just what the code asks for."""

import pytest

from certs.keep import Place
from contract.names import SYSTEM_NAMESPACE
from tests.manifests.objects import FOLDERS, Json, installed, of_kind, rendered
from webhook import facts

Right = tuple[str, str, str, str | None, str | None]
"""Verb, group, resource, name or None for any, namespace or None for everywhere."""

CONFIGURATIONS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


def rights(objects: list[Json], account: str) -> set[Right]:
    """Return every right that the bindings give `account` of the system namespace."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] in {"Role", "ClusterRole"}
    }
    given: set[Right] = set()
    for binding in of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding"):
        subjects = [(one["kind"], one["namespace"], one["name"]) for one in binding["subjects"]]
        if ("ServiceAccount", SYSTEM_NAMESPACE, account) not in subjects:
            continue
        namespace = binding["metadata"].get("namespace")
        reference = binding["roleRef"]
        within = namespace if reference["kind"] == "Role" else None
        for rule in roles[(reference["kind"], within, reference["name"])]:
            given |= {
                (verb, group, resource, name, namespace)
                for verb in rule["verbs"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [None])
            }
    return given


def rights_of_certificates() -> set[Right]:
    place = Place()
    named = {
        (verb, "admissionregistration.k8s.io", resource, place.configurations, None)
        for verb in ("get", "patch")
        for resource in CONFIGURATIONS
    }
    secret = {
        ("get", "", "secrets", place.secret, place.namespace),
        ("update", "", "secrets", place.secret, place.namespace),
        ("create", "", "secrets", None, place.namespace),
    }
    return named | secret


def rights_of_facts() -> set[Right]:
    kinds = (facts._NAMESPACES, facts._LIMIT_RANGES, facts._NODES)
    return {
        (verb, "", kind.path.rpartition("/")[2], None, None)
        for kind in kinds
        for verb in ("list", "watch")
    }


EVENTS: Right = ("create", "", "events", None, None)


def rights_of_missed_pods() -> set[Right]:
    return {(verb, "", "pods", None, None) for verb in ("get", "list", "watch")}


def test_the_webhook_may_do_what_it_does_and_nothing_else() -> None:
    expected = rights_of_certificates() | rights_of_facts() | rights_of_missed_pods() | {EVENTS}

    assert rights(installed(), "sidetail-webhook") == expected


def test_with_cert_manager_it_may_touch_no_secret_and_no_webhook() -> None:
    given = rights(rendered("cert-manager"), "sidetail-webhook")

    assert given == rights_of_facts() | rights_of_missed_pods() | {EVENTS}


def test_in_restricted_the_webhook_may_do_nothing_and_the_other_keeps_the_certificates() -> None:
    objects = rendered("restricted")

    assert rights(objects, "sidetail-webhook") == set()
    assert rights(objects, "sidetail-certificates") == rights_of_certificates()


@pytest.mark.parametrize("folder", [folder.name for folder in FOLDERS])
def test_no_rule_holds_a_star_and_no_account_mounts_a_token_unasked(folder: str) -> None:
    objects = rendered(folder)
    for role in of_kind(objects, "Role") + of_kind(objects, "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["apiGroups"], *rule["resources"]]
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
