"""Threat T10 and the metrics: what can be seen inside, and that nothing else can be done there."""

import random
import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.backend import Answer, refuse_lines
from tests.fakes.files import Background
from tests.integration.sidecar.stage import Stage
from tests.sidecar_process import eventually, free_port


def ask(port: int, raw: bytes, *, host: str = "127.0.0.1") -> bytes:
    """Send raw bytes and return all that comes back."""
    with closing(socket.create_connection((host, port), 20)) as peer:
        try:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough
        pieces = []
        try:
            while piece := peer.recv(65_536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)


METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW")
PATHS = (
    "/",
    "/metrics",
    "/healthz",
    "/metrics/",
    "//metrics",
    "/config",
    "/debug/pprof",
    "/../etc",
)


def test_t10_only_two_paths_answer_and_only_to_be_read(stage: Stage):
    sidecar = stage.started()
    port = sidecar.config["metrics"]["port"]
    for method in METHODS:
        for path in PATHS:
            answer = ask(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            code = int(answer.split()[1])
            reading = method in {"GET", "HEAD"} and path in {"/metrics", "/healthz"}

            assert code == 200 if reading else code in {404, 405}, (method, path, code)
            assert b"Traceback" not in answer


def test_t10_noise_costs_no_memory_and_no_turn(stage: Stage):
    sidecar = stage.started()
    port = sidecar.config["metrics"]["port"]
    log = stage.log()
    source = random.Random(5)
    ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    before = sidecar.resident_mib
    for number in range(60):
        noise = [
            source.randbytes(2000),
            b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
            b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + bytes(100_000),
            b"\x16\x03\x01\x02\x00\x01",
            b"GET /metrics\r\n\r\n",
        ][number % 6]
        ask(port, noise)
    log.write(20)

    stage.verdict().assert_exact()
    assert sidecar.resident_mib - before < 8
    assert sidecar.get("/healthz")[0] == 200


def test_t10_silent_peers_do_not_shut_the_others_out_for_ever(stage: Stage):
    sidecar = stage.started()
    port = sidecar.config["metrics"]["port"]
    silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(40)]
    try:
        stage.log().write(20)
        stage.settle()

        def answers() -> bool:
            try:
                return sidecar.get("/healthz")[0] == 200
            except OSError:
                return False

        eventually(answers)
    finally:
        for peer in silent:
            peer.close()


def test_t10_a_port_that_the_app_holds_is_said_and_lines_flow(stage: Stage):
    port = free_port()
    with (
        closing(socket.create_server(("0.0.0.0", port))),
        closing(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=False))
        if socket.has_ipv6
        else closing(socket.socket()),
    ):
        sidecar = stage.sidecar(metrics={"port": port})
        sidecar.start()
        log = stage.log()
        log.write(20)
        stage.settle()
        assert sidecar.said("port"), sidecar.tail()
        assert sidecar.stop() == 0
    stage.judge.verdict().assert_exact()


def test_metrics_answer_on_both_families(stage: Stage):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    sidecar = stage.started()
    port = sidecar.config["metrics"]["port"]
    try:
        over_six = ask(port, b"GET /healthz HTTP/1.1\r\n\r\n", host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")

    assert b" 200 " in over_six.split(b"\r\n")[0]
    assert b" 200 " in ask(port, b"GET /healthz HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_no_port_and_no_file_mean_no_socket(stage: Stage):
    sidecar = stage.sidecar(metrics=None)
    sidecar.start()
    stage.log().write(5)
    stage.settle()
    listening = [
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]

    assert not [name for name in sidecar.descriptors() if name[8:-1] in listening]


def test_metrics_to_a_file(stage: Stage):
    path = stage.folder / "sidecar.prom"
    sidecar = stage.sidecar(metrics={"file": str(path)})
    sidecar.start()
    stage.log().write(5)
    stage.settle()
    assert sidecar.stop() == 0

    assert 'sidetail_lines_acknowledged_total{backend="main"} 5.0' in path.read_text()


def test_metrics_to_a_file_tell_the_end_of_a_short_run_too(stage: Stage):
    path = stage.folder / "sidecar.prom"
    stage.log().write(5)
    assert stage.sidecar(flags=("--until-eof",), metrics={"file": str(path)}).run() == 0

    assert 'sidetail_lines_acknowledged_total{backend="main"} 5.0' in path.read_text()
    assert 'sidetail_lines_in_flight{backend="main"} 0.0' in path.read_text()


def test_the_books_balance_at_every_scrape_under_load_and_faults(stage: Stage):
    log, other = stage.log(), stage.log("other.log")
    stage.judge_by(foreign=True)
    poison = refuse_lines(lambda line: b"POISON" in line, otherwise=_slow)
    stage.backend.answers(poison)
    sidecar = stage.started(
        source={"drop": "DEBUG", "skip_empty": True}, limits={"batch_bytes": 20_000}
    )
    sidecar._scrape_seconds = 0.002
    number = [0]

    def write() -> None:
        number[0] += 1
        log.write(20)
        other.write_raw(b"\nDEBUG noise\n")
        other.write(2)
        if number[0] % 50 == 0:
            log.write_raw(b"POISON\n")

    with Background(write, every_seconds=0.005):
        eventually(lambda: sidecar.scrapes >= 300)
    stage.settle()
    stage.settled_in_sidecar(sidecar)

    assert sidecar.imbalances == []
    scrape = sidecar.scrape()
    assert scrape.total("sidetail_lines_dropped_total", reason="rejected") == number[0] // 50
    assert scrape.total("sidetail_lines_dropped_total", reason="filtered") == number[0]
    assert scrape.total("sidetail_lines_dropped_total", reason="empty") == number[0]
    stage.verdict().assert_exact()


def _slow(request: object) -> Answer:
    return Answer(delay_seconds=0.01)


def test_metrics_speak_of_every_promise(stage: Stage):
    stage.log().write(20)
    sidecar = stage.started()
    stage.settle()
    stage.settled_in_sidecar(sidecar)
    scrape = sidecar.scrape()

    assert {
        "sidetail_lines_read_total",
        "sidetail_lines_acknowledged_total",
        "sidetail_lines_in_flight",
        "sidetail_lag_bytes",
        "sidetail_open_files",
    } <= scrape.names()
    assert any(name.endswith("_bucket") for name in scrape.names()), "a histogram of latencies"
    for name in ("lines_read_total", "lines_acknowledged_total"):
        assert scrape.total(f"sidetail_{name}", backend="main") == 20
