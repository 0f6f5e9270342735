"""Real servers are slow to start: one of each kind for all its tests; every test is `servers`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backends.conftest import Trust, make_trust
from tests.integration.backends.scene import Scene


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A folder of logs and a sidecar."""
    made = Scene(tmp_path.resolve())
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """Certificates for 127.0.0.1."""
    return make_trust(tmp_path_factory.mktemp("trust"), "127.0.0.1", "localhost")


@pytest.fixture(autouse=True)
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Show what a test says (server, version, lines) though it passes."""
    yield
    text = capsys.readouterr().out
    with capsys.disabled():
        print(text, end="", flush=True)
