"""Several backends over files that change all the time: each of them gets the last lines too.

What one backend's reader has seen first must not be taken for known on behalf of the others: with
nothing written afterwards, nobody would look again.
"""

import random
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.files import append, replace, rewrite_in_place
from tests.integration.sidecar.stage import Stage, staged
from tests.judge import Stream

FILES = 8
PAUSES = (0.0, 0.0, 0.001, 0.003, 0.01, 0.03, 0.1)


class Writer(threading.Thread):
    """Writes, rewrites and replaces one file; its last content stays."""

    def __init__(self, stage: Stage, name: str, seed: int) -> None:
        super().__init__()
        self._stage = stage
        self._path = stage.logs / f"{name}.log"
        self._chance = random.Random(seed)
        self._contents = 0

    def run(self) -> None:
        chance = self._chance
        stream = self._new_stream()
        append(self._path, self._lines(stream))
        for _ in range(chance.randint(3, 12)):
            time.sleep(chance.choice(PAUSES))
            act = chance.choice((append, append, rewrite_in_place, rewrite_in_place, replace))
            if act is not append:
                stream.excuse(range(stream.count))  # destroyed, read or not
                stream = self._new_stream()
            act(self._path, self._lines(stream))

    def _new_stream(self) -> Stream:
        self._contents += 1
        return self._stage.ledger.stream(f"{self._path.stem}{self._contents}")

    def _lines(self, stream: Stream) -> bytes:
        return stream.lines(self._chance.randint(1, 60), size=self._chance.randint(64, 400))


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_every_backend_gets_the_last_lines_of_files_that_change_all_the_time(rounds: int) -> None:
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as folder, staged(Path(folder).resolve()) as stage:
            _play(stage, seed)


def _play(stage: Stage, seed: int) -> None:
    judges = {"main": stage.judge_by(copies=True)}
    backends = [{"name": "main", "type": "http", "url": stage.backend.url}]
    for name in ("second", "third"):
        backend, judges[name] = stage.another_backend(copies=True)
        backends.append({"name": name, "type": "http", "url": backend.url})
    stage.sidecar(limits={"batch_seconds": 0.01, "partial_seconds": 100}, backends=backends).start()
    writers = [Writer(stage, chr(97 + number), seed * FILES + number) for number in range(FILES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for name, judge in judges.items():
        stage.settle(judge, where=name)
