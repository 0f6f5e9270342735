"""What the doctor may not see, and how it shows what it sees."""

import json

import pytest

from certs.keep import Place as CertificatePlace
from contract.names import SYSTEM_NAMESPACE
from tests.doctor import examined, named, said
from tests.fakes.healthy import (
    CONFIG,
    DEPLOYMENTS,
    NODES,
    PATHS,
    PODS,
    SECRETS,
    SLICES,
    HealthyCluster,
    deployment,
    endpoint_slice,
    forbidden,
    pod,
)
from tests.fakes.kube_api import refused
from webhook.doctor.checkup import CHECKS
from webhook.doctor.findings import (
    MAX_FINDINGS,
    Level,
    as_json,
    broken,
    odd,
    ok,
    result_of,
    shown,
    summary,
)
from webhook.settings import load_operator_config


@pytest.fixture
def cluster():
    return HealthyCluster()


# --- rights -----------------------------------------------------------------------------------

EVERYTHING = ("/api/v1/", "/apis/")


def test_who_may_look_at_nothing_is_told_so_and_nothing_is_called_broken(cluster):
    cluster.refusal = forbidden(*EVERYTHING)
    cluster.may_create_pods = False
    results = examined(cluster)

    assert [name for name, one in results.items() if one.level is Level.BROKEN] == []
    assert results["api server"].level is Level.OK
    for name in set(results) - {"api server"}:
        assert "not allowed" in shown(results[name]), name
        assert "the doctor failed" not in shown(results[name])


def test_a_developer_sees_what_is_wrong_in_a_namespace_of_his(cluster):
    """No right to anything but what lies in shop."""
    cluster.put(DEPLOYMENTS, deployment("bad", {"sidetail.dev/paths": "/etc/x"}))
    cluster.put(DEPLOYMENTS, deployment("unsure", PATHS | {"sidetail.dev/backend": "other"}))
    cluster.put(PODS, pod("missed", PATHS | {}, owner=None))

    def refuse(verb, path):
        inside = path.startswith("/api/v1/namespaces/shop") or "/namespaces/shop/" in path
        return None if inside or verb == "create" else forbidden(*EVERYTHING)(verb, path)

    cluster.refusal = refuse
    results = examined(cluster, namespace="shop")

    assert [name for name, one in results.items() if one.level is Level.BROKEN] == [
        "workloads",
        "pods",
    ]
    assert "unsure" not in shown(results["workloads"])  # whether it is wrong cannot be known
    assert "forbidden-directory" in shown(results["workloads"])
    assert "cannot be read" in shown(results["secrets"])


def test_which_secret_is_served_is_not_guessed_where_the_deployment_cannot_be_seen(cluster):
    cluster.refusal = forbidden(f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments")
    assert examined(cluster)["certificate"].level is Level.OK
    cluster.remove(SECRETS, f"{SYSTEM_NAMESPACE}/{CertificatePlace().secret}")

    assert examined(cluster)["certificate"].level is Level.UNSEEN


def test_a_config_can_be_given_where_the_clusters_may_not_be_read(cluster):
    cluster.put(DEPLOYMENTS, deployment("sure", PATHS | {"sidetail.dev/backend": "other"}))
    cluster.refusal = forbidden("/api/v1/namespaces/sidetail-system/configmaps")
    config = load_operator_config(json.dumps(CONFIG))

    assert "sure" not in said(cluster, "workloads")
    assert "unknown-backend" in said(cluster, "workloads", config=config)
    assert examined(cluster, config=config)["config"].level is Level.OK


def test_a_fault_of_the_doctors_own_stops_no_other_check(cluster):
    cluster.put(SLICES, endpoint_slice({"ready": True}) | {"endpoints": 5})
    results = examined(cluster)

    assert "the doctor failed: TypeError" in shown(results["endpoints"])
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("status", [404, 429, 500])
def test_other_refusals_are_named(cluster, status):
    cluster.refusal = lambda _verb, path: refused(status) if path == NODES else None

    assert "native sidecars" in named(cluster)


# --- how it is shown --------------------------------------------------------------------------


def test_the_worst_comes_first_and_the_rest_below():
    result = result_of("x", [ok("fine"), odd("strange", "look"), broken("gone", "mend", ["why"])])

    assert shown(result) == (
        "broken  x               gone\n"
        "            why\n"
        "          do: mend\n"
        "        odd: strange\n"
        "          do: look\n"
        "        ok: fine\n"
    )


def test_many_findings_and_many_details_are_counted():
    many = result_of("x", [odd(f"{number}") for number in range(MAX_FINDINGS + 7)])
    long = result_of("x", [odd("x", "", [f"{number}" for number in range(27)])])

    assert "and 7 more" in shown(many)
    assert len(shown(many).splitlines()) == MAX_FINDINGS + 1
    assert "and 7 more" in shown(long)


def test_what_an_author_wrote_cannot_move_the_cursor():
    text = shown(result_of("x", [broken("a\x1b[31m\nb", "c", ["\u202ed"])]))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.splitlines()) == 3


def test_the_last_line_sums_up(cluster):
    assert summary(list(examined(cluster).values())) == "\nno link is broken\n"
    cluster.is_asked = False
    cluster.refusal = forbidden(NODES)
    text = summary(list(examined(cluster).values()))

    assert text == "\nbroken: dry run; not looked at, or not whole: native sidecars\n"


def test_json_says_the_same(cluster):
    cluster.is_asked = False
    document = json.loads(as_json(list(examined(cluster).values())))

    assert document["broken"] is True
    assert [one["name"] for one in document["checks"] if one["level"] == "broken"] == ["dry run"]
    row = next(one for one in document["checks"] if one["name"] == "dry run")["findings"][0]
    assert row["text"]
    assert row["remedy"]
