"""A real Loki: lines written = entries stored, in order; what it refuses is counted."""

import json
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.fakes.backend import Answer, Backend, Request, status
from tests.integration.backends.scene import Scene
from tests.servers.programs import ask, program, running, version
from tests.sidecar_process import eventually, free_port

CONFIG = """
auth_enabled: true
analytics: {{reporting_enabled: false}}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {port}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {grpc}
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: {folder}/data
  storage: {{filesystem: {{chunks_directory: {folder}/chunks, rules_directory: {folder}/rules}}}}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
ingester: {{lifecycler: {{min_ready_duration: 0s, final_sleep: 0s}}}}
schema_config:
  configs:
    - from: 2020-10-24
      store: tsdb
      object_store: filesystem
      schema: v13
      index: {{prefix: i_, period: 24h}}
limits_config:
  allow_structured_metadata: true
  reject_old_samples: true
  reject_old_samples_max_age: 168h
  max_entries_limit_per_query: 200000
  max_line_size: 100KB
  ingestion_rate_mb: 100
  ingestion_burst_size_mb: 100
  per_stream_rate_limit: 100MB
  per_stream_rate_limit_burst: 100MB
memberlist: {{bind_addr: [127.0.0.1]}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and how it is asked."""

    url: str
    said: str

    def entries(self, tenant: str, query: str, *, hours: float = 1) -> dict[str, list[str]]:
        """Return the lines of each file, in the order of their times."""
        now = time.time_ns()
        window = {"start": now - int(hours * 3600e9), "end": now + 60 * 10**9}
        # Without this each entry would be a stream of its own, by its id.
        query += " | keep log_file_path"
        parameters = {"query": query, "limit": 200_000, "direction": "forward", **window}
        target = f"{self.url}/loki/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
        found = json.loads(ask(target, None, **{"X-Scope-OrgID": tenant}))["data"]["result"]
        entries: dict[str, list[tuple[int, str]]] = {}
        for stream in found:
            path = stream["stream"]["log_file_path"]
            entries.setdefault(path, []).extend((int(at), line) for at, line in stream["values"])
        return {path: [line for _, line in sorted(each)] for path, each in entries.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process with everything in it."""
    found = program("loki", "LOKI")
    folder = tmp_path_factory.mktemp("loki")
    port, grpc = free_port(), free_port()
    config = folder / "loki.yaml"
    config.write_text(CONFIG.format(port=port, grpc=grpc, folder=folder))
    with running([found, f"-config.file={config}"], folder, ports=(port,)):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _ready(url), "it is ready", seconds=120, every=0.5)
        yield Server(url, version(found, "-version"))


def _ready(url: str) -> bool:
    try:
        return bool(ask(f"{url}/ready").startswith(b"ready"))
    except OSError:
        return False


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("labels", ["a stream a file", "one stream"])
def test_lines_written_are_entries_stored_in_order(
    server: Server, scene: Scene, compression: str, labels: str
):
    tenant = f"{compression}-{labels}".replace(" ", "-")
    written = {f"{scene.logs}/{name}": scene.write(name, 5000) for name in ("a.log", "b.log")}
    same = ["the same line again and again"] * 3000
    (scene.logs / "c.log").write_text("".join(f"{line}\n" for line in same))
    (scene.logs / "d.log").write_text("".join(f"{line}\n" for line in same))
    written |= {f"{scene.logs}/{name}": same for name in ("c.log", "d.log")}
    row = {"type": "loki", "url": server.url, "tenant": tenant, "compression": compression}
    if labels == "one stream":
        row["labels"] = ["k8s.pod.name"]  # type: ignore[assignment] # a document

    scene.ship(row, limits={"batch_bytes": "200KiB"})

    entries = server.entries(tenant, '{k8s_pod_name="orders-1"}')
    assert entries == written
    stored = sum(map(len, entries.values()))
    print(f"{server.said}, {compression}, {labels}: 16000 lines written, {stored} stored")


def test_nothing_is_lost_where_one_stream_is_refused_and_another_is_not(
    server: Server, scene: Scene
):
    long = "x" * 200_000
    (scene.logs / "bad.log").write_text(f"before\n{long}\nafter\n")
    good = scene.write("good.log", 100)

    sidecar = scene.sidecar({"type": "loki", "url": server.url, "tenant": "long"}).start()
    found = sidecar.wait_for_metric(
        lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 102
    )

    assert found.total("sidetail_lines_dropped_total", reason="rejected") == 1
    assert sidecar.stop() == 0
    entries = server.entries("long", '{k8s_pod_name="orders-1"}')
    assert entries[f"{scene.logs}/good.log"] == good
    assert entries[f"{scene.logs}/bad.log"] == ["before", "after"]


def _stamp(hours_ago: float, number: int) -> str:
    at = datetime.fromtimestamp(time.time() - hours_ago * 3600, tz=UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + f".{number:09}Z"


def test_lines_too_old_are_counted_and_the_others_stored(server: Server, scene: Scene):
    """Too old for the stream (an hour behind its newest), and for Loki at all (a week)."""
    lines = [
        *(f"{_stamp(0.1, n)} stdout F now {n}" for n in range(50)),
        *(f"{_stamp(3, n)} stdout F behind {n}" for n in range(40)),
        *(f"{_stamp(24 * 30, n)} stdout F ancient {n}" for n in range(30)),
        *(f"{_stamp(0, n)} stdout F again {n}" for n in range(50)),
    ]
    (scene.logs / "a.log").write_text("".join(f"{line}\n" for line in lines))
    source = {"path": f"{scene.logs}/*.log", "container": "app", "stream": "stdout"}

    sidecar = scene.sidecar(
        {"type": "loki", "url": server.url, "tenant": "old"}, sources=[source]
    ).start()
    found = sidecar.wait_for_metric(
        lambda scrape: (
            scrape.total("sidetail_lines_acknowledged_total")
            + scrape.total("sidetail_lines_dropped_total")
            == 170
        )
    )

    assert found.total("sidetail_lines_dropped_total", reason="too_old") == 70
    assert sidecar.stop() == 0
    entries = server.entries("old", '{k8s_pod_name="orders-1"}', hours=5)
    expected = [*(f"now {n}" for n in range(50)), *(f"again {n}" for n in range(50))]
    assert entries[f"{scene.logs}/a.log"] == expected
    print(f"{server.said}, times: 170 lines written, 100 stored, 70 counted as too old")


def test_no_entry_is_missing_or_there_twice_through_lost_answers(server: Server, scene: Scene):
    written = scene.write("a.log", 3000)
    with _Lossy(server.url) as lossy:
        scene.ship(
            {"type": "loki", "url": lossy.url, "tenant": "lossy"}, limits={"batch_bytes": "60KiB"}
        )

    entries = server.entries("lossy", '{k8s_pod_name="orders-1"}')
    assert entries[f"{scene.logs}/a.log"] == written
    assert lossy.lost > 3
    print(f"{server.said}, {lossy.lost} answers lost: 3000 lines written, 3000 stored")


class _Lossy:
    """A proxy that hands every third request on and loses its answer."""

    def __init__(self, url: str) -> None:
        self._upstream = url
        self._server = Backend()
        self._server.answers(self._hand_on)
        self._count = 0
        self.lost = 0

    def __enter__(self) -> "_Lossy":
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return self._server.url

    def _hand_on(self, request: Request) -> Answer:
        ask(
            self._upstream + request.target,
            request.body,
            **{
                "Content-Type": request.header("content-type") or "",
                "X-Scope-OrgID": request.header("x-scope-orgid") or "",
            },
        )
        self._count += 1
        if self._count % 3:
            return status(204)
        self.lost += 1
        return Answer(reset="before-answer")
