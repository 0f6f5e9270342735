"""`otlp`: OpenTelemetry's protocol for logs over HTTP, in JSON.

What all records of a source say alike is its resource, once in a request; the rest are the
record's attributes. A server that takes only part of a request says how many it did not take
and not which: those are counted and, as the protocol has it, not sent again.

Source: OTLP Specification 1.5, "OTLP/HTTP"; opentelemetry/proto/logs/v1/logs.proto; semantic
conventions 1.30 for logs.
"""

import re
from typing import Any

import orjson

from contract import VERSION, record
from runtime.settings import Key, ValueProblem
from sidecar.backends.answers import Answer, Backend, Delivered, LeftOut, Sender
from sidecar.backends.groups import split
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.http_sender import HttpSender
from sidecar.backends.http_wire import HEADERS, HttpWire, target_of
from sidecar.backends.templated import MAX_TEMPLATES, TemplateEncoder
from sidecar.batch import Batch, Part, Piece
from sidecar.block import FileFacts
from sidecar.ndjson import json_text
from sidecar.settings import BackendSettings, Settings, Source
from sidecar.wire import (
    Clock,
    IoStream,
    Message,
    Offset,
    Parsed,
    ParseError,
    RawMessage,
    ReadAt,
    Severity,
    Template,
    Time,
    Truncated,
)

SCHEMES = ("http", "https")
PATH = "/v1/logs"

_SEVERITY_NUMBERS = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
PARTIAL_SUCCESS = "partial_success"
"""Why a line was dropped: the server left it out of a request that it took."""


def parse_header_name(value: object) -> str:
    """Return the name of a header.

    Raises:
        ValueProblem: it is no token, or a header of the protocol itself.
    """
    if (
        not isinstance(value, str)
        or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value, re.ASCII)
        or value.lower().startswith(("content-", "transfer-"))
        or value.lower() in ("host", "connection", "expect", "upgrade")
    ):
        raise ValueProblem("a header's name of letters, digits, '-' and '_'")
    return value


OPTIONS = (
    Key(
        "key_header",
        parse_header_name,
        "X-API-Key",
        "The header that carries `api-key` of the credentials folder.",
    ),
    HEADERS,
)


def open_backend(backend: BackendSettings, settings: Settings) -> Backend:
    """Return the backend that `backend` describes."""
    del settings
    return OtlpBackend(backend)


class OtlpBackend(TemplateEncoder):
    """An OpenTelemetry collector, or what speaks its protocol."""

    def __init__(self, settings: BackendSettings) -> None:
        super().__init__(_make_template)
        self._settings = settings
        self._resources: dict[Source, bytes] = {}

    def sender(self) -> Sender:
        """Return a connection of its own."""
        return HttpSender(self._settings, _Wire(self._settings, self))

    def resource(self, part: Part) -> bytes:
        """Return the resource of a part's records, as JSON."""
        source = part.records.facts.source
        found = self._resources.get(source)
        if found is None:
            if len(self._resources) >= MAX_TEMPLATES:
                self._resources.clear()
            found = self._resources[source] = _resource(source)
        return found


class _Wire(HttpWire):
    def __init__(self, settings: BackendSettings, backend: OtlpBackend) -> None:
        super().__init__(settings, target_of(settings.url, PATH))
        self._backend = backend
        self._key_header: str = settings.options["key_header"]

    def api_key_header(self, key: str) -> tuple[str, str]:
        return (self._key_header, key)

    def body(self, batch: Batch) -> list[Piece]:
        pieces: list[Piece] = []
        for group in split(batch, self._backend.resource):
            *records, last = group.batch.pieces()
            pieces += [b"," if pieces else b'{"resourceLogs":[', b'{"resource":', group.key]
            pieces += [_SCOPE, *records, last[:-1], b"]}]}"]
        return [*pieces, b"]}"]

    def classify(self, answer: HttpAnswer, batch: Batch) -> Answer:
        del batch
        return Delivered(_left_out(answer.body))


_SCOPE = b',"scopeLogs":[{"scope":{"name":"sidetail","version":%s},"logRecords":[' % json_text(
    VERSION
)


def _left_out(body: bytes) -> LeftOut | None:
    """Return what a 2xx says it did not take; an answer that is not JSON says nothing."""
    try:
        count = int(orjson.loads(body)["partialSuccess"]["rejectedLogRecords"])
    except (ValueError, LookupError, TypeError):
        return None
    return LeftOut(count, PARTIAL_SUCCESS) if count > 0 else None


def _make_template(facts: FileFacts) -> Template:
    severities = [
        b'"severityNumber":%d,"severityText":%s,' % (_SEVERITY_NUMBERS[name], json_text(name))
        for name in record.SEVERITIES
    ]
    path = json_text(_attribute(record.LOG_FILE_PATH, facts.path))
    return Template(
        [
            b'{"timeUnixNano":"',
            Time(Clock.NANOSECONDS),
            b'","observedTimeUnixNano":"',
            ReadAt(Clock.NANOSECONDS),
            b'",',
            Severity(severities),
            b'"body":{"stringValue":"',
            Message(),
            b'"},"attributes":[' + path,
            b',{"key":"log.record.uid","value":{"stringValue":"' + facts.file.encode("ascii"),
            b"-",
            Offset(),
            b'"}},{"key":"offset","value":{"intValue":"',
            Offset(),
            b'"}}',
            IoStream(_string("log.iostream", "stdout"), _string("log.iostream", "stderr")),
            Truncated(b',{"key":"truncated","value":{"intValue":"', b'"}}'),
            Parsed(b',{"key":"parsed","value":', b"}"),
            ParseError(b',{"key":"parse_error","value":{"stringValue":"', b'"}}'),
            RawMessage(b',{"key":"message.raw","value":{"bytesValue":"', b'"}}'),
            b"]},",
        ],
        parsed_as=to_any_value,
    )


def _string(key: str, value: str) -> bytes:
    return b"," + json_text(_attribute(key, value))


def _attribute(key: str, value: str) -> dict[str, object]:
    return {"key": key, "value": {"stringValue": value}}


def _resource(source: Source) -> bytes:
    facts = {
        **source.attributes,
        **{f"{record.FIELDS}.{name}": value for name, value in source.fields.items()},
    }
    return json_text({"attributes": [_attribute(key, value) for key, value in facts.items()]})


def to_any_value(text: bytes) -> bytes:
    """Return JSON text as an `AnyValue` in JSON.

    >>> to_any_value(b'{"a":[1,null]}')
    b'{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"1"},{}]}}}]}}'
    """
    return orjson.dumps(_any_value(orjson.loads(text)))


_PLAIN = {str: "stringValue", bool: "boolValue", float: "doubleValue"}


def _any_value(value: Any) -> dict[str, object]:
    # By exact type and the usual ones first: this is done for every value of every JSON line.
    kind = type(value)
    if kind in _PLAIN:
        return {_PLAIN[kind]: value}
    if kind is int:
        # As text, because a JSON number is a double; what has no 64 bits is none of its ints.
        is_int64 = -(2**63) <= value < 2**63
        return {"intValue": str(value)} if is_int64 else {"doubleValue": float(value)}
    if kind is dict:
        values = [{"key": key, "value": _any_value(item)} for key, item in value.items()]
        return {"kvlistValue": {"values": values}}
    if kind is list:
        return {"arrayValue": {"values": [_any_value(item) for item in value]}}
    return {}
