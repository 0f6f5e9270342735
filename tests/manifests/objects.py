"""The manifests as values: what each kustomization gives, and how a selector decides.

What is returned is shared: tests look at it and change nothing.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from manifests.build import BASE, HERE, INSTALL, render

Json = dict[str, Any]

OVERLAYS = sorted(path.parent for path in HERE.glob("overlays/*/kustomization.yaml"))
FOLDERS = [BASE, *OVERLAYS]
EXAMPLES = sorted(HERE.glob("examples/*.yaml"))

OF_OTHERS = {"Certificate", "Issuer", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds of cert-manager and of the Prometheus operator, which no schema here knows."""

SINCE = {"policy": 30, "match": 28}
"""Overlay → the minor version of Kubernetes that it needs; 25 for all others."""


def documents(path: Path) -> list[Json]:
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one is not None]


@cache
def installed() -> list[Json]:
    return documents(INSTALL)


def find(objects: list[Json], kind: str, name: str) -> Json:
    found = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)} of them"
    return found[0]


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [one for one in objects if one["kind"] == kind]


@cache
def rendered(name: str) -> list[Json]:
    """Return what overlay `name` gives; `base` is the base."""
    return render(BASE if name == "base" else HERE / "overlays" / name)


def selects(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector takes an object with these labels, as the API server does.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
    """
    given = selector or {}
    for key, value in given.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for row in given.get("matchExpressions", []):
        value = labels.get(row["key"])
        # NotIn takes what has no such label, too.
        taken = {
            "In": value in row.get("values", []),
            "NotIn": value not in row.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[row["operator"]]
        if not taken:
            return False
    return True


def pod_templates(objects: list[Json]) -> list[tuple[str, Json]]:
    return [
        (f"{one['kind']} {one['metadata']['name']}", one["spec"]["template"])
        for one in objects
        if one["kind"] == "Deployment"
    ]
