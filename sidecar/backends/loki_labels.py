"""Which facts of a file are a Loki stream's labels, and which its entries' structured metadata."""

import re
from collections.abc import Collection, Mapping

from contract import record
from runtime.settings import ValueProblem
from sidecar.block import FileFacts
from sidecar.ndjson import json_text

MAX_LABELS = 15
"""Of a stream, as Loki has it by default; `service_name` does not count."""
_MAX_LABEL_BYTES = 2048
"""Of a label's value, as Loki has it by default."""

DEFAULT_LABELS = (
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "service.name",
    record.LOG_FILE_PATH,
)
_NO_LABELS = {"service_name": "unknown_service"}
"""Loki refuses a stream without labels; this is what it calls a service that it does not know."""


def parse_labels(value: object) -> tuple[str, ...]:
    """Return the names of the attributes that become labels.

    Raises:
        ValueProblem: it is no list of at most 15 names.
    """
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_LABELS
        or not all(isinstance(name, str) and name for name in value)
    ):
        raise ValueProblem(f"a list of at most {MAX_LABELS} attributes")
    return tuple(value)


def label_facts(facts: FileFacts, names: Collection[str]) -> tuple[bytes, bytes]:
    """Return a file's labels (never none) and its structured metadata.

    Both as the inside of a JSON object of strings, under names that Loki takes.

    Args:
        facts: of the file.
        names: the attributes that are labels; `fields.KEY` for one of the author's fields.
    """
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for name, value in _constants(facts).items():
        place = labels if name in names else metadata
        place.setdefault(loki_name(name), _cut(value) if place is labels else value)
    return _pairs(labels or _NO_LABELS), _pairs(metadata)


def loki_name(name: str) -> str:
    """Return `name` as a label's name: everything but letters, digits and `_` becomes `_`.

    >>> loki_name("k8s.pod.name"), loki_name("1st-try")
    ('k8s_pod_name', '_1st_try')
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return "_" + name if name[:1].isdigit() else name


def _constants(facts: FileFacts) -> dict[str, str]:
    """Return what all records of a file say alike; the author's fields are `fields.KEY`."""
    return {
        record.LOG_FILE_PATH: facts.path,
        **{
            name: value
            for name, value in facts.source.attributes.items()
            if loki_name(name) not in _OURS
        },
        **{f"fields.{name}": value for name, value in facts.source.fields.items()},
    }


_OURS = frozenset(
    loki_name(name)
    for name in (
        record.LOG_FILE_PATH,
        record.ID,
        record.OFFSET,
        record.SEVERITY,
        record.LOG_IOSTREAM,
        record.TRUNCATED,
        record.PARSE_ERROR,
        record.MESSAGE_RAW,
    )
)


def _pairs(values: Mapping[str, str]) -> bytes:
    return b",".join(json_text(name) + b":" + json_text(value) for name, value in values.items())


def _cut(value: str) -> str:
    return value.encode("utf-8", "replace")[:_MAX_LABEL_BYTES].decode("utf-8", "ignore")
