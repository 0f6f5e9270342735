"""What author, namespace and operator can choose for a pod, each choice with its parser."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.annotations import (
    ANNOTATIONS,
    DEFAULT_EXCLUDE,
    REDACT,
    default_name,
)
from webhook import values
from webhook.values import Parser, Stdout


@dataclass(frozen=True, slots=True)
class Choices:
    """One value for every annotation that has a default; the built-in ones stand here."""

    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    stdout: Stdout = "off"
    backend: tuple[str, ...] = ()
    format: str = "text"
    multiline: str = "none"
    keep: str | None = None
    drop: str | None = None
    redact: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    collector: str = "sidecar"
    native: str = "auto"
    seed: bool = False
    size_limit: str = "4Gi"
    """A quantity, as it was written."""
    clean_above: int | None = None
    """Bytes; None never deletes."""
    max_rate: int | None = None
    """Bytes per second; None has no limit."""
    cpu_request: str | None = None
    """The figures are None where the operator's hold: `OperatorConfig.requests` and `limits`."""
    cpu_limit: str | None = None
    memory_request: str | None = None
    memory_limit: str | None = None
    log_level: str = "info"
    metrics_port: int | None = None


PARSERS: Mapping[str, Parser] = {
    "exclude": values.parse_exclude,
    "stdout": values.parse_stdout,
    "backend": values.parse_names,
    "format": values.parse_format,
    "multiline": values.parse_multiline,
    "keep": values.parse_pattern_or_none,
    "drop": values.parse_pattern_or_none,
    "redact": values.parse_names_or_none,
    "fields": values.parse_fields,
    "collector": values.parse_collector,
    "native": values.parse_native,
    "seed": values.parse_seed,
    "size_limit": values.parse_size_limit,
    "clean_above": values.parse_clean_above,
    "max_rate": values.parse_max_rate,
    "cpu_request": values.parse_cpu,
    "cpu_limit": values.parse_cpu,
    "memory_request": values.parse_memory_request,
    "memory_limit": values.parse_memory_limit,
    "log_level": values.parse_log_level,
    "metrics_port": values.parse_port,
}
"""By the name under which `defaults` of the operator config holds the value."""

CHOICES = tuple(
    (annotation.key, default_name(annotation.key), annotation.protects)
    for annotation in ANNOTATIONS
    if annotation.in_defaults and annotation.key != REDACT
)
"""(annotation, name, whether it protects) of those where one value holds, not their sum."""
