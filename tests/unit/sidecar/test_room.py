import os
from pathlib import Path

import pytest

from runtime.logs import Seldom
from sidecar.keys import Volume
from sidecar.room import LOOK_SECONDS, Room, used_bytes

MIB = 1024 * 1024


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_room(volume: Path, clock: Clock, *folders: Path, size: int = 10 * MIB) -> Room:
    return Room(Volume(str(volume), size), map(str, folders), Seldom(clock=clock), clock=clock)


def write(path: Path, mib: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(1024) * int(mib * 1024))


def test_four_fifths_are_said_once_a_minute_and_no_more_when_it_is_over(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
):
    room = a_room(tmp_path, clock, tmp_path / "app")
    write(tmp_path / "app" / "a.log", 7.5)
    room.look()
    assert caplog.records == []

    write(tmp_path / "app" / "b.log", 1)
    room.look()
    assert caplog.records == [], "it is not measured at every pass"
    clock.now += LOOK_SECONDS
    room.look()
    room.look()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    fields = caplog.records[0].fields  # type: ignore[attr-defined] # `extra` makes it
    assert fields["size_bytes"] == 10 * MIB
    assert 8.5 * MIB <= fields["used_bytes"] == room.used_bytes <= 9 * MIB

    clock.now += LOOK_SECONDS
    room.look()
    assert len(caplog.records) == 2
    (tmp_path / "app" / "a.log").unlink()
    clock.now += LOOK_SECONDS
    room.look()
    assert len(caplog.records) == 2
    assert room.used_bytes < 2 * MIB


def test_only_folders_on_the_volume_count(tmp_path: Path, clock: Clock):
    for name in ("logs/app", "logs-too", "elsewhere"):
        write(tmp_path / name / "a.log", 1)
    folders = [tmp_path / name for name in ("logs/app", "logs-too", "elsewhere")]
    room = a_room(tmp_path / "logs", clock, *folders)
    room.look()

    assert MIB <= room.used_bytes < 1.5 * MIB


def test_what_lies_below_two_folders_or_has_two_names_counts_once(tmp_path: Path):
    write(tmp_path / "app" / "deep" / "a.log", 1)
    os.link(tmp_path / "app" / "deep" / "a.log", tmp_path / "app" / "b.log")
    folders = [str(tmp_path / "app" / "deep"), str(tmp_path / "app")]

    assert MIB <= used_bytes(folders) < 1.5 * MIB


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path):
    assert used_bytes([str(tmp_path / "none")]) == 0


def test_a_sparse_file_counts_what_it_takes(tmp_path: Path):
    with (tmp_path / "a.log").open("wb") as file:
        file.truncate(100 * MIB)

    assert used_bytes([str(tmp_path)]) < MIB
