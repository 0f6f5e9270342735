"""Canaries: secrets that reach the backend, and nothing else that anybody can look at."""

import base64
import os
from functools import partial
from pathlib import Path

import pytest

from tests.fakes import backend as fake
from tests.fakes.backend import Backend, Request
from tests.fakes.forward import ForwardServer
from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.sidecar_process import Scrape, Sidecar, eventually

CANARIES = {
    "token": "canary-token-3b1f",
    "username": "canary-user-77aa",
    "password": "canary-pass-90cc",
    "api-key": "canary-key-5d5d",
}


def _traces(folder: Path, sidecar: Sidecar) -> bytes:
    """Return everything that others may see of the process."""
    pieces = [sidecar.stderr, sidecar.stdout, sidecar.get("/metrics")[1]]
    pieces += [path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file()]
    for name in ("cmdline", "environ", "comm", "status"):
        try:
            pieces.append(Path(f"/proc/{sidecar.pid}/{name}").read_bytes())
        except PermissionError:  # not dumpable: not even its own user sees it
            assert os.geteuid() != 0
    return b"\n".join(pieces)


def _secrets() -> list[bytes]:
    pair = f"{CANARIES['username']}:{CANARIES['password']}".encode()
    return [*(text.encode() for text in CANARIES.values()), base64.b64encode(pair)]


def _lay(folder: Path, *names: str) -> dict[str, str]:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(CANARIES[name] + "\n")
    return {"dir": str(folder)}


@pytest.mark.parametrize("status", [200, 401, 400, 503])
def test_secrets_reach_the_backend_and_nothing_else(scene: Scene, status: int, tmp_path: Path):
    scene.write("a.log", 30)

    def answer(request: Request) -> fake.Answer:
        # A server that says back what it was told: not a word of it may come out.
        heard = "; ".join(value for _, value in request.headers)
        body = b'{"errors":false,"items":[],"heard":"%s"}' % heard.encode()
        return fake.status(status, ("X-Heard", heard), body=body)

    with Backend() as server:
        server.answers(answer)
        basic = _lay(tmp_path / "basic", "username", "password", "api-key")
        bearer = _lay(tmp_path / "bearer", "token")
        rows = [
            {"name": f"{kind}-{name}", "type": kind, "url": server.url, "credentials": secret}
            for kind in ("http", "loki", "elasticsearch", "otlp")
            for name, secret in (("basic", basic), ("bearer", bearer))
        ]
        sidecar = scene.sidecar(*rows, log_level="debug").start()
        sidecar.wait_for_metric(lambda scrape: len(scrape.backends()) == len(rows))
        eventually(lambda: len(server.requests) >= 2 * len(rows))
        traces = _traces(scene.folder, sidecar)
        heard = "\n".join(value for one in server.requests for _, value in one.headers)

    for secret in _secrets():
        assert secret not in traces
    assert CANARIES["token"] in heard
    assert CANARIES["api-key"] in heard
    assert _secrets()[-1].decode() in heard


def test_a_shared_key_and_a_password_are_proved_and_never_sent(scene: Scene, tmp_path: Path):
    scene.write("a.log", 30)
    secret = _lay(tmp_path / "s", "token", "username", "password")
    users = {CANARIES["username"]: CANARIES["password"]}
    with (
        ForwardServer(shared_key=CANARIES["token"], users=users) as good,
        ForwardServer(shared_key="another") as bad,
    ):
        sidecar = scene.sidecar(
            {"name": "good", "type": "forward", "url": good.url, "credentials": secret},
            {"name": "bad", "type": "forward", "url": bad.url, "credentials": secret},
            log_level="debug",
        ).start()
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total", backend="good") == 30
        )
        eventually(lambda: sidecar.said("a backend is held", "credentials_refused"))
        traces = _traces(scene.folder, sidecar)

    for text in _secrets():
        assert text not in traces
    assert bad.offered == []


def _has_failed(backend: str, scrape: Scrape) -> bool:
    return scrape.total("sidetail_retries_total", backend=backend) > 0


def test_keys_of_certificates_and_sasl_passwords_are_seen_nowhere(
    scene: Scene, trust: Trust, tmp_path: Path
):
    pytest.importorskip("kafka", reason="the extra kafka is not installed")
    scene.write("a.log", 30)
    secret = trust.client_secret(tmp_path / "s")
    key = (tmp_path / "s" / "tls.key").read_text().splitlines()[1]
    for name in ("username", "password"):
        (tmp_path / "s" / name).write_text(CANARIES[name])
    with ForwardServer() as silent:
        rows = [
            {"name": "syslog", "type": "syslog", "url": f"tls://127.0.0.1:{silent.server.port}"},
            {"name": "kafka", "type": "kafka", "url": f"tls://127.0.0.1:{silent.server.port}"},
        ]
        rows = [{**row, "credentials": {"dir": secret}} for row in rows]  # type: ignore[dict-item] # a document
        sidecar = scene.sidecar(*rows, log_level="debug").start()
        for name in ("syslog", "kafka"):
            sidecar.wait_for_metric(partial(_has_failed, name))
        traces = _traces(scene.folder, sidecar)

    assert key.encode() not in traces
    for text in _secrets():
        assert text not in traces


def test_a_wrong_configuration_is_told_without_its_url(scene: Scene):
    sidecar = scene.sidecar(
        {"type": "http", "url": f"http://{CANARIES['username']}:{CANARIES['password']}@h/"},
        {"type": "loki", "url": f"http://h/?key={CANARIES['api-key']}#x"},
    )

    assert sidecar.run() == 2

    for text in _secrets():
        assert text not in sidecar.stderr
