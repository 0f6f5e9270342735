"""The rules of the house hold: layers, the pinned environment, what a machine may lack."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_PACKAGES = ("contract", "runtime", "webhook", "sidecar", "certs", "demo")


def _lint_imports(folder: Path) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [program, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "line", "kept"),
    [
        ("webhook/plan.py", "", True),
        ("webhook/plan.py", "import sidecar.batch\n", False),
        ("sidecar/batch.py", "import webhook.plan\n", False),
        ("webhook/plan.py", "import webhook.patch\n", False),
        ("webhook/pod.py", "import random\n", False),
        ("runtime/stop.py", "import contract\nimport certs.issue\n", False),
        ("contract/names.py", "import flask\n", False),
    ],
    ids=[
        "as-it-is",
        "webhook-sidecar",
        "sidecar-webhook",
        "backwards",
        "impure",
        "runtime-certs",
        "contract-flask",
    ],
)
def test_the_import_contracts_hold_and_fail_when_an_import_breaks_them(
    tmp_path: Path, module: str, line: str, kept: bool
):
    for package in _PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(line)

    done = _lint_imports(tmp_path)

    assert (done.returncode == 0) is kept, done.stdout + done.stderr


def test_every_requirement_is_hashed_and_names_no_index():
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        pins = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]

        assert pins
        assert all(line.endswith("\\") for line in pins), path
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text


def test_every_dependency_of_the_project_is_among_the_pinned_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / "requirements" / "dev.txt").read_text()
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    wanted = [re.split(r"[<>=!~;[ ]", requirement)[0] for requirement in requirements]

    assert [name for name in wanted if f"\n{name}==" not in f"\n{pinned}"] == []


def _make_environment(python: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", str(ROOT / ".ci" / "python"), python, str(folder), "none.txt"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_is_too_old_is_one_clear_line(tmp_path: Path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)

    done = _make_environment(str(old), tmp_path / "venv")

    assert done.returncode == 2
    assert "is Python 3.9.2: set PYTHON=" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_python_at_all_is_one_clear_line(tmp_path: Path):
    done = _make_environment("python-that-is-not-here", tmp_path / "venv")

    assert done.returncode == 2
    assert "install Python 3.11 or newer" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_one_clear_line(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0o500)

    done = _make_environment(sys.executable, tmp_path / "closed" / "venv")

    assert done.returncode == 2
    assert "cannot write to" in done.stderr


def test_documents_link_only_to_what_is_there():
    missing = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for part in path.read_text(encoding="utf-8").split("](")[1:]:
            target = part.partition(")")[0].partition("#")[0]
            if target and "://" not in target and not (path.parent / target).exists():
                missing.append(f"{path.relative_to(ROOT)}: {target}")

    assert not missing, missing
