"""A model against the real process: any order of writes, rotations, kills and faults.

The model is the list of lines and what the backends had when bytes were destroyed: a truncation
or a deletion of bytes that nobody had read is the only legal reason for a gap.
"""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.fakes.backend import OK, Answer, retry_after, status
from tests.fakes.files import append, copy_and_truncate, replace, rewrite_in_place
from tests.integration.sidecar.stage import staged
from tests.judge import Stream
from tests.sidecar_process import eventually

NAMES = ("a", "b", "c")
FAULTS: dict[str, Answer] = {
    "503": status(503),
    "500 after a while": Answer(status=500, delay_seconds=0.05),
    "429": retry_after("1"),
    "reset": Answer(reset="before-answer"),
    "stored, then reset": Answer(reset="before-answer", stored=True),
    "stored, then half an answer": Answer(reset="in-answer", stored=True),
    "hang": Answer(hang=True),
    "slow": Answer(delay_seconds=0.1),
    "down": OK,
}
LIMITS = {
    "batch_seconds": 0.01,
    "batch_bytes": 20_000,
    "partial_seconds": 100,
    "rotated_seconds": 100,
    "request_seconds": 1,
    "drain_seconds": 1,
}


@dataclass(slots=True, eq=False)
class Content:
    """One content of a file: from its making, or from a truncation, to its end."""

    path: Path
    stream: Stream
    pending: bytes = b""
    """The rest of a line whose first part is written."""
    existing: bool = True


@dataclass(slots=True)
class History:
    """What happened, for the message of a failure and for the bound of duplicates."""

    events: list[str] = field(default_factory=list)
    kills: int = 0


