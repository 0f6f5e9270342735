"""The environment that a `subPathExpr` needs, so that the sidecar can carry the same mount.

Source: kubelet, `$(NAME)` is replaced, `$$` is a dollar; design V9.
"""

import re
from collections.abc import Mapping
from typing import Any

from webhook.pod import Container

Row = dict[str, Any]
"""One `env[]` of a container."""

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
_CONTAINER_FIELDS = "resourceFieldRef"
_SOURCES = frozenset({"fieldRef", _CONTAINER_FIELDS, "configMapKeyRef", "secretKeyRef"})


def references(text: str) -> list[str]:
    """Return the names that the kubelet replaces in `text`.

    >>> references("$(A)/$$(B)/$(C)")
    ['A', 'C']
    """
    return [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]


def rename_references(text: str, names: Mapping[str, str]) -> str:
    """Return `text` with `$(OLD)` replaced by `$(NEW)`."""

    def replace(match: re.Match[str]) -> str:
        return f"$({names[match[1]]})" if match[1] in names else match[0]

    return _REFERENCE.sub(replace, text)


def needed_environment(container: Container, expression: str) -> tuple[Row, ...] | str:
    """Return the rows of `env[]` that `expression` needs, in their order, or a missing name.

    Missing are names that come from `envFrom`, from files or from services: a copy could not
    be sure to have the same value.
    """
    rows = _rows(container)
    needed: set[str] = set()
    todo = references(expression)
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        if name not in rows or not _is_copyable(rows[name]):
            return name
        needed.add(name)
        todo += references(_value(rows[name]))
    return tuple(_copied(row, container.name) for name, row in rows.items() if name in needed)


def _rows(container: Container) -> dict[str, Row]:
    """Return the environment by name; of two rows of one name the last one holds."""
    listed = container.raw.get("env")
    rows: dict[str, Row] = {}
    for row in listed if isinstance(listed, list) else ():
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            rows.pop(row["name"], None)
            rows[row["name"]] = row
    return rows


def _value(row: Row) -> str:
    value = row.get("value")
    return value if isinstance(value, str) else ""


def _is_copyable(row: Row) -> bool:
    source = row.get("valueFrom")
    if source is None:
        return True
    return isinstance(source, dict) and len(source) == 1 and set(source) <= _SOURCES


def _copied(row: Row, container: str) -> Row:
    source = row.get("valueFrom")
    if not isinstance(source, dict) or _CONTAINER_FIELDS not in source:
        return row
    reference = source[_CONTAINER_FIELDS]
    if not isinstance(reference, dict) or reference.get("containerName"):
        return row
    # Without a name it would speak of our own container there.
    return {**row, "valueFrom": {_CONTAINER_FIELDS: {**reference, "containerName": container}}}
