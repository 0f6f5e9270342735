"""`--client-ca`: only clients with a certificate of the operator's CA are answered."""

import base64
import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.certificates import Authority
from tests.kube import ApiServer, kube_binaries
from tests.sidecar_process import eventually
from tests.webhook_process import (
    CA,
    Webhook,
    client_context,
    new_leaf,
    raw_post,
    replace_file,
    review_of,
    running,
)

OPERATOR = Authority("the operator's CA")
STRANGER = Authority("another CA")
REQUEST = raw_post(json.dumps(review_of()).encode())


def context_of(folder: Path, authority: Authority | None) -> ssl.SSLContext:
    context = client_context()
    if authority is not None:
        client = authority.issue("api-server", client=True)
        file = folder / "client.pem"
        file.write_bytes(client.certificate + client.key)
        context.load_cert_chain(file)
    return context


def answer_to(webhook: Webhook, context: ssl.SSLContext) -> bytes:
    """Return what a request is answered; nothing where the client is not let in."""
    received = b""
    with contextlib.suppress(OSError), webhook.connect(context) as connection:
        connection.sendall(REQUEST)
        while piece := connection.recv(65536):
            received += piece
            if b"\r\n\r\n" in received:
                break
    return received


@pytest.fixture
def client_ca(tmp_path: Path) -> Path:
    file = tmp_path / "client-ca.pem"
    file.write_bytes(OPERATOR.certificate)
    return file


@pytest.fixture
def webhook(tmp_path: Path, client_ca: Path) -> Iterator[Webhook]:
    with running(tmp_path, flags=["--client-ca", str(client_ca)]) as process:
        yield process


def test_t17_only_clients_with_a_certificate_of_the_ca_are_answered(
    webhook: Webhook, tmp_path: Path
) -> None:
    assert answer_to(webhook, context_of(tmp_path, None)) == b""
    assert answer_to(webhook, context_of(tmp_path, STRANGER)) == b""
    assert answer_to(webhook, context_of(tmp_path, OPERATOR)).startswith(b"HTTP/1.1 200")
    assert webhook.probe("/readyz").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_t17_a_remembered_session_opens_no_door(
    webhook: Webhook, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    known = context_of(tmp_path, OPERATOR)
    known.maximum_version = version
    with webhook.connect(known) as connection:
        connection.sendall(REQUEST)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        session = connection.session
    plain = webhook.connect_tcp()
    with contextlib.closing(
        known.wrap_socket(plain, server_hostname="localhost", session=session)
    ) as again:
        again.sendall(REQUEST)
        assert again.recv(65536).startswith(b"HTTP/1.1 200")  # the same client may come back
    stranger = context_of(tmp_path, None)
    stranger.maximum_version = version
    assert answer_to(webhook, stranger) == b""


def test_a_new_client_ca_and_a_new_pair_are_taken_and_a_bad_one_is_not(
    webhook: Webhook, client_ca: Path, tmp_path: Path
) -> None:
    old, new = context_of(tmp_path, OPERATOR), context_of(tmp_path, STRANGER)
    replace_file(client_ca, b"no certificate")
    eventually(
        lambda: webhook.said("the client CA cannot be used; the last good one stays in force"),
        "the bad file is said",
    )
    assert answer_to(webhook, old).startswith(b"HTTP/1.1 200")

    replace_file(client_ca, STRANGER.certificate)
    eventually(lambda: webhook.said("the client CA was taken"), "the new CA is taken")
    assert answer_to(webhook, old) == b""
    assert answer_to(webhook, new).startswith(b"HTTP/1.1 200")

    before = len(webhook.said("a serving certificate is in force"))
    webhook.put_pair(new_leaf())
    eventually(
        lambda: len(webhook.said("a serving certificate is in force")) > before, "the new pair"
    )
    assert answer_to(webhook, old) == b""
    assert answer_to(webhook, new).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff"])
def test_a_start_with_a_client_ca_that_cannot_be_used_ends_with_2(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    webhook = Webhook(tmp_path, flags=["--client-ca", str(file)])
    webhook.launch()
    try:
        assert webhook.wait() == 2
        assert b"--client-ca" in b"".join(webhook.not_json)
    finally:
        webhook.end()


@pytest.mark.kube
@pytest.mark.timeout(300)
def test_a_real_api_server_shows_the_certificate_of_its_admission_configuration(
    webhook: Webhook, tmp_path: Path
) -> None:
    binaries = kube_binaries()
    if binaries is None:
        pytest.skip("no etcd, kube-apiserver and kubectl in $KUBEBUILDER_ASSETS")
    folder = tmp_path / "kube"
    folder.mkdir()
    server = ApiServer(
        binaries,
        folder,
        flags=["--admission-control-config-file", str(_admission(folder, webhook.port))],
    )
    try:
        server.start()
        server.kubectl("apply", "-f", "-", stdin=json.dumps(_registration(webhook.port)))
        server.kubectl("create", "namespace", "shop")

        def injected() -> bool:
            made = server.kubectl(
                "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(POD)
            )
            return "sidetail.dev/status" in json.loads(made.stdout)["metadata"]["annotations"]

        eventually(injected, "the registration is in force")
    finally:
        server.stop()


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "annotations": {"sidetail.dev/paths": "/var/log/web/*.log"},
        "labels": {"sidetail.dev/inject": "enabled"},
    },
    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
}


def _admission(folder: Path, port: int) -> Path:
    """Write the API server's admission configuration; return its path."""
    client = OPERATOR.issue("api-server", client=True)
    (folder / "client.crt").write_bytes(client.certificate)
    (folder / "client.key").write_bytes(client.key)
    user = {
        "client-certificate": str(folder / "client.crt"),
        "client-key": str(folder / "client.key"),
    }
    kubeconfig = folder / "webhooks.kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "users": [{"name": f"localhost:{port}", "user": user}],
            }
        )
    )
    file = folder / "admission.json"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "AdmissionConfiguration",
                "plugins": [
                    {
                        "name": "MutatingAdmissionWebhook",
                        "configuration": {
                            "apiVersion": "apiserver.config.k8s.io/v1",
                            "kind": "WebhookAdmissionConfiguration",
                            "kubeConfigFile": str(kubeconfig),
                        },
                    }
                ],
            }
        )
    )
    return file


def _registration(port: int) -> dict[str, object]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "sidetail"},
        "webhooks": [
            {
                "name": "pods.sidetail.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "url": f"https://localhost:{port}/mutate",
                    "caBundle": base64.b64encode(CA.certificate).decode(),
                },
                "rules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            }
        ],
    }
