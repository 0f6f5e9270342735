"""What the images carry: one small static program for each machine."""

import importlib.util
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mirror.support import LONG, MIRROR_SOURCES, Mirror, build

MACHINES = {"amd64": (62, "x86_64"), "arm64": (183, "aarch64")}
LARGEST = 100 * 1024


def _segments(image: bytes) -> list[tuple[int, int]]:
    """Return type and flags of an ELF file's program headers."""
    (offset,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    return [struct.unpack_from("<II", image, offset + i * size) for i in range(count)]


def _check(image: bytes, machine: int) -> None:
    load, dynamic, interpreter = 1, 2, 3
    executable, writable = 1, 2

    assert image[:6] == b"\x7fELF\x02\x01"
    assert struct.unpack_from("<H", image, 18) == (machine,)
    assert not {kind for kind, _ in _segments(image)} & {dynamic, interpreter}, "it is static"
    flags = [flags for kind, flags in _segments(image) if kind == load]
    assert all(not (each & executable and each & writable) for each in flags)
    assert len(image) < LARGEST


def test_the_program_of_this_machine_is_small_and_static(program: Path) -> None:
    machine = next(number for number, name in MACHINES.values() if name == platform.machine())
    _check(program.read_bytes(), machine)


@pytest.fixture(scope="module", params=list(MACHINES))
def crossed(request: pytest.FixtureRequest) -> tuple[str, Path]:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: it builds the mirror for other machines")
    return request.param, build(f"sidetail-mirror-{request.param}", f"PYTHON={sys.executable}")


def test_the_programs_of_all_machines_are_small_and_static(crossed: tuple[str, Path]) -> None:
    name, program = crossed

    _check(program.read_bytes(), MACHINES[name][0])


def test_the_programs_of_all_machines_work(crossed: tuple[str, Path], tmp_path: Path) -> None:
    name, program = crossed
    machine = MACHINES[name][1]
    emulator = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    if machine != platform.machine():
        if emulator is None:
            pytest.skip(f"no emulator for {machine}")
        wrapper = tmp_path / "emulated"
        wrapper.write_text(f'#!/bin/sh\nexec {emulator} {program} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        program = wrapper
    mirror = Mirror(program, tmp_path / "app.log")
    source = tmp_path / "source"
    source.write_bytes(b"".join(b"line %d\n" % i for i in range(100_000)))

    done = mirror.sh(f"cat {source}; echo err >&2; kill -TERM $$", flags=("--max-bytes", "9999999"))
    assert done.code == 143
    assert done.stdout == source.read_bytes()
    assert b"\n".join(done.of("stdout")) + b"\n" == source.read_bytes()
    assert done.of("stderr") == [b"err"]
    large = mirror.run("cat", stdin=b"z" * 100_000, flags=("--max-files", "1"))
    assert large.of("stdout")[-1] == b"z" * 100_000
    prepared = subprocess.run(
        [program, "--init", "--mkdir", tmp_path / "a" / "b", "--install", tmp_path / "copy"],
        capture_output=True, timeout=LONG, check=False,
    )  # fmt: skip
    assert (prepared.returncode, prepared.stderr) == (0, b"")
    assert (tmp_path / "a" / "b").is_dir()


def test_two_builds_at_once_do_not_disturb_each_other(program: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mirror"
    shutil.copytree(MIRROR_SOURCES, copy, ignore=shutil.ignore_patterns("build"))
    builds = [subprocess.Popen(["make", "-s", "-C", copy]) for _ in range(2)]

    assert [one.wait(LONG) for one in builds] == [0, 0]
    assert (copy / "build" / "sidetail-mirror").read_bytes() == program.read_bytes()
    assert [path.name for path in (copy / "build").iterdir()] == ["sidetail-mirror"]
