"""Fault S11: names that do not resolve, resolve late, or to another place."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.dns import NameServer, answer
from tests.fakes.room import Room
from tests.integration.sidecar.stage import Stage, staged
from tests.judge import Judge
from tests.sidecar_process import ROOT, eventually

MODES = ("nxdomain", "servfail", "silent")


def test_s11_a_name_that_fails_is_looked_up_again_and_its_new_address_used(tmp_path: Path):
    run_in_a_room(tmp_path, a_name_that_fails)


def run_in_a_room(folder: Path, scenario: Callable[[Stage], None]) -> None:
    """Run a scenario of this module whole in a network of its own, with a resolver of its own."""
    folder = folder.resolve()
    resolver = folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    code = f"from {__name__} import *; staged_run({scenario.__name__}, {str(folder)!r})"
    with Room(network=True) as room:
        room.run("mount", "--bind", str(resolver), "/etc/resolv.conf")
        done = subprocess.run(
            [*room.wrapper, sys.executable, "-W", "error", "-c", code],
            # Who enters a room stands at its root.
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=False,
            capture_output=True,
            timeout=110,
        )
    assert done.returncode == 0, done.stderr.decode()[-4000:]


def staged_run(scenario: Callable[[Stage], None], folder: str) -> None:
    """Run a scenario; what it raises is the process's failure."""
    with staged(Path(folder)) as stage:
        scenario(stage)


def a_name_that_fails(stage: Stage) -> None:
    """Three names fail in three ways while a fourth backend goes on; then all are well."""
    server = NameServer("127.0.0.1")
    first = {mode: stage.another_backend(host="127.0.0.2") for mode in MODES}
    witness, seen = stage.another_backend(host="127.0.0.4")
    backends = [{"name": "witness", "type": "http", "url": f"{witness.url}/in"}]
    for mode, (backend, _) in first.items():
        server.modes[f"{mode}.shop.test"] = mode
        url = f"http://{mode}.shop.test:{backend.port}/in"
        backends.append({"name": mode, "type": "http", "url": url})
    log = stage.log()
    log.write(20)
    sidecar = stage.started(backends=backends, limits={"request_seconds": 3})
    for mode in MODES:
        # Others are not held up, whatever the look-up does.
        log.write(20)
        stage.settle(seen)
        eventually(partial(asked_twice, server, mode), f"{mode} is looked up again")
    for mode, (backend, judge) in first.items():
        assert backend.connections == 0
        server.modes[f"{mode}.shop.test"] = "127.0.0.2"
        stage.settle(judge, where=mode)
    # One moves: the same port at another address.
    old, judge = first["nxdomain"]
    old.close()
    server.modes["nxdomain.shop.test"] = "127.0.0.3"
    moved = stage.new_backend(judge, host="127.0.0.3", port=old.port)
    log.write(20)
    stage.settle(judge)
    assert moved.stored
    assert sidecar.stop() == 0, sidecar.tail()
    moved.close()
    server.close()
    judges: list[Judge] = [seen, *(judge for _, judge in first.values())]
    for judge in judges:
        stage.settle(judge)
        judge.verdict().assert_exact()


def asked_twice(server: NameServer, mode: str) -> bool:
    return server.queries[f"{mode}.shop.test"] >= 3


QUERY = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x04logs\x04test\x00\x00\x01\x00\x01"


@pytest.mark.parametrize(
    ("mode", "code", "size"),
    [("nxdomain", 3, 0), ("servfail", 2, 0), ("10.1.2.3", 0, 16)],
)
def test_the_name_server_answers_as_it_is_told(mode: str, code: int, size: int):
    reply = answer(QUERY, mode)

    assert reply is not None
    assert reply[:2] == b"\x12\x34"
    assert reply[3] & 15 == code
    assert len(reply) == len(QUERY) + size
    assert reply.endswith(b"\x0a\x01\x02\x03") == (mode == "10.1.2.3")


def test_a_silent_name_server_says_nothing_and_ends():
    server = NameServer("127.0.0.1", 0)
    server.close()

    assert answer(QUERY, "silent") is None
