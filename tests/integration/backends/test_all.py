"""The real sidecar with every type of backend: what was written is what is stored."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.backend import Backend
from tests.fakes.elasticsearch import Cluster
from tests.fakes.forward import ForwardServer
from tests.fakes.kafka import MockCluster
from tests.fakes.loki import Loki
from tests.fakes.otlp import Collector
from tests.fakes.syslog import SyslogServer
from tests.integration.backends.scene import Scene
from tests.sidecar_process import Scrape, Sidecar, eventually

KINDS = (
    "http", "loki", "elasticsearch", "otlp", "forward", "syslog", "kafka", "file", "stdout",
)  # fmt: skip


@dataclass
class Store:
    """One fake, and what it has."""

    row: dict[str, Any]
    messages: Callable[[], list[str]]
    violations: Callable[[], list[str]] = list


@contextlib.contextmanager
def _store(kind: str, folder: Path) -> Iterator[Store]:
    row = {"type": kind}
    if kind in ("http", "loki", "elasticsearch", "otlp"):
        with Backend() as server:
            yield _http_store(kind, row | {"url": server.url}, server)
    elif kind == "forward":
        with ForwardServer() as forward:
            yield Store(
                row | {"url": forward.url},
                lambda: [record["message"] for record in forward.records],
                lambda: forward.violations,
            )
    elif kind == "syslog":
        with SyslogServer() as syslog:
            yield Store(row | {"url": syslog.url}, lambda: syslog.texts, lambda: syslog.violations)
    elif kind == "kafka":
        pytest.importorskip("kafka", reason="the extra kafka is not installed")
        pytest.importorskip("confluent_kafka", reason="the mock broker is not installed")
        with MockCluster() as kafka:
            yield Store(row | {"url": kafka.url}, lambda: _kafka_messages(kafka))
    elif kind == "file":
        out = folder / "out"
        yield Store(row | {"url": str(out)}, lambda: _file_messages(out))
    else:
        yield Store(row, list)


def _http_store(kind: str, row: dict[str, Any], server: Backend) -> Store:
    if kind == "loki":
        loki = Loki()
        server.answers(loki)
        return Store(row, lambda: [entry.line for entry in loki.entries], lambda: loki.violations)
    if kind == "elasticsearch":
        cluster = Cluster()
        server.answers(cluster)
        return Store(row, lambda: cluster.messages, lambda: cluster.violations)
    if kind == "otlp":
        collector = Collector()
        server.answers(collector)
        bodies = lambda: [record.body for record in collector.records]  # noqa: E731 - one of four alike
        return Store(row, bodies, lambda: collector.violations)
    return Store(row, lambda: server.messages)


def _kafka_messages(cluster: MockCluster) -> list[str]:
    found = cluster.messages("sidetail", 0, seconds=10)
    return [json.loads(value)["message"] for _, _, value in found]


def _file_messages(out: Path) -> list[str]:
    return [
        json.loads(line)["message"]
        for path in sorted(out.rglob("*.log"))
        for line in path.read_bytes().splitlines()
    ]


def _stdout_messages(sidecar: Sidecar) -> list[str]:
    return [json.loads(line)["message"] for line in sidecar.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_is_stored_once_and_in_order_within_its_file(
    kind: str, scene: Scene, tmp_path: Path
):
    written = {name: scene.write(name, 400) for name in ("a.log", "b.log", "c.log")}
    (scene.logs / "d.json").write_text('{"level":"warn","n":1}\nno json\n\n')
    (scene.logs / "e.cri").write_text("2024-05-01T12:00:00Z stderr F from cri\n")
    strange = "every byte: " + "".join(map(chr, range(1, 0x250))).replace("\n", "") + "\u2028"
    (scene.logs / "f.log").write_text(strange + "\n")
    sources = [
        {"path": f"{scene.logs}/*.log", "container": "app", "fields": {"team": "shop"}},
        {"path": f"{scene.logs}/*.json", "container": "app", "format": "json"},
        {"path": f"{scene.logs}/*.cri", "container": "app", "stream": "stdout"},
    ]

    # A batch of syslog takes a second at least.
    limits = {"batch_bytes": "1MiB" if kind == "syslog" else "40KiB"}

    with _store(kind, tmp_path) as store:
        sidecar = scene.ship(store.row, sources=sources, limits=limits)
        messages = _stdout_messages(sidecar) if kind == "stdout" else store.messages()
        assert store.violations() == []

    for name, lines in written.items():
        assert [message for message in messages if message.startswith(f"{name} ")] == lines
    rest = [message for message in messages if not message.startswith(tuple(written))]
    assert sorted(rest) == sorted(['{"level":"warn","n":1}', "no json", "", "from cri", strange])


def _has_acknowledged(scrape: Scrape, *, backend: str, lines: int) -> bool:
    return scrape.total("sidetail_lines_acknowledged_total", backend=backend) == lines


def test_each_backend_goes_at_its_own_pace(scene: Scene):
    loki, cluster = Loki(), Cluster()
    with Backend() as first, Backend() as second, Backend() as dead:
        first.answers(loki)
        second.answers(cluster)
        dead.down()
        messages = scene.write("a.log", 500)
        sidecar = scene.sidecar(
            {"type": "loki", "url": first.url},
            {"type": "elasticsearch", "url": second.url},
            {"type": "otlp", "url": dead.url},
            {"type": "file", "url": str(scene.folder / "out")},
        ).start()
        for name in ("loki", "elasticsearch", "file"):
            sidecar.wait_for_metric(partial(_has_acknowledged, backend=name, lines=500))

        assert sidecar.metric("sidetail_lines_acknowledged_total", backend="otlp") == 0
        assert sidecar.metric("sidetail_lag_bytes", backend="otlp") > 0
        assert sidecar.metric("sidetail_lines_dropped_total") == 0
        collector = Collector()
        dead.answers(collector)
        dead.up()
        sidecar.wait_for_metric(partial(_has_acknowledged, backend="otlp", lines=500))
        assert sidecar.stop() == 0

    assert [entry.line for entry in loki.entries] == messages
    assert cluster.messages == messages
    assert [record.body for record in collector.records] == messages
    assert _file_messages(scene.folder / "out") == messages


def test_only_gives_a_backend_some_files_and_its_books_know_of_no_others(scene: Scene):
    mine = scene.write("mine.log", 100)
    scene.write("other.log", 1000)
    (scene.logs / "out.cri").write_text("2024-05-01T12:00:00Z stdout F printed\n")
    out = scene.folder / "out"
    only = {
        "path": {"path": "/mine[.]log$"},
        "stream": {"stream": "stdout"},
        "neither": {"stream": "stdout", "path": "mine"},
        "all": None,
    }
    rows: list[dict[str, Any]] = [
        {"name": name, "type": "file", "url": str(out / name), "only": wanted}
        for name, wanted in only.items()
    ]
    sources = [
        {"path": f"{scene.logs}/*.log", "container": "app"},
        {"path": f"{scene.logs}/*.cri", "container": "app", "stream": "stdout"},
    ]

    sidecar = scene.sidecar(*rows, sources=sources).start()
    found = sidecar.wait_for_metric(
        lambda scrape: (
            scrape.total("sidetail_lines_acknowledged_total", backend="all") == 1101
            and scrape.total("sidetail_lines_acknowledged_total", backend="path") == 100
            and scrape.total("sidetail_lines_acknowledged_total", backend="stream") == 1
        )
    )

    assert found.total("sidetail_lines_read_total", backend="path") == 100
    assert found.total("sidetail_lines_read_total", backend="neither") == 0
    assert found.total("sidetail_lag_bytes") == 0
    mine += scene.write("mine.log", 10, first=100)
    scene.write("other.log", 10, first=1000)
    sidecar.wait_for_metric(partial(_has_acknowledged, backend="all", lines=1121))
    eventually(lambda: len(_file_messages(out / "path")) == 110)
    assert sidecar.stop() == 0
    assert _file_messages(out / "path") == mine
    assert _file_messages(out / "stream") == ["printed"]
    assert not (out / "neither").exists()
