"""The C files under AddressSanitizer and UndefinedBehaviorSanitizer, fed with hostile input."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from sidecar.transform.severity import SPELLINGS

SOURCE = Path(__file__).with_name("native_fuzz.c")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c11", "-g", "-Wall", "-Wextra", "-Werror")


def compiled(target: Path, *flags: str) -> Path:
    """Compile the harness, or skip where the compiler (or its sanitizers) is not there."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    probe = target.with_suffix(".probe.c")
    probe.write_text("int main(void) { return 0; }\n")
    command = [compiler, *SANITIZERS, "-o", str(target), str(probe)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the C compiler has no sanitizers here")
    command = [compiler, *FLAGS, *SANITIZERS, *flags, "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True)
    return target


def fuzz(tmp_path: Path, rounds: int, *flags: str) -> None:
    program = compiled(tmp_path / "native_fuzz", *flags)
    spellings = tmp_path / "spellings"
    spellings.write_bytes(SPELLINGS)
    seed = random.randrange(2**32)
    environ = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # no ptrace in a container
    ran = subprocess.run(
        [str(program), str(seed), str(rounds), str(spellings)],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )

    assert ran.returncode == 0, f"seed {seed}\n{ran.stderr[:4000]}"
    assert ran.stdout == f"{rounds} rounds\n"


@pytest.mark.parametrize("flag", ["-O1", "-DSIDETAIL_PORTABLE"])
def test_hostile_input_never_reads_or_writes_beyond_what_was_promised(tmp_path: Path, flag: str):
    fuzz(tmp_path, 1000, flag)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("flag", ["-O2", "-DSIDETAIL_PORTABLE"])
def test_hostile_input_for_long(tmp_path: Path, flag: str):
    fuzz(tmp_path, 300_000, flag)
