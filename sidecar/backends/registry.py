"""The backends by type: one row each. A module is imported only when a configuration names it."""

import importlib
from types import ModuleType

from runtime.settings import Key

_MODULES = {
    "http": "sidecar.backends.http",
    "loki": "sidecar.backends.loki",
    "elasticsearch": "sidecar.backends.elasticsearch",
    "otlp": "sidecar.backends.otlp",
    "forward": "sidecar.backends.forward",
    "syslog": "sidecar.backends.syslog",
    "kafka": "sidecar.backends.kafka",
    "file": "sidecar.backends.file",
    "stdout": "sidecar.backends.stdout",
}


def backend_module(backend_type: str) -> ModuleType:
    """Return the module of a type: it has `OPTIONS`, `SCHEMES` and `open_backend`."""
    return importlib.import_module(_MODULES[backend_type])


def option_keys(backend_type: str) -> tuple[Key, ...]:
    """Return the options that only this type has."""
    keys: tuple[Key, ...] = backend_module(backend_type).OPTIONS
    return keys


def url_schemes(backend_type: str) -> tuple[str, ...]:
    """Return the schemes that this type's `url` may have; empty where it takes no `url`."""
    schemes: tuple[str, ...] = backend_module(backend_type).SCHEMES
    return schemes
