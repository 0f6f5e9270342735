"""`python -m certs` on a real API server, with the rights that overlay `restricted` gives it."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from certs.keep import Place
from contract.names import SYSTEM_NAMESPACE
from manifests.build import HERE
from runtime.kube import StatusError
from tests.installation import (
    MUTATING,
    SECRETS,
    VALIDATING,
    Cluster,
    a_pod,
    operator_config,
    remove_all,
)
from tests.kube import ApiServer, api_server, wait_for, whole_cluster
from tests.manifests.objects import rendered
from tests.webhook_process import Webhook

__all__ = ["api_server", "whole_cluster"]

pytestmark = [pytest.mark.kube, pytest.mark.timeout(600)]

ROOT = HERE.parent
SECRET = f"{SECRETS}/{Place().secret}"


@pytest.fixture
def cluster(whole_cluster: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    """Overlay `restricted`, of which no process runs yet."""
    objects = rendered("restricted")
    whole_cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))
    made = Cluster(whole_cluster, tmp_path)
    try:
        yield made
    finally:
        made.end_replicas()
        remove_all(whole_cluster, objects)


def command(cluster: Cluster, *arguments: str) -> list[str]:
    account = cluster.server.account_kubeconfig(SYSTEM_NAMESPACE, "sidetail-certificates")
    return [sys.executable, "-m", "certs", "--kubeconfig", str(account), *arguments]


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(cluster, *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def bundles(cluster: Cluster) -> set[bytes]:
    return {
        base64.b64decode(entry["clientConfig"].get("caBundle", ""))
        for path in (MUTATING, VALIDATING)
        for entry in cluster.api.get(path)["webhooks"]
    }


def secret(cluster: Cluster) -> dict[str, bytes]:
    try:
        data = cluster.api.get(SECRET)["data"]
    except StatusError:
        return {}
    return {key: base64.b64decode(value) for key, value in data.items()}


def wipe(cluster: Cluster) -> None:
    for path in (MUTATING, VALIDATING):
        entries = cluster.api.get(path)["webhooks"]
        cluster.api.patch(
            path,
            [
                {"op": "replace", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": ""}
                for index in range(len(entries))
            ],
        )


def test_once_is_enough_and_a_second_time_there_is_nothing_to_do(cluster: Cluster) -> None:
    first = run(cluster)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert bundles(cluster) == {secret(cluster)["ca.crt"]}

    before = cluster.api.get(SECRET), cluster.api.get(MUTATING)
    assert run(cluster).returncode == 0
    assert (cluster.api.get(SECRET), cluster.api.get(MUTATING)) == before


def test_what_it_cannot_do_in_time_is_said_in_one_line_with_status_1(cluster: Cluster) -> None:
    cluster.server.kubectl("-n", SYSTEM_NAMESPACE, "delete", "role", "sidetail-certificates")
    done = run(cluster, "--timeout", "2")

    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("python -m certs: the Secret cannot be read or written: ")
    assert "403 Forbidden" in line


@pytest.fixture
def kept(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m certs keep`, and its metrics port as the attribute `args[-1]`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        command(cluster, "keep", "--metrics-port", str(port)),
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    try:
        wait_for(lambda: status(port, "/readyz") == 200)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)


def port_of(process: subprocess.Popen[bytes]) -> int:
    assert isinstance(process.args, list)
    return int(str(process.args[-1]))


def ask(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def status(port: int, path: str) -> int:
    try:
        ask(port, path)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return 0
    return 200


def test_kept_a_wiped_bundle_is_repaired_and_sigterm_ends_it(
    cluster: Cluster, kept: subprocess.Popen[bytes]
) -> None:
    wait_for(lambda: bundles(cluster) == {secret(cluster).get("ca.crt")})
    wipe(cluster)
    wiped_at = time.monotonic()
    wait_for(lambda: bundles(cluster) == {secret(cluster)["ca.crt"]})

    assert time.monotonic() - wiped_at <= 30
    assert status(port_of(kept), "/livez") == 200
    wait_for(lambda: "sidetail_ca_bundle_in_sync 1.0" in ask(port_of(kept), "/metrics"))
    repairs = re.search(
        r"^sidetail_ca_bundle_repairs_total (\S+)", ask(port_of(kept), "/metrics"), re.MULTILINE
    )
    assert repairs is not None
    assert float(repairs[1]) >= 1
    kept.send_signal(signal.SIGTERM)
    assert kept.wait(30) == 0


def test_a_webhook_without_any_right_serves_what_another_keeps(
    cluster: Cluster, kept: subprocess.Popen[bytes]
) -> None:
    wait_for(lambda: bundles(cluster) == {secret(cluster).get("ca.crt")})
    config = operator_config()
    webhook = Webhook(cluster.new_folder(), config=config)
    # As the kubelet mounts them.
    webhook.cert_file.write_bytes(secret(cluster)["tls.crt"])
    webhook.key_file.write_bytes(secret(cluster)["tls.key"])
    cluster.add(webhook)
    name = cluster.namespace({"sidetail.dev/inject": "enabled"})

    def has_sidecar() -> bool:
        pod = cluster.create(name, a_pod())
        return "sidetail" in {one["name"] for one in pod["spec"]["containers"]}

    wait_for(has_sidecar)  # an ordinary one, as no version is known here
    assert kept.poll() is None
