"""The API server is found as kubectl finds it."""

import base64
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certs.issue import issue_ca, issue_leaf
from certs.system import SystemRandomness
from runtime.kube_access import Access, AccessError, find_access

CA = issue_ca(now=datetime.now(UTC), random=SystemRandomness())
CLIENT = issue_leaf(CA, ["client"], now=datetime.now(UTC), random=SystemRandomness())


def kubeconfig(
    folder: Path, name: str = "config", *, cluster: Any = None, user: Any = None
) -> Path:
    file = folder / name
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {"name": "c", "cluster": cluster or {"server": "https://kube.example:6443"}}
                ],
                "users": [{"name": "u", "user": user or {}}],
            }
        )
    )
    return file


def account(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text("abc\n")
    (folder / "ca.crt").write_bytes(CA.certificate)
    return folder


IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def found(environ: dict[str, str], tmp_path: Path, kubeconfig: Path | None = None) -> Access:
    return find_access(
        kubeconfig=str(kubeconfig) if kubeconfig else None,
        environ=environ,
        home=tmp_path,
        account=tmp_path / "account",
    )


def test_the_flag_comes_before_everything(tmp_path: Path) -> None:
    account(tmp_path / "account")
    flag = kubeconfig(tmp_path, cluster={"server": "https://flag:1"})
    variable = kubeconfig(tmp_path, "other", cluster={"server": "https://variable:1"})

    assert found({"KUBECONFIG": str(variable), **IN_CLUSTER}, tmp_path, flag).host == "flag"


def test_the_variable_comes_before_the_home_and_the_account(tmp_path: Path) -> None:
    account(tmp_path / "account")
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube", cluster={"server": "https://home:1"})
    variable = kubeconfig(tmp_path, cluster={"server": "https://variable:1"})

    assert found({"KUBECONFIG": str(variable), **IN_CLUSTER}, tmp_path).host == "variable"
    assert found(IN_CLUSTER, tmp_path).host == "home"


def test_the_account_is_used_where_there_is_no_kubeconfig(tmp_path: Path) -> None:
    account(tmp_path / "account")
    access = found(IN_CLUSTER, tmp_path)

    assert (access.host, access.port, access.authorization()) == ("10.0.0.1", 443, "Bearer abc")
    assert access.tls is not None
    assert access.tls().verify_mode is ssl.CERT_REQUIRED


def test_the_accounts_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    folder = account(tmp_path / "account")
    access = found(IN_CLUSTER, tmp_path)
    (folder / "token").write_text("renewed")

    assert access.authorization() == "Bearer renewed"


def test_a_token_that_went_away_is_said_without_its_bytes(tmp_path: Path) -> None:
    folder = account(tmp_path / "account")
    access = found(IN_CLUSTER, tmp_path)
    (folder / "token").write_bytes(b"\xff\xfesecret")

    with pytest.raises(AccessError) as caught:
        access.authorization()
    assert "secret" not in str(caught.value)


def test_an_ipv6_account_works(tmp_path: Path) -> None:
    account(tmp_path / "account")

    assert found({**IN_CLUSTER, "KUBERNETES_SERVICE_HOST": "[fd00::1]"}, tmp_path).host == "fd00::1"


@pytest.mark.parametrize("port", ["x", "0", "70000", "٣"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    account(tmp_path / "account")

    with pytest.raises(AccessError, match="PORT"):
        found({**IN_CLUSTER, "KUBERNETES_SERVICE_PORT": port}, tmp_path)


def test_nothing_at_all_is_said_with_what_would_help(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="--kubeconfig, KUBECONFIG"):
        found({}, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "7",
        ": :",
        "{",
        "kind: Config",
        "contexts: 3",
        "\x00",
        "current-context: x",
    ],
)
def test_a_kubeconfig_of_any_wrong_shape_is_one_clear_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)

    with pytest.raises(AccessError, match="expected a usable kubeconfig"):
        found({}, tmp_path, file)


@pytest.mark.parametrize(
    "server", ["ftp://x", "x", "https://", "https://x:port", "https://x:99999"]
)
def test_a_server_that_is_no_url_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(AccessError):
        found({}, tmp_path, kubeconfig(tmp_path, cluster={"server": server}))


def test_a_missing_kubeconfig_is_an_error_and_no_reason_to_look_elsewhere(tmp_path: Path) -> None:
    account(tmp_path / "account")

    with pytest.raises(AccessError, match="missing"):
        found(IN_CLUSTER, tmp_path, tmp_path / "missing")


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"username": "u", "password": "p"}, "Basic " + base64.b64encode(b"u:p").decode()),
        ({}, None),
    ],
)
def test_users_sign_in_by_token_or_password_or_not(
    tmp_path: Path, user: dict[str, str], header: str | None
) -> None:
    assert found({}, tmp_path, kubeconfig(tmp_path, user=user)).authorization() == header


