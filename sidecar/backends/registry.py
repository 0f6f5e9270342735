"""The backends by type: a type is a row of BACKEND_TYPES and the module of its name here.

A module is imported only when a configuration names it.
"""

import importlib
from types import ModuleType

from contract.sidecar_config import BACKEND_TYPES
from runtime.settings import Key


def backend_module(backend_type: str) -> ModuleType:
    """Return the module of a type: it has `OPTIONS`, `SCHEMES` and `open_backend`.

    Raises:
        ValueError: there is no such type.
    """
    if backend_type not in BACKEND_TYPES:
        raise ValueError(f"backend type: got {backend_type!r}, expected one of {BACKEND_TYPES}")
    return importlib.import_module(f"sidecar.backends.{backend_type}")


def option_keys(backend_type: str) -> tuple[Key, ...]:
    """Return the options that only this type has."""
    keys: tuple[Key, ...] = backend_module(backend_type).OPTIONS
    return keys


def url_schemes(backend_type: str) -> tuple[str, ...]:
    """Return the schemes that this type's `url` may have; empty where it takes no `url`."""
    schemes: tuple[str, ...] = backend_module(backend_type).SCHEMES
    return schemes