class SidecarMachine(RuleBasedStateMachine):
    """Writes, turns, destroys, kills; at the end nothing may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self._closers = contextlib.ExitStack()
        folder = Path(self._closers.enter_context(tempfile.TemporaryDirectory())).resolve()
        self.stage = self._closers.enter_context(staged(folder))
        self.main = self.stage.judge_by(copies=True)
        self.witness_backend, self.witness = self.stage.another_backend(copies=True)
        self.history = History()
        self.count = 0
        self.contents: dict[str, Content] = {}
        self.unlinked: list[Content] = []
        self.is_down = False
        backends = [
            {"name": "main", "type": "http", "url": self.stage.backend.url},
            {"name": "witness", "type": "http", "url": self.witness_backend.url},
        ]
        self.sidecar = self.stage.sidecar(
            source={"path": f"{self.stage.logs}/*.log*"}, limits=LIMITS, backends=backends
        )
        self.sidecar.start()

    # --- files ------------------------------------------------------------------------------

    def content(self, name: str) -> Content:
        if name not in self.contents:
            self.contents[name] = self.new_content(self.stage.logs / f"{name}.log")
        return self.contents[name]

    def new_content(self, path: Path) -> Content:
        self.count += 1
        return Content(path, self.stage.ledger.stream(f"{path.name[0]}{self.count}"))

    def complete(self, content: Content) -> None:
        """Write the rest of a line that was begun."""
        if content.pending:
            append(content.path, content.pending)
            content.pending = b""

    def unread(self, content: Content) -> list[int]:
        """Return the lines of a content that one of the backends does not have."""
        name = content.stream.name
        return [
            seq
            for seq in range(content.stream.count)
            if not (self.main.has(name, seq) and self.witness.has(name, seq))
        ]

    def is_known(self, content: Content) -> bool:
        """Return whether the sidecar has surely seen this content: a line of it came out."""
        return self.witness.arrived(content.stream.name) > 0

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 60), size=st.integers(64, 400))
    def write(self, name: str, count: int, size: int) -> None:
        content = self.content(name)
        self.complete(content)
        append(content.path, content.stream.lines(count, size=size))
        self.note(f"write {name} {count}")

    @rule(name=st.sampled_from(NAMES), share=st.integers(1, 60))
    def write_part(self, name: str, share: int) -> None:
        content = self.content(name)
        self.complete(content)
        line = content.stream.line(size=80)
        append(content.path, line[:share])
        content.pending = line[share:]
        self.note(f"write a part of a line to {name}")

    @rule(name=st.sampled_from(NAMES))
    def rename_inside_the_glob(self, name: str) -> None:
        content = self.content(name)
        if content.path.exists():
            self.complete(content)
            self.count += 1
            content.path.rename(f"{content.path}.{self.count}")
            del self.contents[name]
            self.note(f"rename {name} inside")

    @rule(name=st.sampled_from(NAMES))
    def rename_out_of_the_glob(self, name: str) -> None:
        content = self.content(name)
        if content.path.exists() and self.is_known(content):
            self.complete(content)
            self.count += 1
            content.path.rename(self.stage.logs / f"{name}.old{self.count}")
            del self.contents[name]
            self.note(f"rename {name} out")

    @rule(name=st.sampled_from(NAMES))
    def copytruncate(self, name: str) -> None:
        content = self.content(name)
        if content.path.exists():
            self.complete(content)
            self.count += 1
            copy_and_truncate(content.path, Path(f"{content.path}.{self.count}"))
            self.contents[name] = self.new_content(content.path)
            self.note(f"copytruncate {name}")

    @rule(name=st.sampled_from(NAMES), count=st.integers(0, 80))
    def rewrite(self, name: str, count: int) -> None:
        old = self.content(name)
        if old.path.exists():
            self.complete(old)
            new = self.new_content(old.path)
            rewrite_in_place(old.path, new.stream.lines(count))
            old.stream.excuse(self.unread(old))
            self.contents[name] = new
            self.note(f"rewrite {name} in place with {count}")

    @rule(name=st.sampled_from(NAMES), count=st.integers(0, 30))
    def replace(self, name: str, count: int) -> None:
        old = self.content(name)
        if old.path.exists():
            self.complete(old)
            new = self.new_content(old.path)
            self.destroy(old, lambda: replace(new.path, new.stream.lines(count)))
            self.contents[name] = new
            self.note(f"replace {name} by a file of {count}")

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        content = self.content(name)
        if content.path.exists():
            self.complete(content)
            self.destroy(content, content.path.unlink)
            del self.contents[name]
            self.note(f"delete {name}")

    def destroy(self, content: Content, unlink: Callable[[], object]) -> None:
        """Unlink: what the witness has was read from a file that stays open for the others."""
        name = content.stream.name
        if self.is_down:
            content.stream.excuse(self.unread(content))
        else:
            seen = [seq for seq in range(content.stream.count) if self.witness.has(name, seq)]
            content.stream.excuse(set(range(content.stream.count)) - set(seen))
            self.unlinked.append(content)
        unlink()

    @rule(name=st.sampled_from(NAMES))
    def wait_until_it_is_seen(self, name: str) -> None:
        content = self.content(name)
        if content.path.exists() and not self.is_down:
            self.complete(content)
            if content.stream.count:
                last = content.stream.count - 1
                eventually(lambda: self.witness.has(content.stream.name, last), "it is seen")
                self.note(f"{name} is seen")

    # --- the process --------------------------------------------------------------------------

    def excuse_the_unlinked(self) -> None:
        """With the process went the descriptors that held deleted files."""
        for content in self.unlinked:
            content.stream.excuse(self.unread(content))
        self.unlinked = []

    @precondition(lambda self: not self.is_down)
    @rule()
    def kill(self) -> None:
        self.sidecar.kill()
        self.history.kills += 1
        self.excuse_the_unlinked()
        self.is_down = True
        self.note("kill")

    @precondition(lambda self: not self.is_down)
    @rule()
    def stop(self) -> None:
        for content in self.contents.values():
            self.complete(content)  # a stop sends the parts of lines as they are
        code = self.sidecar.stop()
        assert code in {0, 1}, self.sidecar.tail()
        # A batch that was under way at the end is as ambiguous as with a kill.
        self.history.kills += code == 1
        self.excuse_the_unlinked()
        self.is_down = True
        self.note(f"stop, exit {code}")

    @precondition(lambda self: self.is_down)
    @rule()
    def start(self) -> None:
        self.sidecar.start()
        self.is_down = False
        self.note("start")

    # --- the backend --------------------------------------------------------------------------

    @rule(fault=st.sampled_from(sorted(FAULTS)))
    def fail(self, fault: str) -> None:
        self.heal()
        if fault == "down":
            self.stage.backend.down()
        self.stage.backend.answers(FAULTS[fault])
        self.note(f"backend: {fault}")

    @rule()
    def heal(self) -> None:
        self.stage.backend.answers(OK)
        self.stage.backend.up()

    @precondition(lambda self: not self.is_down)
    @rule()
    def wait_for_the_backend(self) -> None:
        self.heal()
        for content in self.contents.values():
            self.complete(content)
        self.stage.settle(self.main)
        self.note("all is there")

    def note(self, event: str) -> None:
        self.history.events.append(event)

    def teardown(self) -> None:
        with self._closers:
            if self.sidecar.running or self.is_down:
                self.judge()

    def judge(self) -> None:
        try:
            self.heal()
            for content in self.contents.values():
                self.complete(content)
            if self.is_down:
                self.start()
            self.stage.settle(self.main)
            self.stage.settle(self.witness)
            backend = self.stage.backend
            largest = [
                max((len(r.lines) for r in each.stored), default=0)
                for each in (backend, self.witness_backend)
            ]
            unsure = sum(r.stored and r.answer not in {OK, FAULTS["slow"]} for r in backend.stored)
            kills = self.history.kills
            self.main.verdict().assert_at_least_once(
                duplicates=(2 * kills + unsure) * largest[0] + self.rewritten()
            )
            self.witness.verdict().assert_at_least_once(
                duplicates=2 * kills * largest[1] + self.rewritten()
            )
        except AssertionError as error:
            events = "\n  ".join(self.history.events)
            raise AssertionError(f"{error}\nafter:\n  {events}\n{self.sidecar.tail()}") from error

    def rewritten(self) -> int:
        """Allow for no repetition by rewriting: a new content has new lines."""
        return 0


SHORT: dict[str, Any] = {"max_examples": 6, "stateful_step_count": 14}
LONG: dict[str, Any] = {"max_examples": 300, "stateful_step_count": 40}


def run_model(form: dict[str, Any]) -> None:
    run_state_machine_as_test(
        SidecarMachine,
        settings=settings(
            **form,
            deadline=None,
            database=None,
            # A failing history is told as it was: to make it shorter would take an hour.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("part", [1, 2])
def test_nothing_is_lost_in_any_order_of_events(part: int):
    run_model(SHORT)


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_nothing_is_lost_in_any_long_order_of_events():
    run_model(LONG)
