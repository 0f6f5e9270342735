"""The form of a syslog message: what a record's facts become in RFC 5424."""

import re
from array import array
from dataclasses import replace
from operator import sub

from contract import record
from sidecar.block import FileFacts
from sidecar.transform.lines import columns_of
from sidecar.transform.records import Records
from sidecar.wire import (
    Clock,
    IoStream,
    Message,
    Offset,
    ParseError,
    RawMessage,
    Severity,
    Template,
    Text,
    Time,
    Truncated,
)

_SEVERITIES = {"trace": 7, "debug": 7, "info": 6, "warn": 4, "error": 3, "fatal": 2}
_NO_SEVERITY = 6
"""Informational."""
_NIL = b"-"
_MAX_PARAMETER_NAME = 32
_GROWTH = 5
"""Bytes that are not UTF-8 may become this many times as long: U+FFFD, and base64 beside it."""


def message_template(facts: FileFacts, facility: int, structured_data_id: str) -> Template:
    """Return the template of a file's messages, each in a frame of its own.

    The host is the pod, the application its service or container; all other facts are parameters
    of one element of structured data. Source: RFC 5424, section 6.
    """
    attributes = facts.source.attributes
    host = _header(attributes.get("k8s.pod.name") or attributes.get("host.name"), 255)
    names = (attributes.get(name) for name in ("service.name", "k8s.container.name"))
    application = _header(next(filter(None, names), None), 48)
    head = b" %s %s - - [%s" % (host, application, structured_data_id.encode("ascii"))
    return Template(
        [
            Severity(
                [_priority(facility, _SEVERITIES[name]) for name in record.SEVERITIES],
                absent=_priority(facility, _NO_SEVERITY),
            ),
            Time(Clock.MICROSECONDS),
            head + _parameters(facts) + b' id="' + facts.file.encode("ascii") + b"-",
            Offset(),
            b'" offset="',
            Offset(),
            b'"',
            IoStream(b' log.iostream="stdout"', b' log.iostream="stderr"'),
            Truncated(b' truncated="', b'"'),
            ParseError(b' parse_error="', b'"'),
            RawMessage(b' message.raw="', b'"'),
            b"] ",
            Message(Text.UTF8),
        ],
        framed=True,
    )


def _priority(facility: int, severity: int) -> bytes:
    return b"<%d>1 " % (facility * 8 + severity)


def _header(value: str | None, most: int) -> bytes:
    """Return a field of the header: printable ASCII without blanks, or `-`."""
    text = re.sub(r"[^!-~]", "_", value or "")[:most]
    return text.encode("ascii") or _NIL


def _parameters(facts: FileFacts) -> bytes:
    """Return the facts that all messages of a file have alike, as parameters.

    A name has 32 characters at most; of a longer one the last 32 stand, because it is there that
    labels differ. Of two that are then the same the first is sent.
    """
    values: dict[bytes, str] = {}
    taken = {record.ID, record.OFFSET, record.LOG_IOSTREAM, record.TRUNCATED, record.MESSAGE_RAW}
    constants = {
        record.LOG_FILE_PATH: facts.path,
        **facts.source.attributes,
        **{f"{record.FIELDS}.{name}": value for name, value in facts.source.fields.items()},
    }
    for name, value in constants.items():
        if name not in taken:
            short = re.sub(r'[^!-~]|[="\]]', "_", name)[-_MAX_PARAMETER_NAME:]
            values.setdefault(short.encode("ascii"), value)
    return b"".join(b' %s="%s"' % (name, _escaped(value)) for name, value in values.items())


def _escaped(value: str) -> bytes:
    return re.sub(rb'(["\\\]])', rb"\\\1", value.encode("utf-8", "replace"))


def shorten(records: Records, most: int) -> Records:
    """Return the records with no message of more than `most` bytes once it is written.

    A message is cut at a character's boundary; how much was left out is added to `truncated`.
    """
    longest = _longest(records)
    if longest * _GROWTH <= most:
        return records
    if not _is_utf8(records.text):
        most //= _GROWTH
    return _cut(records, most) if longest > most else records


def _longest(records: Records) -> int:
    if records.columns is None:
        return max(map(len, records.text.split(b"\n")))
    return max(map(sub, records.columns.ends, records.columns.begins), default=0)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _cut(records: Records, most: int) -> Records:
    columns = columns_of(records)
    ends = array("q", columns.ends)
    truncated = columns.truncated or array("q", bytes(8 * records.count))
    truncated = array("q", truncated)
    for index, (begin, end) in enumerate(zip(columns.begins, columns.ends, strict=True)):
        if end - begin > most:
            ends[index] = _boundary(records.text, begin + most)
            truncated[index] += end - ends[index]
    return replace(records, columns=replace(columns, ends=ends, truncated=truncated))


def _boundary(text: bytes, end: int) -> int:
    """Return the last place up to `end` at which a character may begin."""
    for place in range(end, end - 4, -1):
        if text[place] & 0xC0 != 0x80:
            return place
    return end
