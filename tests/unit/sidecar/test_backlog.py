"""What one backend is given to send, and when; the files are real, the time is not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.logs import Seldom
from sidecar.block import Block
from sidecar.checkpoint import Checkpoint, open_checkpoint
from sidecar.files import Files
from sidecar.journal import Loaded, load
from sidecar.settings import read_settings


class Desk:
    """A folder of logs and the backlogs over it: of `main`, and of others."""

    def __init__(self, folder: Path, *others: str) -> None:
        self.names = ["main", *others]
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.state = folder / "state"
        self.now = 1000.0
        self.checkpoint: Checkpoint
        self.files: Files
        self.start()

    def start(self) -> None:
        document = {
            "sources": [{"path": f"{self.logs}/*.log"}],
            "backends": [{"name": name, "type": "stdout"} for name in self.names],
            "state_dir": str(self.state),
            "limits": {"partial_seconds": 5, "rotated_seconds": 30},
        }
        settings, _ = read_settings(json.dumps(document), {})
        self.checkpoint = open_checkpoint(settings.state_dir, self.names)
        self.files = Files(settings, self.checkpoint, Seldom(), clock=lambda: self.now)
        self.backlogs = {name: self.files.backlog(name) for name in self.names}
        self.backlog = self.backlogs["main"]
        self.files.scan()

    def end(self) -> None:
        self.files.close()
        self.checkpoint.close()

    def append(self, name: str, text: bytes) -> None:
        with (self.logs / name).open("ab") as file:
            file.write(text)

    def take(self, name: str = "main") -> bytes | None:
        """Return the next block's bytes, and settle it."""
        block = self.backlogs[name].take(1 << 16)
        return None if block is None else self.settle(block, name)

    def settle(self, block: Block, name: str = "main") -> bytes:
        self.backlogs[name].use(block, block.end, 1)
        self.backlogs[name].settle([block])
        return block.data

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.files.scan()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path.resolve())
    yield made
    made.end()


def _journal(desk: Desk) -> Loaded:
    """Return what would be read from the journal after a kill."""
    with (desk.state / "journal").open("rb") as file:
        return load(file)


def test_on_stop_a_line_that_is_just_being_written_is_looked_at_twice(desk: Desk):
    desk.append("a.log", b"first half, ")
    desk.files.scan()
    desk.backlog.last()

    assert desk.take() is None
    desk.now += 0.049
    assert desk.take() is None
    assert not desk.backlog.drained()
    desk.append("a.log", b"second half\n")
    desk.now += 0.002
    assert desk.take() == b"first half, second half\n"
    assert desk.backlog.drained()


def test_on_stop_a_line_that_stays_without_its_end_is_sent_at_the_second_look(desk: Desk):
    desk.append("a.log", b"no end")
    desk.files.scan()
    desk.backlog.last()

    assert desk.take() is None
    desk.now += 0.051
    assert desk.take() == b"no end"
    assert desk.backlog.drained()


def test_lines_left_counts_lines_an_unterminated_one_and_nothing_else(desk: Desk):
    desk.append("a.log", b"one\ntwo\nthree")
    desk.append("b.log", b"one\n" + bytes(5000))
    desk.files.scan()

    assert desk.backlog.lines_left() == 4

    desk.take()
    desk.take()
    assert desk.backlog.lines_left() == 1
    desk.pass_by(6)
    desk.take()
    desk.append("a.log", b"\nfour\n")
    desk.files.scan()

    assert desk.backlog.lines_left() == 1


def test_the_new_file_of_a_name_waits_for_the_lines_of_the_one_that_had_it(desk: Desk):
    desk.append("a.log", b"old\n")
    desk.files.scan()
    os.rename(desk.logs / "a.log", desk.logs / "a.log.1")
    desk.append("a.log", b"new\n")
    desk.files.scan()
    old = desk.backlog.take(1 << 16)

    assert old is not None
    assert old.data == b"old\n"
    assert desk.backlog.take(1 << 16) is None
    desk.settle(old)
    assert desk.take() == b"new\n"


def test_the_new_file_of_a_name_goes_on_when_the_one_that_had_it_is_gone(desk: Desk):
    desk.append("a.log", b"old\n")
    desk.files.scan()
    os.rename(desk.logs / "a.log", desk.logs / "a.log.1")
    desk.append("a.log", b"new\n")
    desk.files.scan()
    old = desk.backlog.take(1 << 16)
    assert desk.backlog.take(1 << 16) is None

    known = desk.files._known
    known.depart(min(known.files.values(), key=lambda file: file.order), gone=True)

    assert old is not None
    assert desk.take() == b"new\n"


