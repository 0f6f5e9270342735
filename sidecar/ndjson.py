"""The record as design and README describe it: one JSON object a line (http, file, stdout)."""

import json
from functools import lru_cache

from contract import record
from sidecar.block import FileFacts
from sidecar.settings import Source
from sidecar.wire import (
    IoStream,
    Message,
    Offset,
    Parsed,
    ParseError,
    Part,
    RawMessage,
    Severity,
    Template,
    Time,
    Truncated,
)


def ndjson_template(facts: FileFacts) -> Template:
    """Return the template of the JSON object that every line of a file becomes."""
    path = json_text(record.LOG_FILE_PATH) + b":" + json_text(facts.path)
    return Template(
        [
            b"{" + _members(facts.source) + path + b',"time":"',
            Time(),
            b'","id":"' + facts.file.encode("ascii") + b"-",
            Offset(),
            b'","offset":',
            Offset(),
            *_FACTS,
        ]
    )


_OURS = {
    record.TIME,
    record.ID,
    record.OFFSET,
    record.SEVERITY,
    record.LOG_IOSTREAM,
    record.TRUNCATED,
    record.PARSED,
    record.PARSE_ERROR,
    record.MESSAGE_RAW,
    record.MESSAGE,
    record.LOG_FILE_PATH,
    record.FIELDS,
}


def json_facts(*, severity: str, raw: str) -> tuple[Part, ...]:
    """Return the members for what each record says itself, up to the object's end and a newline.

    Args:
        severity: the key of the severity.
        raw: the key of the bytes of a message that is not UTF-8.
    """
    key = b"," + json_text(severity) + b":"
    return (
        Severity([key + json_text(name) for name in record.SEVERITIES]),
        IoStream(b',"log.iostream":"stdout"', b',"log.iostream":"stderr"'),
        Truncated(b',"truncated":'),
        Parsed(b',"parsed":'),
        ParseError(b',"parse_error":"', b'"'),
        b',"message":"',
        Message(),
        b'"',
        RawMessage(b"," + json_text(raw) + b':"', b'"'),
        b"}\n",
    )


def constant_facts(facts: FileFacts) -> dict[str, object]:
    """Return what every record of a file says alike: attributes, `fields`, `log.file.path`.

    An attribute that carries the name of a key of ours is left out.
    """
    return source_facts(facts.source) | {record.LOG_FILE_PATH: facts.path}


def source_facts(source: Source) -> dict[str, object]:
    """Return those of them that all files of a source share."""
    members: dict[str, object] = {
        key: value for key, value in source.attributes.items() if key not in _OURS
    }
    if source.fields:
        members[record.FIELDS] = dict(source.fields)
    return members


def json_text(value: object) -> bytes:
    """Return `value` as compact JSON; what cannot be UTF-8 (a lone surrogate) is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


@lru_cache(maxsize=256)
def _members(source: Source) -> bytes:
    members = source_facts(source).items()
    return b"".join(json_text(key) + b":" + json_text(value) + b"," for key, value in members)


_FACTS = json_facts(severity=record.SEVERITY, raw=record.MESSAGE_RAW)
