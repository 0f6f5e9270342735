"""What is generated stands in the repository as the generator makes it."""

import pytest

from tests.generated import GENERATED, ROOT


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_a_generated_file_is_as_generated(name: str):
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run: make generated"
