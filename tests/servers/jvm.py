"""Servers on a plain JVM: their published artifacts are fetched by Maven, then started."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.programs import program

HERE = Path(__file__).resolve().parent
FETCH_SECONDS = 200
"""For each server; all of them must fit into a few minutes."""


def java() -> str:
    """Return the path of a JVM, 17 or newer; skip without one."""
    found = program("java")
    run = subprocess.run([found, "-version"], capture_output=True, text=True, check=True)
    number = run.stderr.partition('"')[2].partition('"')[0].partition(".")[0]
    if not number.isdigit() or int(number) < 17:
        pytest.skip(f"the JVM here is too old: {run.stderr.splitlines()[0]}")
    return found


@contextlib.contextmanager
def class_path(name: str, folder: Path) -> Iterator[str]:
    """Fetch the artifacts that `name/pom.xml` lists; give them as a class path while needed.

    What Maven has fetched once it keeps in its own cache; nothing else stays behind in `folder`.
    """
    maven = program("mvn")
    target = folder / "lib"
    command = [
        maven,
        "--quiet",
        "--batch-mode",
        f"--file={HERE / name / 'pom.xml'}",
        "dependency:copy-dependencies",
        f"-DoutputDirectory={target}",
    ]
    try:
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=FETCH_SECONDS, cwd=folder
        )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the artifacts of {name} cannot be had here: {error.stdout[-500:]}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"the artifacts of {name} are not here within {FETCH_SECONDS} s")
    try:
        yield f"{target}/*"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
