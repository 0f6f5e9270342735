"""The review of a pod template: what the person who applies a workload is told."""

import pytest

from contract.annotations import INJECT_LABEL, PREFIX
from contract.reasons import BY_CODE
from tests.injection import MODERN, settings_with
from webhook.cluster import NOTHING_KNOWN, ClusterFacts, Namespace
from webhook.template import review_template

APP = {"name": "app", "image": "app:1", "command": ["/bin/app"]}


def template(app=None, spec=None, labels=None, **asked):
    return {
        "metadata": {
            "annotations": {PREFIX + key.replace("_", "-"): value for key, value in asked.items()},
            "labels": labels or {},
        },
        "spec": {"containers": [APP | (app or {})]} | (spec or {}),
    }


def review(made, kind="Deployment", *, facts=MODERN, settings=None, **more):
    return review_template(
        made, "shop", kind=kind, settings=settings or settings_with(), facts=facts, **more
    )


def test_a_template_in_order_is_not_spoken_of():
    assert review(template(paths="/var/log/app/*.log", stdout="mirror")) == []


def test_a_template_that_asks_for_nothing_is_not_spoken_of():
    assert review(template()) == []


def test_bad_annotations_are_said_with_their_reason():
    found = review(template(paths="/etc/x.log,ap:/x/y.log", backend="man", stdot="mirror"))

    assert [one.reason for one in found] == [
        "unknown-backend",
        *["unknown-backend"] * 2,
        None,
    ]
    assert "did you mean sidetail.dev/stdout?" in found[-1].text
    assert all(not one.denies for one in found)


def test_hidden_content_is_said_outside_of_the_usual_directories():
    (found,) = review(template(paths="/srv/logs/*.log"))

    assert found.reason is None
    assert "hides what the image has there" in found.text


def test_jobs_are_told_where_native_sidecars_are_not_to_be_had():
    (found,) = review(
        template(stdout="mirror", spec={"restartPolicy": "Never"}), "Job", facts=NOTHING_KNOWN
    )

    assert found.reason == "job-needs-native"
    assert not found.denies


@pytest.mark.parametrize("on_error", ["skip", "deny"])
def test_only_what_the_author_can_mend_denies(on_error):
    settings = settings_with(on_error=on_error)
    made = template(
        app={"command": None}, paths="/etc/x.log,/var/log/../x", stdout="mirror", format="xml"
    )
    found = review(made, settings=settings)

    assert {one.reason: one.denies for one in found} == {
        "bad-value": on_error == "deny",
        "bad-path": on_error == "deny",
        "forbidden-directory": on_error == "deny",
        "no-command": False,
    }


CLAIM = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "d"}}]}
DATA = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}


@pytest.mark.parametrize(
    ("replicas", "said"), [(1, None), (3, "each of 3 pods ships"), (None, "each pod that shares")]
)
def test_replicas_that_share_a_claim_are_told(replicas, said):
    found = review(template(app=DATA, spec=CLAIM, paths="/data/*.log"), replicas=replicas)

    assert [said in one.text for one in found] == ([True] if said else [])


def test_a_claim_made_from_a_template_is_the_pods_own():
    made = template(app=DATA, paths="/data/*.log")

    assert review(made, "StatefulSet", claims=["data"], replicas=3) == []


def test_a_template_outside_of_labelled_namespaces_is_looked_at_if_it_asks():
    facts = ClusterFacts(30, 30, namespaces={"shop": Namespace()})

    assert [one.reason for one in review(template(paths="/etc/x"), facts=facts)] == [
        "forbidden-directory"
    ]
    assert review(template(), facts=facts) == []


def test_a_namespace_that_asks_for_its_pods_counts():
    shared = Namespace({INJECT_LABEL: "enabled"}, {PREFIX + "stdout": "mirror"})
    facts = ClusterFacts(30, 30, namespaces={"shop": shared})
    settings = settings_with(on_error="deny")
    found = review(template(app={"command": None}), facts=facts, settings=settings)

    assert [(one.reason, one.denies) for one in found] == [("no-command", False)]


@pytest.mark.parametrize("made", [None, 5, [], {}, {"spec": None}, {"spec": {"containers": 1}}])
def test_what_is_no_template_is_left_to_the_api_server(made):
    assert review(made) == []


def test_windows_is_said_once():
    (found,) = review(template(stdout="mirror", spec={"os": {"name": "windows"}}))

    assert "Windows" in found.text


def test_reasons_are_a_closed_list():
    assert len(BY_CODE) < 40
    for code, reason in BY_CODE.items():
        assert code == reason.code
        assert code.replace("-", "").isalnum()
        assert code == code.lower()
        assert reason.sentence.endswith(".")
        assert reason.remedy.endswith(".")
