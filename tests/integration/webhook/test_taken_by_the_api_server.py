"""Injected pods before a real API server: what it takes without us, it takes with us.

Every case's pod by dry run; then in namespaces that ask for more: Pod Security `restricted`, a
ResourceQuota, LimitRanges.
"""

import copy
import itertools
import json
import secrets

import pytest

from contract.annotations import INJECT_LABEL, PREFIX
from contract.names import TOKEN_DIR
from runtime.kube import StatusError
from tests.injection import apply, containers_of, is_guaranteed, load_cases, settings_with
from tests.kube import ApiServer, api_server  # noqa: F401 - a fixture
from tests.sidecar_process import eventually
from webhook.cluster import ClusterFacts, Namespace
from webhook.mutate import admit_pod

pytestmark = [pytest.mark.kube, pytest.mark.timeout(300)]

NAMESPACES = "/api/v1/namespaces"
CASES = [case for case in load_cases() if case.expect.get("outcome") in {"injected", "partial"}]
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
FIGURES = {"cpu": "100m", "memory": "64Mi"}
ASKED = {
    PREFIX + "paths": "/var/log/app/*.log,/var/log/app/audit/*.log,/data/logs/**/*.log",
    PREFIX + "stdout": "mirror",
    PREFIX + "seed": "true",
    PREFIX + "backend": "main,audit",
    PREFIX + "metrics-port": "19095",
}


@pytest.fixture
def place(api_server: ApiServer):  # noqa: F811
    """A namespace, and the way to make it stricter."""
    name = f"taken-{secrets.token_hex(3)}"
    api_server.api.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    api_server.kubectl("delete", "namespace", name, "--wait=false", check=False)


def refusal(server: ApiServer, namespace: str, pod) -> str:
    """Return what the API server has against the pod; empty if it takes it."""
    pod = {"apiVersion": "v1", "kind": "Pod"} | copy.deepcopy(pod)
    pod.setdefault("metadata", {})["namespace"] = namespace
    pod["metadata"].pop("resourceVersion", None)
    strict = {"dryRun": "All", "fieldValidation": "Strict"}
    try:
        server.api.create(f"{NAMESPACES}/{namespace}/pods", pod, strict)
    except StatusError as error:
        return str(error)
    return ""


def pod_with(*, native=True, qos="burstable", spec=None, context=None, volumes=()):
    resources = {
        "burstable": {"requests": FIGURES, "limits": FIGURES | {"cpu": "1"}},
        "guaranteed": {"requests": FIGURES, "limits": FIGURES},
        "best-effort": {},
    }[qos]
    app = {
        "name": "app",
        "image": "app:1",
        "command": ["/bin/app"],
        "resources": resources,
        "securityContext": context if context is not None else RESTRICTED,
    }
    return {
        "metadata": {
            "name": "p",
            "annotations": ASKED | {PREFIX + "native": str(native).lower()},
        },
        "spec": {"containers": [app], "volumes": list(volumes)} | (spec or {}),
    }


def injected(pod, namespace, *, limit_range=(), **settings):
    facts = ClusterFacts(
        api_server_minor=30,
        oldest_kubelet_minor=30,
        namespaces={namespace: Namespace({INJECT_LABEL: "enabled"})},
        limit_ranges={namespace: tuple(limit_range)},
    )
    admission = admit_pod(pod, namespace, settings=settings_with(**settings), facts=facts)
    assert admission.outcome == "injected", admission.left_out
    return apply(pod, admission)


def test_what_it_takes_without_us_it_takes_with_us(api_server, place):  # noqa: F811
    taken = 0
    refused = {}
    for case in CASES:
        if refusal(api_server, place, case.pod):
            continue  # the case is about a pod that the API server refuses
        taken += 1
        for after in (case.patched, case.repaired):
            said = refusal(api_server, place, after)
            if said:
                refused[case.name] = said

    assert refused == {}
    assert taken > len(CASES) * 0.8


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_pod_security_takes_it(api_server, place, level):  # noqa: F811
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}
    api_server.kubectl("patch", "namespace", place, "--patch", json.dumps(label))
    for native, qos in itertools.product((True, False), ("burstable", "guaranteed", "best-effort")):
        pod = pod_with(native=native, qos=qos)
        after = injected(pod, place)

        assert refusal(api_server, place, pod) == ""
        assert refusal(api_server, place, after) == ""
        assert is_guaranteed(after) == is_guaranteed(pod)


