"""One row of a table of settings: the tables give the parser, the errors and the reference page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()
"""The default of a key that has none."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the document."""

    name: str
    parse: Callable[[object], Any]
    """Returns the value, or raises ValueProblem with what was expected."""
    default: object
    """As written in a document; REQUIRED where there is none."""
    sentence: str
    """What it means, with its unit."""
