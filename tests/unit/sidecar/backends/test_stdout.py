"""Standard output, which several workers share."""

import json
import os
import threading
from collections.abc import Iterator

import pytest

from sidecar.backends.answers import Delivered, Retry
from sidecar.backends.stdout import StdoutBackend
from sidecar.batch import Batch
from tests.unit.sidecar.transform.blocks import block, transform


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def _batch(backend: StdoutBackend, data: bytes) -> Batch:
    one = block(data)
    records = transform()(one)
    batch = Batch()
    batch.add(one, records, backend.encode(records))
    return batch


def test_a_batch_that_was_given_up_in_the_middle_of_a_line_leaves_the_next_ones_whole(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    backend = StdoutBackend(writing)
    given_up, other = backend.sender(), backend.sender()
    lines = b"".join(b"%d %s\n" % (number, b"x" * 300) for number in range(1000))
    batch = _batch(backend, lines)
    assert given_up.attempt(batch, seconds=0.2) == Retry("timeout")
    assert other.attempt(batch, seconds=0.1) == Retry("timeout")

    given_up.close()
    got = bytearray()
    reader = threading.Thread(target=_read, args=(reading, got))
    reader.start()
    assert other.attempt(batch, seconds=60) == Delivered()
    assert other.attempt(_batch(backend, b"last\n"), seconds=60) == Delivered()
    reader.join(60)

    torn, *whole = bytes(got).split(b"\n")[-1003:-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn)
    messages = [json.loads(line)["message"] for line in whole]
    assert [message.split()[0] for message in messages] == [*map(str, range(1000)), "last"]


def test_a_batch_that_is_given_up_before_its_first_byte_leaves_nothing_behind(
    pipe: tuple[int, int],
) -> None:
    reading, writing = pipe
    backend = StdoutBackend(writing)
    given_up, other = backend.sender(), backend.sender()
    while True:  # fill the pipe, so that not one byte is taken
        os.set_blocking(writing, False)
        try:
            os.write(writing, b"\n" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    assert given_up.attempt(_batch(backend, b"a\n"), seconds=0.05) == Retry("timeout")
    given_up.close()

    got = bytearray()
    reader = threading.Thread(target=_read, args=(reading, got))
    reader.start()
    assert other.attempt(_batch(backend, b"last\n"), seconds=60) == Delivered()
    reader.join(60)
    assert json.loads(got.strip())["message"] == "last"
    assert got.strip(b"\n").count(b"\n") == 0


def _read(reading: int, got: bytearray) -> None:
    """Read until a record says `last`."""
    while b'"message":"last"' not in got[-500:]:
        got += os.read(reading, 64 * 1024)
