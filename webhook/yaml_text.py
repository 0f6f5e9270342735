"""Reads YAML and JSON strictly: what an operator or an author wrote, never an object of Python."""

from typing import Any

import yaml


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
    """Return what one YAML (or JSON) document holds.

    Raises:
        ValueError: it cannot be read; the text says where, without showing the document.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - it is the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(type(error).__name__) from None
