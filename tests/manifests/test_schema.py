"""Every object against the API's own schema, on the oldest and the newest Kubernetes."""

from pathlib import Path

import kubernetes_validate
import pytest

from tests.manifests.objects import (
    EXAMPLES,
    FOLDERS,
    OF_OTHERS,
    SINCE,
    Json,
    documents,
    installed,
    rendered,
)

OLDEST, NEWEST = 25, 37


def check(objects: list[Json], minor: int) -> int:
    """Validate all objects; return how many a schema knew."""
    known = [one for one in objects if one["kind"] not in OF_OTHERS]
    for one in known:
        kubernetes_validate.validate(one, f"1.{minor}", strict=True)
    return len(known)


@pytest.mark.parametrize("minor", [OLDEST, NEWEST])
def test_install_yaml_is_what_the_api_knows(minor: int) -> None:
    assert check(installed(), minor) == 13


@pytest.mark.parametrize("folder", [folder.name for folder in FOLDERS])
def test_each_overlay_is_what_the_api_knows_from_the_version_that_it_needs(folder: str) -> None:
    objects = rendered(folder)

    assert check(objects, SINCE.get(folder, OLDEST)) >= 11
    assert check(objects, NEWEST) >= 11


@pytest.mark.parametrize(("folder", "minor"), [("match", 26), ("policy", 29)])
def test_an_older_kubernetes_does_not_know_what_an_overlay_needs(folder: str, minor: int) -> None:
    # 1.27 knows matchConditions as alpha, behind a switch.
    with pytest.raises(
        (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)
    ):
        check(rendered(folder), minor)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("minor", [OLDEST, NEWEST])
def test_each_example_is_what_the_api_knows(example: Path, minor: int) -> None:
    assert check(documents(example), minor) == 1


def test_a_mistake_would_be_found() -> None:
    broken = documents(EXAMPLES[0])
    broken[0]["spec"]["unknownField"] = 1

    with pytest.raises(kubernetes_validate.ValidationError):
        check(broken, NEWEST)
