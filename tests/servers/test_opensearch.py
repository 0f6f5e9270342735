"""A real OpenSearch node: bulk answers as they are, and exactly once through kills."""

import json
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sidecar.backends.answers import Delivered, Partly
from tests.batches import batch, facts, open_backend
from tests.integration.backends.scene import Scene
from tests.servers.jvm import HERE, class_path, java
from tests.servers.programs import ask, running
from tests.sidecar_process import Sidecar, eventually, free_port

TEMPLATE = HERE.parent.parent / "manifests/examples/backends/elasticsearch-index-template.json"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a node listens."""
    folder = tmp_path_factory.mktemp("opensearch")
    jvm, port = java(), free_port()
    with class_path("opensearch", folder) as jars:
        command = [
            jvm, "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", jars,
            str(HERE / "opensearch" / "OneNode.java"), str(folder / "home"), str(port),
        ]  # fmt: skip
        with running(command, folder, ports=(port,)):
            yield f"http://127.0.0.1:{port}"


def _get(url: str, body: Any = None) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    return json.loads(ask(url, sent, **{"Content-Type": "application/json"}))


def _version(url: str) -> str:
    found = _get(url)["version"]
    return f"{found['distribution']} {found['number']}"


def _messages(url: str, index: str) -> list[str]:
    """Return the messages of all documents of an index, in pages by id's own order."""
    ask(f"{url}/{index}/_refresh", b"")
    found: list[str] = []
    scroll = _get(f"{url}/{index}/_search?scroll=1m", {"size": 5000, "_source": ["message"]})
    while hits := scroll["hits"]["hits"]:
        found += [hit["_source"]["message"] for hit in hits]
        again = {"scroll": "1m", "scroll_id": scroll["_scroll_id"]}
        scroll = _get(f"{url}/_search/scroll", again)
    return found


def test_lines_written_are_documents_stored_once_through_kills(url: str, scene: Scene):
    row = {"type": "elasticsearch", "url": url, "index": "logs-killed", "compression": "gzip"}
    sidecar = scene.sidecar(row, limits={"batch_bytes": "50KiB", "drain_seconds": 120})
    written = [scene.write(f"{name}.log", 4000) for name in "abc"]
    for turn in range(5):
        sidecar.start()
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") >= 100, seconds=120
        )
        sidecar.kill()
        written += [scene.write(f"{name}.log", 400, first=4000 + 400 * turn) for name in "abc"]
    sidecar.flags = ["--until-eof"]
    assert sidecar.run(seconds=300) == 0, sidecar.tail()

    expected = sorted(message for messages in written for message in messages)
    stored = _messages(url, "logs-killed")
    assert sorted(stored) == expected
    print(f"{_version(url)}, 5 kills: {len(expected)} lines written, {len(stored)} stored")


def test_a_batch_sent_twice_is_stored_once(url: str):
    backend = open_backend("elasticsearch", url, index="logs-twice", request_seconds=120)
    sender = backend.sender()
    made = batch(backend, (b"".join(b"line %d\n" % n for n in range(2000)), facts()))

    assert [sender.attempt(made, seconds=120) for _ in range(2)] == [Delivered()] * 2
    sender.close()

    assert len(_messages(url, "logs-twice")) == 2000


def test_a_document_that_does_not_fit_the_mapping_is_refused_alone(url: str):
    mapping = {"mappings": {"properties": {"parsed": {"properties": {"n": {"type": "long"}}}}}}
    _put(f"{url}/logs-strict", mapping)
    backend = open_backend("elasticsearch", url, index="logs-strict")
    sender = backend.sender()
    of = facts(format="json")
    made = batch(backend, (b'{"n":1}\n{"n":"no number"}\n{"n":3}\n', of))

    answer = sender.attempt(made, seconds=60)
    sender.close()

    assert answer == Partly(retry=(), rejected=((1, "rejected"),))
    assert _messages(url, "logs-strict") == ['{"n":1}', '{"n":3}']


def test_the_example_template_takes_what_would_fit_no_mapping(url: str, scene: Scene):
    template = json.loads(TEMPLATE.read_text())
    _put(f"{url}/_index_template/sidetail", _for_opensearch(template))
    lines = [f'{{"n":{n},"key{n}":{{"deep":[{n}]}}}}' for n in range(1500)]
    lines += ['{"n":"text now"}', '{"n":{"an":"object"}}', "no json at all"]
    (scene.logs / "a.log").write_text("".join(f"{line}\n" for line in lines))
    source = {"path": f"{scene.logs}/*.log", "container": "app", "format": "json"}

    sidecar: Sidecar = scene.sidecar({"type": "elasticsearch", "url": url}, sources=[source])
    sidecar.start()
    found = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == len(lines), seconds=120
    )

    assert found.total("sidetail_lines_dropped_total") == 0
    assert sidecar.stop() == 0
    stream = _get(f"{url}/_data_stream/logs-sidetail-default")["data_streams"][0]
    assert stream["name"] == "logs-sidetail-default"
    assert sorted(_messages(url, "logs-sidetail-default")) == sorted(lines)
    wanted = {"query": {"term": {"kubernetes.pod.name": "orders-1"}}, "size": 0}
    eventually(partial(_counts, url, wanted, len(lines)))
    print(f"{_version(url)}, data stream: {len(lines)} lines written, {len(lines)} stored")


def _counts(url: str, wanted: dict[str, Any], count: int) -> bool:
    wanted = {**wanted, "track_total_hits": True}
    found: int = _get(f"{url}/logs-sidetail-default/_search", wanted)["hits"]["total"]["value"]
    return found == count


def _put(url: str, body: Any) -> None:
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        method="PUT",
        headers={"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()


def _for_opensearch(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template with the types that the two name differently."""
    text = json.dumps(template).replace('"flattened"', '"flat_object"')
    made: dict[str, Any] = json.loads(text)
    made["template"]["settings"]["number_of_replicas"] = 0
    return made


def test_the_template_is_json_with_a_priority_of_its_own():
    template = json.loads(Path(TEMPLATE).read_text())

    assert template["index_patterns"] == ["logs-sidetail-*"]
    assert template["priority"] > 100
