"""The journal on a real disk: in which order its bytes are made to last."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.checkpoint import MIN_REWRITE_BYTES, Checkpoint
from sidecar.journal import Saved, file_entry, file_key, offset_entry
from tests.sidecar_process import eventually

KEY = file_key(1, 2)
ENTRY = offset_entry(KEY, 0, 0, 10, b"anchor")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was made to last, by name, and the renames, in their order; all of it is done."""
    made: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        made.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def noted_rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        made.append(f"rename {old} {new}")

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    return made


def test_a_new_journal_is_whole_on_disk_before_it_has_its_name_and_then_its_name_is(
    tmp_path: Path, calls: list[str]
):
    Checkpoint(str(tmp_path / "state"), ["main"]).close()

    assert calls == ["fsync journal.tmp", "rename journal.tmp journal", "fsync state"]


def test_what_was_appended_is_on_disk_after_a_save_and_is_synced_once(
    tmp_path: Path, calls: list[str]
):
    checkpoint = Checkpoint(str(tmp_path / "state"), ["main"], sync_seconds=3600)
    calls.clear()
    checkpoint.append([ENTRY])
    checkpoint.save()
    checkpoint.save()

    assert calls == ["fsync journal"]
    checkpoint.close()


def test_what_was_appended_is_on_disk_soon_without_a_save(tmp_path: Path, calls: list[str]):
    checkpoint = Checkpoint(str(tmp_path / "state"), ["main"], sync_seconds=0.01)
    calls.clear()
    checkpoint.append([ENTRY])

    eventually(lambda: calls == ["fsync journal"], "it is synced")
    checkpoint.close()


def test_entries_that_come_while_the_journal_is_rewritten_are_in_the_new_one(tmp_path: Path):
    state = tmp_path / "state"
    checkpoint = Checkpoint(str(state), ["main"], sync_seconds=3600)

    def entries() -> Iterator[bytes]:
        yield file_entry(KEY, Saved(first="/l/a", path="/l/a"))
        checkpoint.append([ENTRY])

    checkpoint.follow(entries)
    checkpoint.append([file_entry(KEY, Saved(first="x" * 4000))] * 20)
    assert (state / "journal").stat().st_size > MIN_REWRITE_BYTES
    checkpoint.save()
    checkpoint.close()

    assert (state / "journal").stat().st_size < MIN_REWRITE_BYTES
    again = Checkpoint(str(state), ["main"])
    assert again.saved[KEY].offsets == {"main": (10, b"anchor")}
    again.close()


def test_a_journal_that_was_taken_away_is_written_anew(tmp_path: Path):
    state = tmp_path / "state"
    checkpoint = Checkpoint(str(state), ["main"], sync_seconds=3600)
    checkpoint.follow(lambda: [file_entry(KEY, Saved(first="/l/a")), ENTRY])
    (state / "journal").unlink()
    checkpoint.save()
    checkpoint.close()

    again = Checkpoint(str(state), ["main"])
    assert again.saved[KEY].offsets == {"main": (10, b"anchor")}
    again.close()


def test_a_torn_tail_is_cut_off_before_anything_is_appended(tmp_path: Path):
    state = tmp_path / "state"
    checkpoint = Checkpoint(str(state), ["main"])
    checkpoint.append([file_entry(KEY, Saved(first="/l/a"))])
    checkpoint.close()
    with (state / "journal").open("ab") as file:
        file.write(ENTRY[:-5])

    checkpoint = Checkpoint(str(state), ["main"])
    checkpoint.append([ENTRY])
    checkpoint.close()

    again = Checkpoint(str(state), ["main"])
    assert again.saved[KEY].offsets == {"main": (10, b"anchor")}
    assert not (state / "journal.bad").exists()
    again.close()
