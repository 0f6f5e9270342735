"""The pods that run the webhook: their flags, ports, rights, and what stops them."""

from pathlib import Path

import pytest
import yaml

from certs.__main__ import _parser
from certs.keep import Place
from contract.names import CONFIG_MAP, SYSTEM_NAMESPACE
from tests.manifests.objects import (
    FOLDERS,
    Json,
    find,
    installed,
    of_kind,
    pod_templates,
    rendered,
    selects,
)
from webhook import server
from webhook.flags import Flags, parse_flags
from webhook.probes import Probes
from webhook.settings import OperatorConfig, load_operator_config

TEMPLATES = [
    (f"{folder.name}: {name}", template)
    for folder in FOLDERS
    for name, template in pod_templates(rendered(folder.name))
]
NAMES = [folder.name for folder in FOLDERS]


def webhook_pod(folder: str) -> Json:
    deployment = find(rendered(folder), "Deployment", "sidetail-webhook")
    return dict(deployment["spec"]["template"]["spec"])


def flags(folder: str) -> Flags:
    (container,) = webhook_pod(folder)["containers"]
    assert container["command"] == ["python", "-m", "webhook"]
    return parse_flags(container["args"])


@pytest.mark.parametrize(("name", "template"), TEMPLATES, ids=[name for name, _ in TEMPLATES])
def test_every_pod_is_restricted_in_full(name: str, template: Json) -> None:
    spec = template["spec"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for volume in spec.get("volumes", []):
        assert {"configMap", "secret"} & set(volume)
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


@pytest.mark.parametrize(("name", "template"), TEMPLATES, ids=[name for name, _ in TEMPLATES])
def test_every_container_says_what_it_needs_and_what_it_may_take(name: str, template: Json) -> None:
    for container in template["spec"]["containers"]:
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_the_namespace_enforces_what_the_pods_keep() -> None:
    labels = find(installed(), "Namespace", SYSTEM_NAMESPACE)["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("folder", NAMES)
def test_the_flags_are_ones_that_the_webhook_takes(folder: str) -> None:
    with_files = folder in {"cert-manager", "restricted"}
    given = flags(folder)

    assert given.config == "/etc/sidetail/config.yaml"
    assert given.standalone is (folder == "restricted")
    assert (given.cert_file is not None) is with_files
    assert (given.bind[1], given.metrics_bind[1]) == (8443, 9090)


@pytest.mark.parametrize("folder", NAMES)
def test_every_file_that_a_flag_names_is_mounted(folder: str) -> None:
    spec, given = webhook_pod(folder), flags(folder)
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    config = volumes[mounts["/etc/sidetail"]["name"]]["configMap"]["name"]

    assert config == CONFIG_MAP
    assert "config.yaml" in find(rendered(folder), "ConfigMap", config)["data"]
    for path in (given.cert_file, given.key_file):
        if path is not None:
            file = Path(path)
            secret = volumes[mounts[str(file.parent)]["name"]]["secret"]
            assert file.name in {item["path"] for item in secret["items"]}
            assert {item["key"] for item in secret["items"]} == {"tls.crt", "tls.key"}
    # A mount of one file (subPath) would never see a change.
    assert all("subPath" not in mount for mount in mounts.values())


@pytest.mark.parametrize("folder", NAMES)
def test_the_probes_ask_what_the_webhook_answers(folder: str) -> None:
    probes = Probes(is_ready=lambda: True, render_metrics=lambda: b"")
    (container,) = webhook_pod(folder)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]

        assert get["path"] in probes._routes
        assert ports[get["port"]] == flags(folder).metrics_bind[1]


@pytest.mark.parametrize("folder", NAMES)
def test_the_service_leads_to_the_pods(folder: str) -> None:
    objects = rendered(folder)
    service = find(objects, "Service", Place().service)
    template = find(objects, "Deployment", "sidetail-webhook")["spec"]["template"]
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    others = [
        other["metadata"]["labels"]
        for name, other in pod_templates(objects)
        if name != "Deployment sidetail-webhook"
    ]

    assert selects({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
    assert not [one for one in others if selects({"matchLabels": service["spec"]["selector"]}, one)]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert {port["port"] for port in service["spec"]["ports"]} == {443, 9090}


@pytest.mark.parametrize("folder", NAMES)
@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "NetworkPolicy"])
def test_budget_and_policy_cover_the_pods(folder: str, kind: str) -> None:
    objects = rendered(folder)
    spec = find(objects, kind, "sidetail-webhook")["spec"]
    template = find(objects, "Deployment", "sidetail-webhook")["spec"]["template"]
    labels = template["metadata"]["labels"]

    assert selects(spec.get("selector") or spec["podSelector"], labels)


def test_nobody_is_cut_off_before_he_has_finished() -> None:
    grace = webhook_pod("base")["terminationGracePeriodSeconds"]

    assert grace > server.DRAIN_SECONDS + server._FINISH_SECONDS


def test_a_rollout_never_leaves_fewer_than_it_found() -> None:
    strategy = find(installed(), "Deployment", "sidetail-webhook")["spec"]["strategy"]

    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_two_replicas_apart_where_that_can_be() -> None:
    deployment = find(installed(), "Deployment", "sidetail-webhook")["spec"]
    affinity = deployment["template"]["spec"]["affinity"]["podAntiAffinity"]

    assert deployment["replicas"] == 2
    assert list(affinity) == ["preferredDuringSchedulingIgnoredDuringExecution"]


def test_three_replicas_apart_always_in_ha_and_a_rollout_that_three_nodes_can_hold() -> None:
    deployment = find(rendered("ha"), "Deployment", "sidetail-webhook")["spec"]
    affinity = deployment["template"]["spec"]["affinity"]["podAntiAffinity"]

    assert deployment["replicas"] == 3
    assert list(affinity) == ["requiredDuringSchedulingIgnoredDuringExecution"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 1


def operator_config(folder: str) -> OperatorConfig:
    text = find(rendered(folder), "ConfigMap", CONFIG_MAP)["data"]["config.yaml"]
    return load_operator_config(text)


@pytest.mark.parametrize("folder", NAMES)
def test_the_operator_config_can_be_used_and_opens_the_metrics_port(folder: str) -> None:
    assert operator_config(folder).defaults.metrics_port == 19095


def test_the_operator_config_writes_out_the_defaults_and_changes_none_but_the_port() -> None:
    text = find(installed(), "ConfigMap", CONFIG_MAP)["data"]["config.yaml"]
    document = yaml.safe_load(text)
    del document["defaults"]["metrics_port"]
    least = {"backends": document["backends"]}

    with_all, without = (load_operator_config(yaml.safe_dump(one)) for one in (document, least))
    assert with_all.requests == without.requests
    assert with_all.limits == without.limits
    assert with_all.guaranteed_cpu == without.guaranteed_cpu
    assert with_all.on_error == without.on_error
    assert with_all.tenant_keys == without.tenant_keys
    assert with_all.image == without.image


def test_in_restricted_the_pods_that_are_reached_hold_no_token_and_no_way_out() -> None:
    objects = rendered("restricted")
    spec = webhook_pod("restricted")
    bound = {
        subject["name"]
        for binding in of_kind(objects, "RoleBinding") + of_kind(objects, "ClusterRoleBinding")
        for subject in binding["subjects"]
    }

    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] not in bound
    assert find(objects, "NetworkPolicy", "sidetail-webhook")["spec"]["egress"] == []


def test_in_restricted_the_certificates_are_kept_by_a_command_that_there_is() -> None:
    spec = find(rendered("restricted"), "Deployment", "sidetail-certificates")["spec"]["template"]
    (container,) = spec["spec"]["containers"]

    assert container["command"] == ["python", "-m", "certs"]
    parsed = _parser({}).parse_args(container["args"])
    assert (parsed.command, parsed.metrics_port) == ("keep", 9090)
    mounted = find(rendered("restricted"), "Deployment", "sidetail-webhook")
    secrets = [
        volume["secret"]["secretName"]
        for volume in mounted["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    ]
    assert secrets == [Place().secret]
