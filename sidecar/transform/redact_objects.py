r"""Redacts what is parsed: a secret must leave neither in the message nor in its object.

The text of a message is searched, and then each key, string and number of its object as it
reads when unescaped: `joe\u0040example.com` is an address to whoever reads the object.
"""

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from operator import mul, ne
from typing import Any

import orjson

from sidecar.native import Library, library
from sidecar.transform import automaton_in_c, in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.objects import SECRET_IN_STRUCTURE, STRING, ParseError, parse_object
from sidecar.transform.parse import PARSERS, Said, parse_messages, with_said, with_said_at
from sidecar.transform.patterns import Pattern
from sidecar.transform.records import (
    ERROR_SHIFT,
    PARSED_APART,
    SEVERITY_MASK,
    Columns,
    Records,
    marks_of,
)
from sidecar.transform.redact import (
    both,
    either,
    redact_matches,
    redact_text,
    redactions,
    with_redacted,
)
from sidecar.transform.tight import (
    Tight,
    is_utf8,
    messages_of,
    tight_of,
    tighten,
    with_messages,
)


def redact_and_parse(patterns: Sequence[Pattern], format_name: str) -> Callable[[Records], Records]:
    """Return the step that redacts messages and parses them."""
    in_python, in_c_first = _in_python(patterns, format_name), _in_c(patterns, format_name)

    def step(records: Records) -> Records:
        native = library()
        if native is None or not records.count or not is_utf8(records.text):
            return in_python(records)
        return in_c_first(native, records)

    return step


def _in_python(patterns: Sequence[Pattern], format_name: str) -> Callable[[Records], Records]:
    redact, parse = redact_matches(patterns), PARSERS[format_name]

    def step(records: Records) -> Records:
        redacted = redact(records)
        before, after = messages_of(records), messages_of(redacted)
        pairs = [
            (old, parse(old)) if old == new and b"\\" not in old else _careful(old, new)
            for old, new in zip(before, after, strict=True)
        ]
        messages = [message for message, _ in pairs]
        if messages != after:
            changed = bytes(map(ne, messages, before))
            redacted = with_redacted(redacted, tight_of(messages), changed)
        return with_said(redacted, [said for _, said in pairs])

    def _careful(old: bytes, new: bytes) -> tuple[bytes, Said]:
        return redact_object(old, new, parse(old), patterns)

    return step


@dataclass(frozen=True, slots=True)
class _Redacted:
    """Messages whose text is redacted."""

    tight: Tight
    changed: bytes
    """A 1 for each that was."""
    unsure: bytes
    """A 1 for each whose object, if it is one, may be another than its text now says."""


def _in_c(patterns: Sequence[Pattern], format_name: str) -> Callable[[Library, Records], Records]:
    parse, parse_all = PARSERS[format_name], parse_messages(format_name)
    is_logfmt = format_name == "logfmt"

    def step(native: Library, records: Records) -> Records:
        tight = tighten(records)
        parsed = parse_all(with_messages(records, tight))
        redacted = _redact_all(native, tight, patterns, is_logfmt=is_logfmt)
        again = parsed
        if is_logfmt and any(redacted.changed):  # its objects are written anew
            again = parse_all(with_messages(records, redacted.tight))
        redacted = _look_again(redacted, _objects(again) if is_logfmt else redacted.tight, patterns)
        rows = _unsure_objects(native, parsed, redacted, is_logfmt=is_logfmt)
        asked = [
            redact_object(tight[row], redacted.tight[row], parse(tight[row]), patterns)
            for row in rows
        ]
        redacted = _with_others(redacted, rows, [message for message, _ in asked])
        if any(redacted.changed):
            before = columns_of(parsed)
            parsed = with_redacted(parsed, redacted.tight, redacted.changed)
            if is_logfmt:
                parsed = _with_objects_of(parsed, again)
            else:
                _move_objects(native, before, columns_of(parsed))
        return with_said_at(parsed, rows, [said for _, said in asked]) if rows else parsed

    return step


def _redact_all(
    native: Library, tight: Tight, patterns: Sequence[Pattern], *, is_logfmt: bool
) -> _Redacted:
    r"""Redact the text of messages.

    Where a match lies within a string that is a value, the text with the mark is the object
    with the mark: no quote is in the match, so that the pattern finds the same in the string
    alone, but for one that sees ends. A key is not safe, since two could become alike, nor is
    a string with escapes, which may be a secret that the text does not show.
    """
    unsure = changed = bytes(len(tight))
    if b"\\" in tight.text:
        # What is escaped in logfmt is not what is in JSON.
        unsure = _with_backslash(tight) if is_logfmt else unsure
        for pattern in patterns:
            unsure = either(unsure, pattern.may_be_escaped(tight))
    for redaction in redactions(tight, patterns):
        before = redaction.before
        crossing = automaton_in_c.find_crossing(
            native,
            before.text,
            (before.begins, before.ends),
            redaction.spans,
            in_pairs=is_logfmt,
        )
        unsure, changed = either(unsure, crossing), either(changed, redaction.changed)
        tight = redaction.after
    return _Redacted(tight, changed, unsure)


def _look_again(redacted: _Redacted, objects: Tight, patterns: Sequence[Pattern]) -> _Redacted:
    """Return the same, unsure also of changed messages whose objects still match as text."""
    if not any(redacted.changed):
        return redacted
    unsure = redacted.unsure
    for pattern in patterns:
        among = redacted.changed
        unsure = either(unsure, among if pattern.sees_ends else pattern.may_be_in(objects, among))
    return replace(redacted, unsure=unsure)


