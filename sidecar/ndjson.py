"""The record as design and README describe it: one JSON object a line (http, file, stdout)."""

import json

from contract import record
from sidecar.block import FileFacts
from sidecar.wire import (
    IoStream,
    Message,
    Offset,
    Parsed,
    ParseError,
    RawMessage,
    Severity,
    Template,
    Time,
    Truncated,
)


def ndjson_template(facts: FileFacts) -> Template:
    """Return the template of the JSON object that every line of a file becomes."""
    return Template(
        [
            b"{" + _members(facts) + b'"time":"',
            Time(),
            b'","id":"' + facts.file.encode("ascii") + b"-",
            Offset(),
            b'","offset":',
            Offset(),
            Severity([b',"severity":' + json_text(name) for name in record.SEVERITIES]),
            IoStream(b',"log.iostream":"stdout"', b',"log.iostream":"stderr"'),
            Truncated(b',"truncated":'),
            Parsed(b',"parsed":'),
            ParseError(b',"parse_error":"', b'"'),
            b',"message":"',
            Message(),
            b'"',
            RawMessage(b',"message.raw":"', b'"'),
            b"}\n",
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


def constant_facts(facts: FileFacts) -> dict[str, object]:
    """Return what every record of a file says alike: attributes, `fields`, `log.file.path`.

    An attribute that carries the name of a key of ours is left out.
    """
    members: dict[str, object] = {
        key: value for key, value in facts.source.attributes.items() if key not in _OURS
    }
    if facts.source.fields:
        members[record.FIELDS] = dict(facts.source.fields)
    members[record.LOG_FILE_PATH] = facts.path
    return members


def json_text(value: object) -> bytes:
    """Return `value` as compact JSON; what cannot be UTF-8 (a lone surrogate) is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _members(facts: FileFacts) -> bytes:
    members = constant_facts(facts).items()
    return b"".join(json_text(key) + b":" + json_text(value) + b"," for key, value in members)
