"""Wire forms as data: what one record looks like at a backend, in literals and slots."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A wire form, filled in for one file: made once per file and backend."""
