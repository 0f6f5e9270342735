"""What every test of the mirror stands on."""

from pathlib import Path

import pytest

from tests.integration.mirror.support import Mirror, build


@pytest.fixture(scope="session")
def program() -> Path:
    """The real program, built for this machine."""
    return build("sidetail-mirror")


@pytest.fixture
def mirror(program: Path, tmp_path: Path) -> Mirror:
    volume = tmp_path / "volume"
    volume.mkdir()
    return Mirror(program, volume / "app.log")
