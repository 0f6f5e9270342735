"""install.yaml: generated, whole, in order, and without any secret."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from contract import VERSION
from contract.names import CONFIG_MAP
from manifests.build import HERE, INSTALL, BuildError, installation, main, render
from tests.kube import kube_binaries
from tests.manifests.objects import FOLDERS, Json, find, installed, of_kind, rendered
from webhook.config_keys import DEFAULT_IMAGE

CLUSTER_WIDE = {
    "Namespace", "ClusterRole", "ClusterRoleBinding",
    "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
}  # fmt: skip


def test_it_is_what_the_base_gives() -> None:
    assert INSTALL.read_text("utf-8") == installation()
    assert installed() == rendered("base")


def test_the_webhooks_come_first_so_that_deleting_the_file_takes_them_first() -> None:
    kinds = [one["kind"] for one in installed()]

    assert kinds[:2] == ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]


def test_the_namespace_comes_before_all_that_stands_in_it_and_the_pods_come_last() -> None:
    kinds = [one["kind"] for one in installed()]
    inside = [index for index, kind in enumerate(kinds) if kind not in CLUSTER_WIDE]

    assert kinds.index("Namespace") < min(inside)
    assert kinds[-1] == "Deployment"


@pytest.mark.parametrize("folder", [folder.name for folder in FOLDERS])
def test_no_file_holds_a_key_a_ca_bundle_or_a_token(folder: str) -> None:
    assert not list(places_of("caBundle", rendered(folder)))
    assert not list(places_of("stringData", rendered(folder)))
    assert not of_kind(rendered(folder), "Secret")


def places_of(name: str, value: object) -> Iterator[object]:
    """Yield each value under a key of that name, at any depth."""
    if isinstance(value, list):
        for one in value:
            yield from places_of(name, one)
    elif isinstance(value, dict):
        yield from (one for key, one in value.items() if key == name)
        for one in value.values():
            yield from places_of(name, one)


def test_no_file_of_this_folder_holds_a_key_or_a_ca_bundle() -> None:
    for path in HERE.rglob("*.yaml"):
        text = path.read_text("utf-8")

        assert not re.search(r"^\s*caBundle:", text, re.MULTILINE), path
        assert "BEGIN" not in text, path


@pytest.mark.parametrize("folder", [folder.name for folder in FOLDERS])
def test_images_are_those_of_make_images_in_the_version_of_this_release(folder: str) -> None:
    objects = rendered(folder)
    config = yaml.safe_load(find(objects, "ConfigMap", CONFIG_MAP)["data"]["config.yaml"])

    assert set(places_of("image", objects)) == {f"registry.example/sidetail-webhook:{VERSION}"}
    assert config["image"] == DEFAULT_IMAGE


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_overlay_gives_each_object_once(folder: Path) -> None:
    names = [
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"])
        for one in render(folder)
    ]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kustomize_gives_the_same(folder: Path) -> None:
    given = kustomize(folder)

    assert sorted(given, key=key) == sorted(render(folder), key=key)


def kustomize(folder: Path) -> list[Json]:
    binaries = kube_binaries()
    kubectl = str(binaries / "kubectl") if binaries else shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl, whose kustomize this compares with")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": "/nonexistent", "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def key(one: Json) -> tuple[str, str, str]:
    return one["kind"], one["metadata"]["name"], one["metadata"].get("namespace", "")


def test_the_command_prints_a_folder_and_refuses_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(HERE / "overlays" / "ha")]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == rendered("ha")

    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    assert main([str(tmp_path)]) == 1
    assert "namePrefix" in capsys.readouterr().err
    assert main([str(tmp_path / "none")]) == 1


def test_the_check_sees_a_stale_file() -> None:
    assert main(["--check"]) == 0


@pytest.mark.parametrize(
    "patch",
    [
        {"target": {"kind": "Deployment", "name": "other"}, "patch": "[]"},
        {"patch": "{$patch: delete, kind: Role, metadata: {name: other}}"},
        {"patch": "{kind: Deployment, metadata: {name: x}, spec: {replicas: 9}}"},
    ],
    ids=["no-target", "nothing-to-delete", "strategic"],
)
def test_a_patch_that_fits_nothing_is_refused(tmp_path: Path, patch: Json) -> None:
    (tmp_path / "one.yaml").write_text("kind: Deployment\nmetadata: {name: x}\n")
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["one.yaml"], "patches": [patch]})
    )

    with pytest.raises(BuildError):
        render(tmp_path)
