"""A real Fluent Bit: forward with acknowledgements, gzip, a shared key, users and TLS."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.servers.programs import program, running, version
from tests.sidecar_process import eventually, free_port

CONFIG = """
[SERVICE]
    flush 0.2
    grace 3
    log_level warn
[INPUT]
    name forward
    listen 127.0.0.1
    port {port}
    buffer_chunk_size 1M
    buffer_max_size 8M
{options}
[OUTPUT]
    name file
    match *
    path {folder}
    file stored
    format plain
"""

SECURITY = {
    "plain": "",
    "key": "    shared_key s3cret\n    self_hostname server\n",
    "user": "    shared_key s3cret\n    self_hostname server\n    security.users ada pw\n",
    "tls": (
        "    tls on\n    tls.verify off\n    tls.crt_file {trust}/server.crt\n"
        "    tls.key_file {trust}/server.key\n"
    ),
}


def _row(how: str, port: int, folder: Path, trust: Trust) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "forward", "url": f"forward://127.0.0.1:{port}"}
    if how in ("key", "user"):
        folder.mkdir()
        for name, text in {"token": "s3cret", "username": "ada", "password": "pw"}.items():
            (folder / name).write_text(text)
        row["credentials"] = {"dir": str(folder)}
    if how == "tls":
        row |= {"url": f"tls://127.0.0.1:{port}", "credentials": {"dir": trust.secret(folder)}}
    return row


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("how", list(SECURITY))
def test_lines_written_are_events_stored(
    how: str, compression: str, scene: Scene, trust: Trust, tmp_path: Path
):
    found = program("fluent-bit", "FLUENT_BIT")
    port = free_port()
    folder = tmp_path / "server"
    folder.mkdir()
    options = SECURITY[how].format(trust=trust.folder)
    (folder / "fluent-bit.conf").write_text(
        CONFIG.format(port=port, folder=folder, options=options)
    )
    written = {name: scene.write(name, 5000) for name in ("a.log", "b.log")}
    row = _row(how, port, tmp_path / "secret", trust) | {"compression": compression}

    with running([found, "-c", str(folder / "fluent-bit.conf")], folder, ports=(port,)):
        scene.ship(row)
        stored = folder / "stored"
        eventually(lambda: stored.exists() and stored.read_bytes().count(b"\n") >= 10_000)

    records = [json.loads(line) for line in stored.read_bytes().splitlines()]
    assert len(records) == 10_000
    for name, lines in written.items():
        assert [record["message"] for record in records if name in record["log.file.path"]] == lines
    assert len({record["id"] for record in records}) == 10_000
    said = version(found, "--version")
    print(f"{said}, {how}, {compression}: 10000 lines written, {len(records)} stored")


def test_a_wrong_key_holds_and_nothing_is_stored(scene: Scene, trust: Trust, tmp_path: Path):
    found = program("fluent-bit", "FLUENT_BIT")
    port = free_port()
    folder = tmp_path / "server"
    folder.mkdir()
    config = CONFIG.format(port=port, folder=folder, options=SECURITY["key"])
    (folder / "fluent-bit.conf").write_text(config)
    scene.write("a.log", 10)
    row = _row("key", port, tmp_path / "secret", trust)
    (tmp_path / "secret" / "token").write_text("wrong")

    with running([found, "-c", str(folder / "fluent-bit.conf")], folder, ports=(port,)):
        sidecar = scene.sidecar(row).start()
        eventually(lambda: sidecar.said("a backend is held", "closed_in_handshake"))
        (tmp_path / "secret" / "token").write_text("s3cret")
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 10
        )
        assert sidecar.stop() == 0
