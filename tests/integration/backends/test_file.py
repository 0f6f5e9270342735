"""The tree of files: rotation, crashes in the middle of a line, full disks, links."""

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Partly, Retry
from sidecar.backends.file import file_name
from sidecar.batch import Batch
from tests.batches import batch, facts, open_backend

HERE = "shop/orders-1/app.log"


def _backend(folder: Path, **options: object) -> Backend:
    return open_backend("file", str(folder), **options)


def _write(backend: Backend, *texts: bytes) -> Answer:
    sender = backend.sender()
    try:
        return sender.attempt(_batch(backend, *texts), seconds=20)
    finally:
        sender.close()


def _batch(backend: Backend, *texts: bytes) -> Batch:
    return batch(backend, *((text, facts(file=f"f{index}")) for index, text in enumerate(texts)))


def _messages(path: Path) -> list[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert content.endswith(b"\n")
    return [json.loads(line)["message"] for line in content.splitlines()]


def test_records_lie_by_namespace_pod_and_container(tmp_path: Path):
    backend = _backend(tmp_path / "deep" / "er")
    parts = (
        (b"a\n", facts(file="a")),
        (b"b\n", facts(file="b", attributes={"k8s.pod.name": "../../etc"})),
        (b"c\n", facts(file="a")),
    )
    sender = backend.sender()

    answer = sender.attempt(batch(backend, *parts), seconds=20)
    sender.close()

    assert answer == Delivered()
    assert _messages(tmp_path / "deep/er" / HERE) == ["a", "c"]
    assert _messages(tmp_path / "deep/er/_/_.._.._etc/_.log") == ["b"]
    assert sender.sent_bytes == sum(
        path.stat().st_size for path in (tmp_path / "deep").rglob("*.log")
    )


def test_a_file_is_rotated_before_it_would_be_too_large_and_old_ones_go(tmp_path: Path):
    backend = _backend(tmp_path, max_file_bytes=400, max_files=3)

    for number in range(8):
        assert _write(backend, b"line %d\n" % number) == Delivered()

    live = tmp_path / HERE
    assert sorted(path.name for path in live.parent.iterdir()) == [
        "app.log",
        "app.log.1",
        "app.log.2",
    ]
    assert _messages(live) == ["line 7"]
    assert _messages(live.with_name("app.log.1")) == ["line 6"]
    assert _messages(live.with_name("app.log.2")) == ["line 5"]


def test_a_batch_larger_than_a_file_may_be_is_written_all_the_same(tmp_path: Path):
    backend = _backend(tmp_path, max_file_bytes=100, max_files=2)

    assert _write(backend, b"x" * 1000 + b"\n") == Delivered()

    assert _messages(tmp_path / HERE) == ["x" * 1000]


def test_one_file_alone_begins_anew(tmp_path: Path):
    backend = _backend(tmp_path, max_file_bytes=400, max_files=1)

    for number in range(3):
        assert _write(backend, b"line %d\n" % number) == Delivered()

    assert [path.name for path in (tmp_path / HERE).parent.iterdir()] == ["app.log"]
    assert _messages(tmp_path / HERE) == ["line 2"]


def test_rotated_files_are_compressed(tmp_path: Path):
    backend = _backend(tmp_path, max_file_bytes=400, max_files=3, compression="gzip")

    for number in range(4):
        assert _write(backend, b"line %d\n" % number) == Delivered()

    names = sorted(path.name for path in (tmp_path / HERE).parent.iterdir())
    assert names == ["app.log", "app.log.1.gz", "app.log.2.gz"]
    assert _messages(tmp_path / f"{HERE}.1.gz") == ["line 2"]
    assert _messages(tmp_path / f"{HERE}.2.gz") == ["line 1"]


def test_what_a_crash_left_of_a_compression_is_mended(tmp_path: Path):
    live = tmp_path / HERE
    live.parent.mkdir(parents=True)
    live.with_name("app.log.1").write_bytes(b'{"message":"whole"}\n')
    live.with_name("app.log.1.gz.part").write_bytes(b"torn")
    live.with_name("app.log.2").write_bytes(b'{"message":"twice"}\n')
    live.with_name("app.log.2.gz").write_bytes(gzip.compress(b'{"message":"twice"}\n'))

    assert _write(_backend(tmp_path, compression="gzip"), b"x\n") == Delivered()

    names = sorted(path.name for path in live.parent.iterdir())
    assert names == ["app.log", "app.log.1.gz", "app.log.2.gz"]
    assert _messages(live.with_name("app.log.1.gz")) == ["whole"]
    assert _messages(live.with_name("app.log.2.gz")) == ["twice"]


@pytest.mark.parametrize("torn", [b"x", b'{"message":"ha', b"x" * 200_000], ids=len)
@pytest.mark.parametrize("before", [b"", b'{"message":"whole"}\n'], ids=["alone", "after-a-line"])
def test_a_torn_line_is_cut_off_at_the_next_open(tmp_path: Path, before: bytes, torn: bytes):
    live = tmp_path / HERE
    live.parent.mkdir(parents=True)
    live.write_bytes(before + torn)

    assert _write(_backend(tmp_path), b"next\n") == Delivered()

    assert _messages(live) == (["whole"] if before else []) + ["next"]


_KILLED_WRITER = """
import sys
from pathlib import Path
from tests.batches import batch, facts, open_backend

backend = open_backend("file", sys.argv[1])
sender = backend.sender()
number = 0
print("writing", flush=True)
while True:
    text = b"".join(b"%d %s\\n" % (number + i, b"x" * 5000) for i in range(200))
    sender.attempt(batch(backend, (text, facts())), seconds=20)
    number += 200
"""


def test_a_writer_killed_at_any_time_leaves_no_torn_line_behind_its_successor(tmp_path: Path):
    live = tmp_path / HERE
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED_WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        assert process.stdout is not None
        process.stdout.readline()
        size = live.stat().st_size if live.exists() else 0
        while not live.exists() or live.stat().st_size < size + 2_000_000:
            assert process.poll() is None
        process.kill()
        process.wait()
        process.stdout.close()

    assert _write(_backend(tmp_path), b"last\n") == Delivered()

    messages = _messages(live)
    assert messages[-1] == "last"
    assert all(len(message.split(" ")[1]) == 5000 for message in messages[:-1])


_FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
from tests.batches import batch, facts, open_backend

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
backend = open_backend("file", sys.argv[1], compression="gzip", max_file_bytes=250_000)
sender = backend.sender()
one = batch(backend, (b"x" * 1000 + b"\\n", facts()))
assert str(sender.attempt(one, seconds=20)).startswith("Delivered")
full = Path(sys.argv[1], "shop/orders-1/app.log").stat().st_size + 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
many = batch(backend, (b"y" * 50 + b"\\n", facts()), (b"z" * 200_000 + b"\\n", facts(file="g")))
refused = sender.attempt(many, seconds=20)
size = Path(sys.argv[1], "shop/orders-1/app.log").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
taken = sender.attempt(many, seconds=20)
sender.close()
print(json.dumps([str(refused), size, str(taken)]))
"""


def test_a_batch_that_finds_no_room_is_not_there_at_all_until_it_is_whole(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    refused, size, taken = json.loads(run.stdout)

    assert refused == "Retry(reason='write_efbig', after_seconds=None)"
    assert size < 2000
    assert taken == str(Delivered())
    assert [len(message) for message in _messages(tmp_path / HERE)] == [1000, 50, 200_000]


def test_a_file_that_somebody_took_away_is_made_again(tmp_path: Path):
    backend = _backend(tmp_path)
    sender = backend.sender()
    one = _batch(backend, b"a\n")
    assert sender.attempt(one, seconds=20) == Delivered()
    (tmp_path / HERE).rename(tmp_path / "taken")

    assert sender.attempt(one, seconds=20) == Delivered()

    sender.close()
    assert _messages(tmp_path / "taken") == _messages(tmp_path / HERE) == ["a"]


@pytest.mark.parametrize("place", ["shop", "shop/orders-1", HERE])
def test_a_link_on_the_way_is_not_followed(tmp_path: Path, place: str):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "tree" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere / "x" if place == HERE else elsewhere)

    answer = _write(_backend(tmp_path / "tree"), b"a\n")

    assert answer in (Hold("write_eloop"), Hold("write_enotdir"))
    assert list(elsewhere.iterdir()) == []


def test_a_fifo_in_the_files_place_does_not_hold_up_anything(tmp_path: Path):
    live = tmp_path / HERE
    live.parent.mkdir(parents=True)
    os.mkfifo(live)

    assert _write(_backend(tmp_path), b"a\n") == Hold("write_enotsup")


def test_a_file_that_another_process_writes_is_waited_for(tmp_path: Path):
    first, second = _backend(tmp_path), _backend(tmp_path)
    holder = first.sender()
    assert holder.attempt(_batch(first, b"a\n"), seconds=20) == Delivered()

    assert _write(second, b"b\n") == Retry("write_eagain")

    holder.close()
    assert _write(second, b"b\n") == Delivered()


def test_one_folder_that_cannot_be_written_holds_up_only_its_own_records(tmp_path: Path):
    (tmp_path / "other").write_text("no folder")
    backend = _backend(tmp_path)
    parts = (
        (b"a\n", facts(file="a")),
        (b"b\n", facts(file="b", attributes={"k8s.namespace.name": "other"})),
    )
    sender = backend.sender()

    answer = sender.attempt(batch(backend, *parts), seconds=20)
    sender.close()

    assert answer == Partly(retry=(1,), rejected=())
    assert _messages(tmp_path / HERE) == ["a"]


def test_workers_write_whole_batches_one_after_the_other(tmp_path: Path):
    backend = _backend(tmp_path, max_file_bytes=100_000, max_files=100)

    def work(number: int) -> None:
        sender = backend.sender()
        for turn in range(10):
            text = b"".join(b"%d %d %d\n" % (number, turn, line) for line in range(20))
            made = batch(backend, (text, facts(file=f"f{number}")))
            assert sender.attempt(made, seconds=20) == Delivered()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    backend.sender().close()

    messages = [
        message for path in (tmp_path / HERE).parent.iterdir() for message in _messages(path)
    ]
    assert len(messages) == len(set(messages)) == 3 * 10 * 20


def test_no_more_files_are_open_than_containers_written_to_lately(tmp_path: Path):
    backend = _backend(tmp_path)
    sender = backend.sender()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        of = facts(attributes={"k8s.pod.name": f"p{number}"})
        assert sender.attempt(batch(backend, (b"x\n", of)), seconds=20) == Delivered()

    open_now = len(os.listdir("/proc/self/fd")) - before
    sender.close()

    assert open_now <= 2 * 64
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", "a_b"),
        ("..", "_.."),
        (".hidden", "_.hidden"),
        ("a\nb\0", "a_b_"),
        ("x" * 300, "x" * 200),
    ],
)
def test_any_text_is_the_name_of_one_file(text: str, expected: str):
    assert file_name(text) == expected
