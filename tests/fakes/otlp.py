"""A collector that takes OTLP/HTTP logs in JSON by the letter: unknown members are refused.

Source: opentelemetry/proto/collector/logs/v1/logs_service.proto and what it imports; the JSON
mapping of protocol buffers (64-bit numbers as text, bytes in base64, members in lowerCamelCase).
"""

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.fakes.backend import Answer, Request, status

_UINT64 = re.compile(r"[0-9]{1,20}")
_INT64 = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Record:
    """One log record with its resource, attributes undone to Python values."""

    resource: Mapping[str, Any]
    attributes: Mapping[str, Any]
    body: str
    time: int
    observed: int
    severity: str | None
    severity_number: int


def _all(record: Record) -> bool:
    return True


@dataclass
class Collector:
    """The rule of a `tests.fakes.backend.Backend`."""

    takes: Callable[[Record], bool] = _all
    """Which records are stored; the others are a partial success."""
    records: list[Record] = field(default_factory=list)
    requests: int = 0
    resources: int = 0
    """`resourceLogs` in all requests."""
    violations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Answer:
        """Take one request."""
        with self._lock:
            self.requests += 1
            try:
                offered = parse_request(request)
                self.resources += request.text.count(b'"scopeLogs"')
            except (ValueError, KeyError, TypeError) as error:
                self.violations.append(repr(error))
                return status(400, body=b'{"code":3}')
            taken = [record for record in offered if self.takes(record)]
            self.records += taken
            refused = len(offered) - len(taken)
            partial = (
                {"rejectedLogRecords": str(refused), "errorMessage": "no"} if refused else None
            )
            body = orjson.dumps({"partialSuccess": partial} if partial else {})
            return Answer(headers=(("Content-Type", "application/json"),), body=body, stored=True)


def parse_request(request: Request) -> list[Record]:
    """Return the records of a request.

    Raises:
        ValueError, KeyError, TypeError: it is not as the protocol has it.
    """
    if (request.method, request.target) != ("POST", "/v1/logs"):
        raise ValueError(f"{request.method} {request.target}")
    if request.header("content-type") != "application/json":
        raise ValueError("content type")
    document = _members(orjson.loads(request.text), "resourceLogs")
    found = []
    for resource_logs in document["resourceLogs"]:
        _members(resource_logs, "resource", "scopeLogs", "schemaUrl")
        resource = _members(resource_logs["resource"], "attributes", "droppedAttributesCount")
        attributes = _attributes(resource.get("attributes", []))
        for scope_logs in resource_logs["scopeLogs"]:
            _members(scope_logs, "scope", "logRecords", "schemaUrl")
            _members(scope_logs["scope"], "name", "version", "attributes")
            found += [_record(record, attributes) for record in scope_logs["logRecords"]]
    return found


def _record(record: dict[str, Any], resource: Mapping[str, Any]) -> Record:
    _members(
        record,
        "timeUnixNano",
        "observedTimeUnixNano",
        "severityNumber",
        "severityText",
        "body",
        "attributes",
        "droppedAttributesCount",
        "flags",
        "traceId",
        "spanId",
    )
    for name in ("timeUnixNano", "observedTimeUnixNano"):
        if not _UINT64.fullmatch(record[name]):
            raise ValueError(name)
    number = record.get("severityNumber", 0)
    if not isinstance(number, int) or not 0 <= number <= 24:
        raise ValueError("severityNumber")
    return Record(
        resource=resource,
        attributes=_attributes(record["attributes"]),
        body=_any(record["body"]),
        time=int(record["timeUnixNano"]),
        observed=int(record["observedTimeUnixNano"]),
        severity=record.get("severityText"),
        severity_number=number,
    )


def _attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        _members(pair, "key", "value")
        if pair["key"] in found:
            raise ValueError(f"the attribute {pair['key']} stands twice")
        found[pair["key"]] = _any(pair["value"])
    return found


def _any(value: dict[str, Any]) -> Any:
    if not value:
        return None
    ((kind, inner),) = value.items()
    match kind:
        case "stringValue" if isinstance(inner, str):
            return inner
        case "boolValue" if isinstance(inner, bool):
            return inner
        case "intValue" if isinstance(inner, str) and _INT64.fullmatch(inner):
            return int(inner)
        case "doubleValue" if isinstance(inner, float):
            return inner
        case "bytesValue" if isinstance(inner, str):
            return base64.b64decode(inner, validate=True)
        case "arrayValue":
            return [_any(item) for item in _members(inner, "values").get("values", [])]
        case "kvlistValue":
            return _attributes(_members(inner, "values").get("values", []))
        case _:
            raise ValueError(f"value of {kind}")


def _members(value: Any, *allowed: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= set(allowed):
        raise ValueError(
            f"expected members of {allowed}, got {value if value is None else list(value)}"
        )
    return value
