"""What every test of the sidecar process stands on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sidecar.stage import Stage, staged


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage; at its end the process must have kept its books and its log must be JSON."""
    with staged(tmp_path.resolve()) as made:
        yield made
