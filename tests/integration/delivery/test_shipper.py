"""Several workers of one backend: how they start, wait for each other, fail and end."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.logs import Seldom
from runtime.stop import Stop
from runtime.workers import Worker
from sidecar import pipeline
from sidecar.backends.answers import Answer, Delivered, Refused, Retry
from sidecar.backends.templated import TemplateEncoder
from sidecar.batch import Batch
from sidecar.checkpoint import open_checkpoint
from sidecar.deliver import REFUSALS_TO_HOLD, Suspicion, Way
from sidecar.ending import Ending
from sidecar.figures import Figures
from sidecar.files import Files
from sidecar.gate import Gate
from sidecar.ndjson import ndjson_template
from sidecar.pipeline import Shipper
from sidecar.quarantine import Quarantine
from sidecar.rate import Rate
from sidecar.settings import read_settings
from tests.sidecar_process import eventually

Rule = Callable[[list[str]], Answer]


class RuledBackend(TemplateEncoder):
    """Answers each attempt by a rule that may be changed; remembers what it took."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(ndjson_template)
        self.rule = rule
        self.attempts: list[list[str]] = []
        self.stored: list[str] = []

    def sender(self) -> "_Sender":
        return _Sender(self)


class _Sender:
    def __init__(self, backend: RuledBackend) -> None:
        self.sent_bytes = 0
        self._backend = backend

    def attempt(self, batch: Batch, *, seconds: float) -> Answer:
        assert seconds > 0
        records = b"".join(batch.pieces()).splitlines()
        lines = [json.loads(record)["message"] for record in records]
        self._backend.attempts.append(lines)
        answer = self._backend.rule(lines)
        if isinstance(answer, Delivered):
            self._backend.stored += lines
        return answer

    def close(self) -> None:
        return