def _objects(parsed: Records) -> Tight:
    """Return the objects that were written anew, which are as good as messages here."""
    columns, empty = columns_of(parsed), array("q", bytes(8 * parsed.count))
    return Tight(parsed.parsed, columns.parsed_begins or empty, columns.parsed_ends or empty)


def _with_backslash(tight: Tight) -> bytes:
    return bytes(b"\\" in message for message in tight.messages())


def _unsure_objects(
    native: Library, parsed: Records, redacted: _Redacted, *, is_logfmt: bool
) -> list[int]:
    """Return the rows of objects of which it is not known yet what they say without secrets."""
    columns, marks = columns_of(parsed), marks_of(parsed)
    if columns.parsed_begins is None or columns.parsed_ends is None:
        return []
    rows = redacted.unsure
    if not is_logfmt and in_c.bits(native, marks) & PARSED_APART:
        # JSON of several lines, written anew, shows what the message was before.
        apart = bytes(mark & PARSED_APART != 0 for mark in marks)
        rows = either(rows, both(redacted.changed, apart))
    return [
        row
        for row in compress(range(len(rows)), rows)
        if columns.parsed_begins[row] < columns.parsed_ends[row]
    ]


def _with_others(redacted: _Redacted, rows: Sequence[int], messages: Sequence[bytes]) -> _Redacted:
    """Return the same with other messages in some rows."""
    others = {
        row: message
        for row, message in zip(rows, messages, strict=True)
        if message != redacted.tight[row]
    }
    if not others:
        return redacted
    all_messages = [others.get(row, each) for row, each in enumerate(redacted.tight.messages())]
    changed = bytes(row in others or bool(each) for row, each in enumerate(redacted.changed))
    return _Redacted(tight_of(all_messages), changed, redacted.unsure)


def _move_objects(native: Library, before: Columns, after: Columns) -> None:
    """Let the spans of objects follow the text, from where it was before."""
    if before.parsed_begins is not None:
        in_c.move_objects(native, before, after)


def _with_objects_of(records: Records, others: Records) -> Records:
    """Return the records that have objects with those of others; times and marks stay their own."""
    objects = _objects(others)
    has_object = [mark & PARSED_APART != 0 for mark in marks_of(records)]
    columns = replace(
        columns_of(records),
        parsed_begins=array("q", map(mul, objects.begins, has_object)),
        parsed_ends=array("q", map(mul, objects.ends, has_object)),
    )
    return replace(records, columns=columns, parsed=others.parsed)


def redact_object(
    old: bytes, new: bytes, said: Said, patterns: Sequence[Pattern]
) -> tuple[bytes, Said]:
    """Return a message and what it says, without secrets.

    Args:
        old: the message as it was read.
        new: its text redacted.
        said: what the old one says.
        patterns: what is secret.
    """
    time, marks, begin, end, apart = said
    text = apart or old[begin:end]
    if not text:
        return new, said
    value = json.loads(text, parse_float=_Number, parse_int=_Number)
    clean = orjson.dumps(_redact_value(value, patterns))
    found = clean != orjson.dumps(_redact_value(value, ()))
    if not found and old == new:
        return old, said
    # What was written anew is not JSON: which escapes say what is not asked again.
    hidden = b"\\" in old if apart else _is_in_escaped(old, patterns)
    own_end = len(new) - (len(old) - end)
    is_own = not apart and not hidden and _says(new[begin:own_end], clean)
    sent = new[begin:own_end] if is_own else clean
    safe = redact_text(sent, patterns)
    message = redact_text(clean, patterns) if found and hidden else new
    marks &= SEVERITY_MASK
    if safe != sent:
        # A match that goes through quotes or brackets: what is left of it would be no object.
        return message, (time, marks | SECRET_IN_STRUCTURE << ERROR_SHIFT, 0, 0, b"")
    if is_own:
        return message, (time, marks, begin, own_end, b"")
    return message, (time, marks | PARSED_APART, 0, 0, clean)


def _says(text: bytes, clean: bytes) -> bool:
    """Return whether a text is a strict object that says what `clean` does."""
    try:
        parse_object(text)
    except ParseError:
        return False
    value = json.loads(text, parse_float=_Number, parse_int=_Number)
    return orjson.dumps(_redact_value(value, ())) == clean


def _is_in_escaped(text: bytes, patterns: Sequence[Pattern]) -> bool:
    """Return whether a secret is in a string that has escapes: the text may show half of it."""
    escaped = [json.loads(each) for each in STRING.findall(text) if b"\\" in each]
    return any(_redact_string(each, patterns) != each for each in escaped)


class _Number(str):
    """A number as it stands in the text: 20 digits must not become a float of 17."""

    __slots__ = ()


def _redact_value(value: Any, patterns: Sequence[Pattern]) -> Any:
    if isinstance(value, dict):
        return {
            _redact_string(key, patterns): _redact_value(item, patterns)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_redact_value(item, patterns) for item in value]
    if isinstance(value, _Number):
        redacted = _redact_string(value, patterns)
        return orjson.Fragment(str(value)) if redacted == value else redacted
    return _redact_string(value, patterns) if isinstance(value, str) else value


def _redact_string(text: str, patterns: Sequence[Pattern]) -> str:
    return redact_text(text.encode("utf-8"), patterns).decode("utf-8")
