"""Renders a kustomization of this folder without kustomize: `python -m manifests.build [FOLDER]`.

In: a folder with a `kustomization.yaml` that uses what ours use. Out: its objects as YAML, on
stdout. `--write` puts `base/` into install.yaml, `--check` says whether that stands there already.
So that `make test` needs no kubectl; a test holds this and `kubectl kustomize` together.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
BASE = HERE / "base"
INSTALL = HERE / "install.yaml"

HEADER = """\
# Sidetail, installed by one file: made from manifests/base by `make generated`; change it there.
# Holds what Kubernetes 1.25 knows, no key, and no caBundle: the webhook makes its own.
# To uninstall: kubectl delete -f install.yaml (in this order: the webhooks go first).
"""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast."""

KNOWN_KEYS = {
    "apiVersion", "kind", "resources", "components", "patches", "configMapGenerator"
}  # fmt: skip


class BuildError(Exception):
    """A kustomization that asks for something this program does not do."""


def render(folder: Path) -> list[Json]:
    """Return the objects of the kustomization in `folder`, in the order its files have them.

    Raises:
        BuildError: it uses a feature that is not known here, or a patch that fits nothing.
        OSError, yaml.YAMLError: a file cannot be read.
    """
    return _apply(folder, [])


def installation() -> str:
    """Return install.yaml: the files of `base/` as they are, comments included."""
    parts = [(BASE / name).read_text("utf-8") for name in _kustomization(BASE)["resources"]]
    return HEADER + "".join(f"---\n{part.removeprefix('---').strip()}\n" for part in parts)


def _apply(folder: Path, objects: list[Json]) -> list[Json]:
    """Return `objects` after the resources, components and patches of `folder`."""
    kustomization = _kustomization(folder)
    objects = list(objects)
    for name in kustomization.get("resources", []):
        path = folder / name
        objects += _apply(path, []) if path.is_dir() else _load(path.read_text("utf-8"))
    for generator in kustomization.get("configMapGenerator", []):
        objects.append(_config_map(folder, generator))
    # As kustomize does it: components change what the resources gave, patches come last.
    for name in kustomization.get("components", []):
        objects = _apply(folder / name, objects)
    for patch in kustomization.get("patches", []):
        objects = _patched(objects, patch)
    return objects


def _kustomization(folder: Path) -> Json:
    found = _load((folder / "kustomization.yaml").read_text("utf-8"))[0]
    unknown = set(found) - KNOWN_KEYS
    if unknown:
        raise BuildError(f"{folder.name}: got {sorted(unknown)}, expected {sorted(KNOWN_KEYS)}")
    return dict(found)


def _load(text: str) -> list[Any]:
    documents = yaml.load_all(text, _LOADER)  # both loaders make plain values only
    return [document for document in documents if document is not None]


def _config_map(folder: Path, generator: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": generator["name"],
            "namespace": generator["namespace"],
            "labels": generator["options"]["labels"],
        },
        "data": {name: (folder / name).read_text("utf-8") for name in generator["files"]},
    }


def _patched(objects: list[Json], row: Json) -> list[Json]:
    patch = _load(row["patch"])[0]
    if isinstance(patch, dict):
        if patch.get("$patch") != "delete":
            raise BuildError("a patch: got a strategic one, expected a list of operations")
        return _without(objects, _identity(patch))
    target = (row["target"]["kind"], row["target"]["name"])
    hits = [one for one in objects if _identity(one)[:2] == target]
    if not hits:
        raise BuildError(f"a patch: got the target {target}, expected an object that is there")
    operations = jsonpatch.JsonPatch.from_string(json.dumps(patch))
    changed: dict[int, Any] = {id(one): operations.apply(one) for one in hits}
    return [changed.get(id(one), one) for one in objects]


def _without(objects: list[Json], identity: tuple[str, str, str | None]) -> list[Json]:
    left = [one for one in objects if _identity(one) != identity]
    if len(left) == len(objects):
        raise BuildError(f"a patch: got {identity} to delete, expected an object that is there")
    return left


def _identity(one: Json) -> tuple[str, str, str | None]:
    metadata = one["metadata"]
    return one["kind"], metadata["name"], metadata.get("namespace")


def _shown(objects: Sequence[Json]) -> Iterator[str]:
    for one in objects:
        yield "---\n" + yaml.safe_dump(one, sort_keys=False, allow_unicode=True, width=100)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if install.yaml is not what it should be."""
    parser = argparse.ArgumentParser(prog="python -m manifests.build", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=BASE)
    parser.add_argument("--write", action="store_true", help="write install.yaml from base/")
    parser.add_argument("--check", action="store_true", help="compare install.yaml with base/")
    options = parser.parse_args(arguments)
    if options.write:
        INSTALL.write_text(installation(), "utf-8")
    elif options.check:
        if not INSTALL.exists() or INSTALL.read_text("utf-8") != installation():
            sys.stderr.write("manifests/install.yaml is not what manifests/base gives\n")
            return 1
    else:
        try:
            sys.stdout.writelines(_shown(render(options.folder)))
        except (BuildError, OSError, yaml.YAMLError) as error:
            sys.stderr.write(f"manifests.build: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
