"""Which pods were missed: the truth table, seen after the fact."""

import json

import jsonpatch
import pytest

from tests.webhook_process import CONFIG
from webhook.cluster import ClusterFacts, Namespace
from webhook.missed import is_missed, may_be_missed, workload_of
from webhook.mutate import admit_pod
from webhook.settings import load_operator_config

ENABLED = Namespace(labels={"sidetail.dev/inject": "enabled"})
ASKING = Namespace(
    labels={"sidetail.dev/inject": "enabled"}, annotations={"sidetail.dev/stdout": "mirror"}
)
PLAIN = Namespace()
PATHS = {"sidetail.dev/paths": "/var/log/app.log"}


def pod(annotations=None, labels=None, *, spec=None, **metadata):
    return {
        "metadata": {
            "name": "p",
            "namespace": "shop",
            "uid": "u",
            "annotations": annotations,
            "labels": labels,
            **metadata,
        },
        "spec": {"containers": [{"name": "app", "image": "app:1", "command": ["/app"]}]}
        | (spec or {}),
    }


def label(value):
    return {"sidetail.dev/inject": value}


@pytest.mark.parametrize(
    ("namespace", "found", "missed"),
    [
        (ENABLED, pod(PATHS), True),
        (ENABLED, pod(PATHS, label("true")), True),
        (ENABLED, pod(PATHS, label("yes")), True),
        (ENABLED, pod(PATHS, label("false")), False),
        (ENABLED, pod(), False),
        (ENABLED, pod({"sidetail.dev/path": "/x"}), False),
        (ASKING, pod(), True),
        (ASKING, pod(labels=label("false")), False),
        (PLAIN, pod(PATHS), False),
        (PLAIN, pod(PATHS, label("true")), True),
        (PLAIN, pod(labels=label("true")), True),
        (None, pod(PATHS), False),
        (None, pod(PATHS, label("true")), True),
        (ENABLED, pod(PATHS | {"sidetail.dev/status": "{}"}), False),
        (ENABLED, pod(PATHS, deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (ENABLED, pod(PATHS | {"kubernetes.io/config.mirror": "x"}), False),
        (ENABLED, pod(PATHS, namespace="kube-system"), False),
        (ENABLED, {"metadata": {"name": "p", "annotations": ["odd"]}, "spec": 5}, False),
    ],
)
def test_a_pod_that_asks_and_bears_no_sign_of_us_was_missed(namespace, found, missed):
    assert is_missed(found, namespace) is missed
    assert may_be_missed(found["metadata"], namespace) is missed


def test_windows_stands_in_the_spec():
    found = pod(PATHS, spec={"os": {"name": "windows"}})

    assert may_be_missed(found["metadata"], ENABLED)
    assert not is_missed(found, ENABLED)


@pytest.mark.parametrize("namespace", [ENABLED, ASKING])
@pytest.mark.parametrize("annotations", [PATHS, {"sidetail.dev/paths": "/etc/passwd"}])
def test_what_an_admission_gave_back_was_not_missed(namespace, annotations):
    config = load_operator_config(json.dumps(CONFIG))
    facts = ClusterFacts(30, 30, namespaces={"shop": namespace})
    asked = pod(annotations)
    admitted = jsonpatch.apply_patch(
        asked, list(admit_pod(asked, "shop", settings=config, facts=facts).patch)
    )
    assert is_missed(asked, namespace)
    assert not is_missed(admitted, namespace)

    # As where the annotations have no room for a status.
    del admitted["metadata"]["annotations"]["sidetail.dev/status"]
    has_sidecar = annotations == PATHS or namespace is ASKING
    assert is_missed(admitted, namespace) is not has_sidecar


def test_the_workload_is_the_owner_that_controls():
    owners = [
        {"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "1"},
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "r",
            "uid": "2",
            "controller": True,
        },
    ]

    assert workload_of(pod(ownerReferences=owners)["metadata"]).uid == "2"
    assert workload_of(pod()["metadata"]).kind == "Pod"
    assert workload_of(pod()["metadata"]).uid == "u"
