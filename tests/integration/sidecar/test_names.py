"""Fault S11: names that do not resolve, resolve late, or to another place."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.fakes.dns import NameServer, answer
from tests.fakes.room import Room
from tests.integration.sidecar.stage import Stage
from tests.judge import Judge
from tests.sidecar_process import ROOT, eventually


@pytest.fixture
def room() -> Iterator[Room]:
    with Room(network=True) as made:
        yield made


class Program:
    """A fake that runs in the room, with its commands on stdin."""

    def __init__(self, room: Room, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*room.wrapper, sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), f"{module} did not start"

    def tell(self, command: str) -> str:
        """Send one command and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def test_s11_a_name_that_fails_is_looked_up_again_and_its_new_address_used(
    stage: Stage, room: Room
):
    resolver = stage.folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    room.run("mount", "--bind", str(resolver), "/etc/resolv.conf")
    records = [stage.folder / name for name in ("first", "second", "witness")]
    with contextlib.ExitStack() as programs:

        def started(module: str, *arguments: str) -> Program:
            program = Program(room, module, *arguments)
            programs.callback(program.close)
            return program

        names = started("tests.fakes.dns")
        first = started("tests.fakes.backend", *where("127.0.0.2", records[0]))
        started("tests.fakes.backend", *where("127.0.0.3", records[1]))
        started("tests.fakes.backend", *where("127.0.0.4", records[2]))
        backends = [
            {"name": "named", "type": "http", "url": "http://logs.shop.test:8080/in"},
            {"name": "witness", "type": "http", "url": "http://127.0.0.4:8080/in"},
        ]
        sidecar = stage.sidecar(
            backends=backends, metrics=None, wrapper=room.wrapper, limits={"request_seconds": 3}
        )
        sidecar.start()
        log = stage.log()
        log.write(20)
        for mode in ("nxdomain", "servfail", "silent"):
            before = int(names.tell(mode))
            log.write(20)
            # Others are not held up, whatever the look-up does.
            eventually(lambda: judged(stage, records[2]).owed() == 0)
            eventually(lambda mode=mode, n=before: int(names.tell(mode)) > n, mode)  # type: ignore[misc] # a lambda with defaults
        assert not records[0].stat().st_size
        names.tell("127.0.0.2")
        eventually(lambda: judged(stage, records[0]).owed() == 0)
        first.close()
        names.tell("127.0.0.3")
        log.write(20)
        eventually(lambda: judged(stage, *records[:2]).owed() == 0)
        assert sidecar.stop() == 0, sidecar.tail()

    judged(stage, *records[:2]).verdict().assert_exact()
    judged(stage, records[2]).verdict().assert_exact()
    assert records[1].stat().st_size


def where(host: str, record: Path) -> list[str]:
    return ["--host", host, "--port", "8080", "--record", str(record)]


def judged(stage: Stage, *files: Path) -> Judge:
    """Return a judge that has taken what is recorded in these files, whole lines only."""
    judge = Judge(stage.ledger)
    for file in files:
        whole, _, _ = file.read_bytes().rpartition(b"\n")
        judge.take_records(orjson.loads(line) for line in whole.split(b"\n") if line)
    return judge


@pytest.mark.parametrize(
    ("mode", "code", "size"),
    [("nxdomain", 3, 0), ("servfail", 2, 0), ("10.1.2.3", 0, 16)],
)
def test_the_name_server_answers_as_it_is_told(mode: str, code: int, size: int):
    query = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x04logs\x04test\x00\x00\x01\x00\x01"
    reply = answer(query, mode)

    assert reply is not None
    assert reply[:2] == b"\x12\x34"
    assert reply[3] & 15 == code
    assert len(reply) == len(query) + size
    assert reply.endswith(b"\x0a\x01\x02\x03") == (mode == "10.1.2.3")


def test_a_silent_name_server_says_nothing_and_ends():
    server = NameServer("127.0.0.1", 0)
    server.mode = "silent"
    server.close()

    assert answer(bytes(20), "silent") is None
