"""What goes into an image's root folder, and what does not."""

from pathlib import Path

import pytest

from images import root


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("json/decoder.py", True),
        ("lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", True),
        ("lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so", False),
        ("unittest/case.py", False),
        ("somebody/unittest/case.py", True),
        ("somebody/tests/test_it.py", False),
        ("somebody/__pycache__/it.cpython-311.pyc", False),
        ("config-3.11-aarch64-linux-gnu/libpython3.11.a", False),
        ("config-3.13-x86_64-linux-gnu/Makefile", False),
        ("kubernetes/config/kube_config.py", True),
        ("kubernetes/aio/client/api_client.py", False),
        ("aiohttp/client.py", False),
        ("pdb.py", False),
        ("pydoc.py", True),
    ],
)
def test_tests_tools_and_halves_that_nothing_imports_stay_outside(
    tmp_path: Path, name: str, kept: bool
):
    source = tmp_path / "source" / name
    source.parent.mkdir(parents=True)
    source.write_text("x")

    root._copy_tree(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / name).exists() == kept