def test_pod_security_takes_it_in_a_pod_whose_own_context_says_nothing(api_server, place):  # noqa: F811
    """What the pod says for all its containers, ours have to say for themselves."""
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    api_server.kubectl("patch", "namespace", place, "--patch", json.dumps(label))
    for context in ({"runAsUser": 1000}, {"seLinuxOptions": {"level": "s0:c1,c2"}}):
        pod = pod_with(context=RESTRICTED | context)

        assert refusal(api_server, place, injected(pod, place)) == ""


def test_a_quota_takes_it(api_server, place):  # noqa: F811
    hard = {f"{kind}.{name}": "10" for kind in ("requests", "limits") for name in ("cpu",)}
    hard |= {"requests.memory": "10Gi", "limits.memory": "10Gi", "pods": "10"}
    quotas = f"{NAMESPACES}/{place}/resourcequotas"
    api_server.api.create(quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    # Its controller, which is not here, would count what there is: nothing.
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    api_server.api.patch(f"{quotas}/q/status", [{"op": "add", "path": "/status", "value": status}])
    bare = pod_with(qos="best-effort")
    eventually(lambda: "must specify" in refusal(api_server, place, bare), "the quota")

    assert refusal(api_server, place, injected(pod_with(), place)) == ""


@pytest.mark.parametrize(
    "items",
    [
        [{"type": "Container", "min": {"cpu": "50m", "memory": "100Mi"}}],
        [{"type": "Container", "max": {"cpu": "200m", "memory": "100Mi"}}],
        [{"type": "Container", "maxLimitRequestRatio": {"cpu": "3", "memory": "2"}}],
        [{"type": "Container", "min": {"memory": "300Mi"}, "max": {"memory": "400Mi"}}],
        [{"type": "Pod", "max": {"cpu": "1100m", "memory": "150Mi"}}],
        [{"type": "Pod", "maxLimitRequestRatio": {"cpu": "2"}}],
        [
            {"type": "Container", "min": {"cpu": "20m"}, "max": {"cpu": "1"}},
            {"type": "Pod", "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}},
        ],
    ],
    ids=lambda items: json.dumps(items)[:60],
)
def test_limit_ranges_take_it(api_server, place, items):  # noqa: F811
    limits = {"metadata": {"name": "l"}, "spec": {"limits": items}}
    api_server.api.create(f"{NAMESPACES}/{place}/limitranges", limits)
    figures = {
        "requests": {"cpu": "500m", "memory": "50Mi"},
        "limits": {"cpu": "1", "memory": "64Mi"},
    }
    if any(item.get("min", {}).get("memory") for item in items):
        figures = {kind: one | {"memory": "320Mi"} for kind, one in figures.items()}
    if any(item.get("max", {}).get("cpu") == "200m" for item in items):
        figures = {kind: one | {"cpu": "200m"} for kind, one in figures.items()}
    pod = pod_with()
    pod["spec"]["containers"][0]["resources"] = figures
    huge = pod_with()
    huge["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "1m", "memory": "1Mi"},
        "limits": {"cpu": "63", "memory": "60Gi"},
    }
    eventually(lambda: "forbidden" in refusal(api_server, place, huge), "the LimitRange")

    assert refusal(api_server, place, pod) == ""
    assert refusal(api_server, place, injected(pod, place, limit_range=items)) == ""


def test_the_token_of_a_service_account_finds_its_place_taken(api_server, place):  # noqa: F811
    """The API server mounts the token where a container has nothing there; ours have."""
    source = {"serviceAccountToken": {"path": "token"}}
    token = {"name": "kube-api-access-x", "projected": {"sources": [source]}}
    pod = pod_with(volumes=[token], spec={"serviceAccountName": "default"})
    after = injected(pod, place)
    ours = [found for found in containers_of(after) if found["name"].startswith("sidetail")]
    taken = [mount["name"] for found in ours for mount in found["volumeMounts"] if is_token(mount)]

    assert refusal(api_server, place, after) == ""
    assert taken == ["sidetail-empty"] * len(ours)


def is_token(mount) -> bool:
    return bool(mount["mountPath"] == TOKEN_DIR)
