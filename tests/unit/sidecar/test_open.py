"""What is opened and what is refused, told by the descriptor and never by the path."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.open import (
    DEVICE,
    DIRECTORY,
    FIFO,
    OTHER_DEVICE,
    SOCKET,
    SYMLINK,
    NotASourceFileError,
    open_file,
    open_folder,
    reason_to_skip,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").write_bytes(b"one\n")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def _socket(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(name)


KINDS: dict[str, tuple[Callable[[str], object], str]] = {
    "link": (lambda name: os.symlink("a.log", name), SYMLINK),
    "dangling link": (lambda name: os.symlink("nothing", name), SYMLINK),
    "fifo": (os.mkfifo, FIFO),
    "socket": (_socket, SOCKET),
    "folder": (os.mkdir, DIRECTORY),
}


@pytest.mark.parametrize(("make", "reason"), KINDS.values(), ids=KINDS)
def test_what_is_no_regular_file_is_refused_at_once(
    folder: int, make: Callable[[str], object], reason: str
):
    make("thing")

    with pytest.raises(NotASourceFileError) as refused:
        open_file(folder, "thing", None)

    assert refused.value.reason == reason


def test_a_file_on_another_device_than_the_volume_is_refused(folder: int):
    device = os.fstat(folder).st_dev

    with pytest.raises(NotASourceFileError) as refused:
        open_file(folder, "a.log", device + 1)

    assert refused.value.reason == OTHER_DEVICE


def test_a_regular_file_on_the_volume_is_opened(folder: int):
    descriptor, status = open_file(folder, "a.log", os.fstat(folder).st_dev)

    assert os.read(descriptor, 10) == b"one\n"
    assert status.st_size == 4
    os.close(descriptor)


def test_a_device_is_refused():
    assert reason_to_skip(os.stat("/dev/null"), None) == DEVICE


@pytest.mark.parametrize("path", ["link", "link/below", "real/link", "real/link/deeper"])
def test_a_folder_is_reached_through_no_link_at_any_level(tmp_path: Path, path: str):
    (tmp_path / "real" / "below" / "deeper").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "link").symlink_to("below")

    with pytest.raises(NotASourceFileError) as refused:
        open_folder(f"{tmp_path.resolve()}/{path}")

    assert refused.value.reason == SYMLINK


def test_a_refusal_leaves_no_descriptor_open(folder: int):
    os.mkfifo("fifo")
    before = sorted(os.listdir("/proc/self/fd"))
    for name in ("fifo", "nothing"):
        with pytest.raises(OSError, match=r"source file|No such"):
            open_file(folder, name, None)
    with pytest.raises(OSError, match="No such"):
        open_folder(f"{Path.cwd()}/nothing/below")

    assert sorted(os.listdir("/proc/self/fd")) == before