def test_the_name_of_the_first_sight_outlives_a_restart(desk: Desk):
    desk.append("a.log", b"one\n")
    desk.files.scan()
    desk.take()
    os.rename(desk.logs / "a.log", desk.logs / "b.log")
    desk.files.scan()
    desk.end()
    desk.start()
    desk.append("b.log", b"two\n")
    desk.files.scan()
    block = desk.backlog.take(1 << 16)

    assert block is not None
    assert block.data == b"two\n"
    assert block.facts.path == f"{desk.logs}/a.log"
    desk.settle(block)


def test_where_a_file_was_last_seen_stands_in_the_journal_at_once(desk: Desk):
    desk.append("a.log", b"one\n")
    desk.files.scan()
    os.rename(desk.logs / "a.log", desk.logs / "b.log")
    desk.files.scan()

    (saved,) = _journal(desk).files.values()
    assert (saved.first, saved.path) == (f"{desk.logs}/a.log", f"{desk.logs}/b.log")


def test_the_generation_of_a_deleted_file_outlives_it_and_a_restart(desk: Desk):
    desk.append("a.log", b"one\n")
    desk.files.scan()
    desk.take()
    key = next(iter(desk.files._known.files))
    (desk.logs / "a.log").unlink()
    desk.files.scan()
    assert desk.take() is None
    desk.pass_by(31)
    assert not desk.files._known.files
    desk.end()
    desk.start()

    saved = desk.files._known.remembered.find(key)
    assert saved is not None
    assert saved.gone


def test_a_file_has_its_entry_before_anything_of_it_is_sent(desk: Desk):
    desk.append("a.log", b"one\n")
    desk.files.scan()

    (saved,) = _journal(desk).files.values()
    assert saved.first == f"{desk.logs}/a.log"


def test_a_file_whose_beginning_alone_was_rewritten_is_another_content(desk: Desk):
    desk.append("a.log", b"".join(b"line %d\n" % number for number in range(1000)))
    desk.files.scan()
    first = desk.backlog.take(1 << 16)
    assert first is not None
    desk.settle(first)
    with (desk.logs / "a.log").open("r+b") as file:
        file.write(b"LINE")
    desk.append("a.log", b"last\n")
    desk.files.scan()

    again = desk.backlog.take(1 << 16)
    assert again is not None
    assert again.start == 0
    assert again.data.startswith(b"LINE 0\nline 1\n")
    assert again.data.endswith(b"last\n")
    assert again.facts.file != first.facts.file
    desk.settle(again)


def test_room_that_the_app_fills_later_makes_no_other_content_of_its_file(desk: Desk):
    desk.append("a.log", b"one\n" + bytes(4000))
    desk.files.scan()
    assert desk.take() == b"one\n"
    with (desk.logs / "a.log").open("r+b") as file:
        file.seek(4)
        file.write(b"two\n")
    desk.files.scan()

    assert desk.take() == b"two\n"
    desk.pass_by(60)
    assert desk.take() is None
    assert desk.backlog.backlog_bytes() == 0


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Desk]:
    """Two backends over the same files."""
    made = Desk(tmp_path.resolve(), "other")
    yield made
    made.end()


def test_what_one_backend_has_seen_before_discovery_reaches_the_others(shared: Desk):
    shared.append("a.log", b"one\n")
    shared.files.scan()
    assert shared.take("other") == b"one\n"
    shared.append("a.log", b"two\n")

    assert shared.take("main") == b"one\ntwo\n"
    shared.files.scan()
    assert shared.take("other") == b"two\n"


def test_what_is_written_after_a_truncation_reaches_every_backend(shared: Desk):
    shared.append("a.log", b"a long line that goes away\n")
    shared.files.scan()
    assert shared.take("main") == shared.take("other") == b"a long line that goes away\n"
    os.truncate(shared.logs / "a.log", 0)
    shared.files.scan()
    assert shared.take("other") is None
    shared.append("a.log", b"new\n")

    assert shared.take("main") == b"new\n"
    shared.files.scan()
    assert shared.take("other") == b"new\n"
