import re
from pathlib import Path

from runtime.stop import Stop
from tests.webhook_process import ROOT
from webhook.metrics import Metrics
from webhook.server import Server
from webhook.tls import Certificates

DOCUMENT = Path(ROOT / "docs" / "webhook.md").read_text()


def test_the_document_names_each_metric_and_no_other():
    metrics = Metrics()
    server = Server()
    metrics.watch(server, Certificates())
    metrics.watch_missed(dict, lambda: False)
    shown = {
        line.split()[2]
        for line in metrics.render().decode().splitlines()
        if line.startswith("# TYPE sidetail_") and not line.split()[2].endswith("_created")
    }
    stop = Stop()
    stop.request()
    stop.request()
    server.run(stop)

    assert set(re.findall(r"^\| `(sidetail_\w+)`", DOCUMENT, re.MULTILINE)) == shown


def test_the_document_names_each_event_of_a_connection():
    counted = set()
    for module in ("server", "connections", "answering", "listening"):
        text = (ROOT / "webhook" / f"{module}.py").read_text()
        counted |= set(re.findall(r'count(?:s\[|\()"(\w+)"', text))

    assert counted
    assert all(f"`{event}`" in DOCUMENT for event in counted)
