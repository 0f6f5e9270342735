"""Reads YAML and JSON strictly: what an operator or an author wrote, never an object of Python."""

from typing import Any

import yaml

_MAX_DEPTH = 16


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # the C loader where there is one
    """The safe loader, but a key that stands twice in an object is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's signature
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value) and not any(
            key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value
        ):
            raise yaml.constructor.ConstructorError(
                None, None, "a key stands twice", node.start_mark
            )
        return mapping


def load_yaml(text: str) -> Any:
    """Return what one YAML (or JSON) document of an operator holds.

    Raises:
        ValueError: it cannot be read; the text says where and why.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - it is a safe loader
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{_place(error)}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(type(error).__name__) from None


class _ManifestLoader(_StrictLoader):
    """Reads a manifest as kubectl does: a date stays the text it is."""


_ManifestLoader.yaml_implicit_resolvers = {
    character: [(tag, regex) for tag, regex in resolvers if not tag.endswith(":timestamp")]
    for character, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}


def load_manifests(text: str) -> list[Any]:
    """Return the objects of a manifest: YAML or JSON, one document or many.

    Raises:
        ValueError: it cannot be read; the text says where and why.
    """
    try:
        return list(yaml.load_all(text, Loader=_ManifestLoader))
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{_place(error)}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(type(error).__name__) from None


def dump_manifests(documents: list[Any]) -> str:
    """Return the objects as YAML, their keys in the order they came in."""
    return yaml.safe_dump_all(documents, sort_keys=False, width=100, allow_unicode=True)


def load_untrusted_yaml(text: str) -> Any:
    """Return what a short YAML text of anybody holds.

    The C parser recurses on the stack of its thread; the Python one fails in good order, but
    takes time that grows with the square of the nesting.

    Raises:
        ValueError: it is too deep, or cannot be read; the text shows nothing of it.
    """
    if _depth(text) > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_place(error) + "not YAML") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ValueError("not YAML") from None


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