def test_an_exec_plugin_is_asked(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "fresh"},
    }
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }

    assert found({}, tmp_path, kubeconfig(tmp_path, user=user)).authorization() == "Bearer fresh"


def test_certificates_in_the_document_are_used(tmp_path: Path) -> None:
    cluster = {
        "server": "https://kube.example:6443/base/",
        "certificate-authority-data": base64.b64encode(CA.certificate).decode(),
        "tls-server-name": "other.example",
    }
    user = {
        "client-certificate-data": base64.b64encode(CLIENT.certificate).decode(),
        "client-key-data": base64.b64encode(CLIENT.key).decode(),
    }
    access = found({}, tmp_path, kubeconfig(tmp_path, cluster=cluster, user=user))

    assert access.base_path == "/base"
    assert access.server_name == "other.example"
    assert access.tls is not None
    assert len(access.tls().get_ca_certs()) == 1


def test_a_client_key_that_is_garbage_is_said_when_it_is_used(tmp_path: Path) -> None:
    user = {
        "client-certificate-data": base64.b64encode(CLIENT.certificate).decode(),
        "client-key-data": base64.b64encode(b"garbage").decode(),
    }
    access = found({}, tmp_path, kubeconfig(tmp_path, user=user))

    assert access.tls is not None
    with pytest.raises(AccessError, match="expected PEM files"):
        access.tls()


def test_verification_is_left_out_only_where_the_kubeconfig_says_so(tmp_path: Path) -> None:
    cluster = {"server": "https://kube.example", "insecure-skip-tls-verify": True}
    access = found({}, tmp_path, kubeconfig(tmp_path, cluster=cluster))

    assert access.tls is not None
    assert access.tls().verify_mode is ssl.CERT_NONE
    assert access.port == 443


def test_plain_http_has_no_tls(tmp_path: Path) -> None:
    access = found({}, tmp_path, kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:8001"}))

    assert access.tls is None


def test_a_proxy_of_the_kubeconfig_is_used(tmp_path: Path) -> None:
    cluster = {"server": "https://kube.example", "proxy-url": "http://proxy.example:3128"}

    access = found({}, tmp_path, kubeconfig(tmp_path, cluster=cluster))
    assert access.proxy == ("proxy.example", 3128)


def test_a_proxy_that_we_cannot_speak_to_is_refused(tmp_path: Path) -> None:
    cluster = {"server": "https://kube.example", "proxy-url": "socks5://proxy.example:1080"}

    with pytest.raises(AccessError, match="socks5"):
        found({}, tmp_path, kubeconfig(tmp_path, cluster=cluster))


@pytest.mark.parametrize(
    ("exempt", "proxy"),
    [
        ("", ("proxy.example", 3128)),
        ("kube.example", None),
        (".example", None),
        ("example", None),
        ("*", None),
        ("ube.example, 10.0.0.0/8", ("proxy.example", 3128)),
    ],
)
def test_a_proxy_of_the_environment_is_used_unless_the_server_is_exempt(
    tmp_path: Path,
    exempt: str,
    proxy: tuple[str, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exempt)
    monkeypatch.setenv("no_proxy", exempt)

    assert found({}, tmp_path, kubeconfig(tmp_path, user={"token": "t"})).proxy == proxy


def test_another_context_than_the_current_one_can_be_named(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path)
    document = json.loads(file.read_text())
    document["contexts"].append({"name": "there", "context": {"cluster": "d", "user": "u"}})
    document["clusters"].append({"name": "d", "cluster": {"server": "https://other.example"}})
    file.write_text(json.dumps(document))

    def host(context: str | None) -> str:
        return find_access(kubeconfig=str(file), environ={}, context=context).host

    assert host(None) == "kube.example"
    assert host("there") == "other.example"
    with pytest.raises(AccessError, match="expected one with context 'nowhere'"):
        host("nowhere")


def test_a_context_without_a_kubeconfig_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="context 'x': got no kubeconfig"):
        find_access(
            kubeconfig=None,
            environ=IN_CLUSTER,
            context="x",
            home=tmp_path,
            account=account(tmp_path / "account"),
        )
