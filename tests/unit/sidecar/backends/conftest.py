"""Both ways of encoding, for every test that asks."""

from collections.abc import Iterator

import pytest

from sidecar.native import ENCODER_ENV, library


@pytest.fixture(params=["native", "wheels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Encode by the C function, then by the wheels."""
    library.cache_clear()
    if request.param == "wheels":
        monkeypatch.setenv(ENCODER_ENV, "python")
    elif library() is None:
        pytest.skip("the encoder was not built: make encoder")
    yield request.param
    library.cache_clear()
