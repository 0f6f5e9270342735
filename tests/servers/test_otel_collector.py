"""A real OpenTelemetry collector: what it took in it hands on, and that is what was written."""

from pathlib import Path

import pytest

from tests.fakes.backend import Backend, Request
from tests.fakes.otlp import Record, parse_request
from tests.integration.backends.scene import Scene
from tests.servers.programs import program, running, version
from tests.sidecar_process import eventually, free_port

CONFIG = """
receivers:
  otlp: {{protocols: {{http: {{endpoint: 127.0.0.1:{port}}}}}}}
exporters:
  otlp_http:
    endpoint: "{url}"
    encoding: json
    compression: none
    sending_queue: {{enabled: false}}
service:
  pipelines: {{logs: {{receivers: [otlp], exporters: [otlp_http]}}}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
"""


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_lines_written_are_records_handed_on(scene: Scene, compression: str, tmp_path: Path):
    found = program("otelcol", "OTELCOL")
    folder = tmp_path / "server"
    folder.mkdir()
    written = {f"{scene.logs}/{name}": scene.write(name, 5000) for name in ("a.log", "b.log")}
    (scene.logs / "c.json").write_text('{"level":"error","deep":{"list":[1,2.5,null,true]}}\n')
    sources = [
        {"path": f"{scene.logs}/*.log", "container": "app"},
        {"path": f"{scene.logs}/*.json", "container": "app", "format": "json"},
    ]
    records: list[Record] = []

    def take(request: Request) -> None:
        records.extend(parse_request(request))

    port = free_port()
    with Backend(on_stored=take) as behind:
        config = folder / "collector.yaml"
        config.write_text(CONFIG.format(port=port, url=behind.url))
        with running([found, "--config", str(config)], folder, ports=(port,)):
            row = {"type": "otlp", "url": f"http://127.0.0.1:{port}", "compression": compression}
            scene.ship(row, sources=sources)
            eventually(lambda: len(records) >= 10_001)

    assert len(records) == 10_001
    for path, lines in written.items():
        mine = [record for record in records if record.attributes["log.file.path"] == path]
        assert [record.body for record in mine] == lines
    (parsed,) = (record for record in records if "parsed" in record.attributes)
    assert parsed.attributes["parsed"]["deep"] == {"list": [1, 2.5, None, True]}
    assert (parsed.severity, parsed.severity_number) == ("error", 17)
    assert parsed.resource["k8s.pod.name"] == "orders-1"
    said = version(found, "--version")
    print(f"{said}, {compression}: 10001 lines written, {len(records)} handed on")
