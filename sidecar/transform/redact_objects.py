r"""Redacts what is parsed: a secret must leave neither in the message nor in its object.

The text of a message is searched, and then each key, string and number of its object as it
reads when unescaped: `joe\u0040example.com` is an address to whoever reads the object.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from sidecar.transform.objects import SECRET_IN_STRUCTURE
from sidecar.transform.parse import ParseMessage, Said, with_said
from sidecar.transform.patterns import Pattern
from sidecar.transform.records import (
    ERROR_SHIFT,
    PARSED_APART,
    SEVERITY_MASK,
    Records,
)
from sidecar.transform.redact import redact_matches, redact_text, with_redacted
from sidecar.transform.tight import messages_of, tight_of


def redact_and_parse(
    patterns: Sequence[Pattern], parse: ParseMessage
) -> Callable[[Records], Records]:
    """Return the step that redacts messages and parses them."""
    redact = redact_matches(patterns)

    def step(records: Records) -> Records:
        redacted = redact(records)
        before, after = messages_of(records), messages_of(redacted)
        pairs = [
            (old, parse(old)) if old == new and b"\\" not in old else _careful(old, new)
            for old, new in zip(before, after, strict=True)
        ]
        messages = [message for message, _ in pairs]
        if messages != after:
            rows = [row for row in range(len(after)) if messages[row] != after[row]]
            redacted = with_redacted(redacted, tight_of(messages), rows)
        return with_said(redacted, [said for _, said in pairs])

    def _careful(old: bytes, new: bytes) -> tuple[bytes, Said]:
        return redact_object(old, new, parse(old), patterns)

    return step


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
    marks &= SEVERITY_MASK
    safe = redact_text(clean, patterns)
    message = safe if found and b"\\" in old else new
    if safe != clean:
        # A match that goes through quotes or brackets: what is left of it would be no object.
        return message, (time, marks | SECRET_IN_STRUCTURE << ERROR_SHIFT, 0, 0, b"")
    return message, (time, marks | PARSED_APART, 0, 0, clean)


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
