"""The mirror as process 1 of a PID namespace, as in a container."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.mirror import inside
from tests.integration.mirror.test_volume import play


@pytest.mark.parametrize("scene", inside.AS_FIRST_PROCESS, ids=lambda scene: scene.__name__)
def test_first_process(scene: Callable[[Path], None], program: Path) -> None:
    play(scene, program)
