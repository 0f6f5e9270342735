"""What every test of the webhook process stands on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhook_process import Webhook, running


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """A webhook for all tests of a module that do not change what it does for the others."""
    with running(tmp_path_factory.mktemp("webhook"), flags=["--log-level", "debug"]) as process:
        yield process


@pytest.fixture
def own_webhook(tmp_path: Path) -> Iterator[Webhook]:
    """A webhook for one test, to be stopped, starved and so on."""
    with running(tmp_path) as process:
        yield process
