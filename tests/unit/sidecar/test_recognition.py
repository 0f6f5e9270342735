"""Which content a file is, told by the bytes before an offset and at its head."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.follow import Changed, Lines, Place, Unfinished, Unterminated, read_lines
from sidecar.identity import digest
from sidecar.journal import Saved
from sidecar.remembered import is_content

HEAD = b"# each of them begins like this\n" * 40
OLD = HEAD + b"old line\n" * 200


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "a.log", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, OLD)
    yield descriptor
    os.close(descriptor)


def _saved(offset: int) -> Saved:
    anchor = digest(OLD[max(0, offset - 1024) : offset])
    return Saved(
        version=7,
        head_length=1024,
        head=digest(OLD[:1024]),
        first="/l/a",
        offsets={"one": (0, b""), "two": (offset, anchor)},
    )


def test_a_saved_content_is_the_same_while_it_only_grows(file: int):
    os.pwrite(file, b"new line\n", len(OLD))

    assert is_content(_saved(2000), file, size=len(OLD) + 9, version=7)


def test_other_bytes_before_one_backend_s_offset_are_another_content(file: int):
    os.pwrite(file, b"X", 1999)

    assert not is_content(_saved(2000), file, size=len(OLD), version=7)


def test_a_file_that_ends_before_an_offset_is_another_content(file: int):
    os.ftruncate(file, 1999)

    assert not is_content(_saved(2000), file, size=1999, version=7)


def test_another_head_or_inode_version_is_another_content(file: int):
    assert not is_content(_saved(2000), file, size=len(OLD), version=8)

    os.pwrite(file, b"X", 1023)

    assert not is_content(_saved(2000), file, size=len(OLD), version=7)


def _read(file: int, place: Place) -> object:
    size = os.fstat(file).st_size
    return read_lines(file, place, size=size, want=4096, max_line=1 << 20, tail=False)


@pytest.mark.parametrize("between", [b"", bytes(100_000)], ids=["a long line", "after a hole"])
def test_a_long_line_whose_end_is_searched_is_no_line_once_the_bytes_before_it_changed(
    file: int, between: bytes
):
    place = Place()
    place.go_to(len(OLD), OLD[-1024:])
    os.pwrite(file, between + b"x" * 100_000, len(OLD))
    while not isinstance(found := _read(file, place), Unterminated):
        assert isinstance(found, Unfinished)
    os.pwrite(file, b"X", len(OLD) - 3)
    os.pwrite(file, b"\n", len(OLD) + len(between) + 100_000)

    found = _read(file, place)

    assert isinstance(found, Changed)


def test_a_long_line_after_a_hole_is_found_where_nothing_changed(file: int):
    place = Place()
    place.go_to(len(OLD), OLD[-1024:])
    os.pwrite(file, bytes(100_000) + b"x" * 100_000 + b"\n", len(OLD))

    found = _read(file, place)

    assert isinstance(found, Lines)
    assert found.start == len(OLD) + 100_000
    assert found.data == b"x" * 100_000 + b"\n"


@pytest.mark.parametrize("size", [0, 10, 1500, 2900, 2999])
def test_a_file_that_ends_before_the_place_of_reading_has_another_content(file: int, size: int):
    place = Place()
    place.go_to(3000, OLD[3000 - 1024 : 3000])
    os.ftruncate(file, size)

    assert isinstance(_read(file, place), Changed)