class Scene:
    """A folder of logs and a shipper of one backend over it, without discovery's thread."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir()
        document = {
            "sources": [{"path": f"{self.logs}/*.log"}],
            "backends": [{"name": "main", "type": "stdout"}],
            "state_dir": str(folder / "state"),
            "limits": {"batch_seconds": 0, "in_flight": 2, "batch_bytes": 4096},
        }
        self.settings, _ = read_settings(json.dumps(document), {"POD_UID": "pod"})
        self.checkpoint = open_checkpoint(self.settings.state_dir, ["main"])
        self.files = Files(self.settings, self.checkpoint, Seldom())
        self.stop = Stop()
        self.ending = Ending(self.stop, drain_seconds=30, until_eof=False)
        self.backend = RuledBackend(lambda _: Delivered())
        self.way = Way(
            name="main",
            backend=self.backend,
            gate=Gate(self.ending),
            ending=self.ending,
            figures=Figures(),
            quarantine=Quarantine(None),
            rate=Rate(None),
            suspicion=Suspicion(),
            seldom=Seldom(),
            request_seconds=5,
        )
        self.shipper = Shipper(self.way, self.files.backlog("main"), self.settings.limits)

    def write(self, name: str, *lines: str) -> None:
        """Append lines to a log, and let discovery see them."""
        with (self.logs / name).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        self.files.scan()

    def drain(self) -> bool:
        """Stop as the process does; return whether all workers have ended."""
        self.stop.request()
        self.files.scan()
        self.shipper.backlog.last()
        self.ending.draining = True
        self.shipper.wake()
        self.files.wake()
        return self.shipper.join(60)

    def close(self) -> None:
        self.stop.request()
        self.stop.request()
        self.ending.draining = True
        self.shipper.wake()
        self.files.wake()
        self.shipper.join(60)
        self.files.close()
        self.checkpoint.close()

    @property
    def books(self) -> tuple[int, int, int, int]:
        """Return (read, acknowledged, in flight, dropped)."""
        moment = self.way.figures.snapshot()
        dropped = sum(moment.lines_dropped.values())
        return moment.lines_read, moment.lines_acknowledged, moment.lines_in_flight, dropped


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path.resolve())
    try:
        yield made
    finally:
        made.close()


def hold_while_another_worker_waits(scene: Scene) -> None:
    """Have one worker hold a line that was refused, and the other wait for lines."""
    scene.shipper.start()
    scene.shipper._start_worker()
    scene.write("first.log", "first")
    eventually(lambda: scene.backend.stored == ["first"], "the first line arrives")
    scene.backend.rule = lambda _: Refused("status_400")
    scene.write("a.log", *[f"a{n}" for n in range(REFUSALS_TO_HOLD)])
    eventually(lambda: scene.way.suspicion.held, "the backend is held")


def test_a_held_line_is_tried_again_though_another_worker_waits_for_lines(scene: Scene):
    hold_while_another_worker_waits(scene)
    made = len(scene.backend.attempts)
    eventually(lambda: len(scene.backend.attempts) > made + 2, "it is tried again")
    scene.backend.rule = lambda _: Delivered()

    eventually(lambda: scene.backend.stored == ["first", "a19"], "the line arrives")


def test_a_stop_sends_a_held_line_though_another_worker_waits_for_lines(scene: Scene):
    hold_while_another_worker_waits(scene)
    made = len(scene.backend.attempts)
    eventually(lambda: len(scene.backend.attempts) > made + 1, "it is tried again")
    scene.backend.rule = lambda _: Delivered()

    assert scene.drain()
    assert scene.backend.stored == ["first", "a19"]


def test_a_worker_that_cannot_be_started_leaves_its_lines_to_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    refusals = 1
    start = Worker.start

    def start_or_not(worker: Worker) -> Worker:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise RuntimeError("can't start new thread")
        return start(worker)

    monkeypatch.setattr(Worker, "start", start_or_not)
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_SECONDS", 0.01)
    for number in range(4):
        scene.write(f"{number}.log", "x" * 3000)  # the journal's thread is refused first
    refusals = 3

    eventually(scene.shipper.start, "the first worker")

    eventually(lambda: len(scene.backend.stored) == 4, "all arrive", seconds=20)


def test_after_a_fault_of_ours_another_worker_takes_over_and_the_books_balance(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_SECONDS", 0.01)
    faults = 3

    def rule(_: list[str]) -> Answer:
        nonlocal faults
        if faults:
            faults -= 1
            raise ZeroDivisionError
        return Delivered()

    scene.backend.rule = rule
    scene.write("a.log", "a0", "a1")
    scene.shipper.start()
    eventually(lambda: scene.backend.stored == ["a0", "a1"], "both arrive", seconds=20)

    eventually(lambda: scene.books == (2, 2, 0, 0), f"balanced: {scene.books}")


def test_a_fault_of_ours_while_the_backend_fails_does_not_close_the_gate_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "FIRST_PAUSE_SECONDS", 0.01)
    turns: list[Answer | None] = [Retry("status_503"), None]

    def rule(_: list[str]) -> Answer:
        answer = turns.pop(0) if turns else Delivered()
        if answer is None:
            raise ZeroDivisionError
        return answer

    scene.backend.rule = rule
    scene.write("a.log", "a0")
    scene.shipper.start()

    eventually(lambda: scene.backend.stored == ["a0"], "it arrives", seconds=20)


def test_faults_without_end_are_met_with_a_worker_each_minute_for_ever():
    assert [pipeline.pause_after(crashes) for crashes in (1, 2, 3)] == [2.0, 4.0, 8.0]
    assert pipeline.pause_after(5000) == 60.0


def test_a_worker_that_another_started_as_it_ended_is_waited_for_too(scene: Scene):
    going = threading.Event()
    started = Worker("started", lambda: _wait(going))

    class Ending(Worker):
        """Starts another as it ends, between two looks at the list."""

        def join(self, seconds: float) -> bool:
            scene.shipper._workers = [started.start()] if going not in seen else [started]
            seen.add(going)
            return super().join(seconds)

    seen: set[threading.Event] = set()
    scene.shipper._workers = [Ending("ended", lambda: None).start()]
    scene.shipper._workers[0]._thread.join()

    assert not scene.shipper.join(0.0)
    going.set()
    assert scene.shipper.join(60)


def _wait(event: threading.Event) -> None:
    event.wait(60)
