"""Takes secrets out of messages: every match of a named pattern becomes a constant mark."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from sidecar.transform.filter import sent_messages
from sidecar.transform.lines import columns_of
from sidecar.transform.patterns import Pattern
from sidecar.transform.records import REDACTED, Records, marks_of
from sidecar.transform.tight import NEWLINE, Tight, tighten, with_messages

MARK: Final = b"[redacted]"
"""What stands where a match was: itself no match of any sensible pattern, and the same for all
patterns, so that it says nothing about what was there."""


def redact_matches(patterns: Sequence[Pattern]) -> Callable[[Records], Records]:
    """Return the step that redacts messages, pattern after pattern.

    The bytes of a message that was changed are never sent (REDACTED); one that is not UTF-8 is
    searched as it is sent.
    """

    def redact(records: Records) -> Records:
        for pattern in patterns:
            records = _redact(records, pattern)
        return records

    return redact


def redact_text(text: bytes, patterns: Iterable[Pattern]) -> bytes:
    """Return one text with all matches of the patterns redacted."""
    for pattern in patterns:
        text = _mask(text, list(pattern.spans(text)))
    return text


def _redact(records: Records, pattern: Pattern) -> Records:
    if not records.count:
        return records
    tight = tighten(records)
    if tight.single and tight.is_utf8 and pattern.goes_by_lines:
        spans = list(pattern.spans(tight.text, many=True))
        messages = _mask(tight.text, spans).split(NEWLINE) if spans else None
    else:
        messages = _one_by_one(tight, pattern)
    if messages is None:
        return records
    return _with_marks(records, tight, messages)


def _one_by_one(tight: Tight, pattern: Pattern) -> list[bytes] | None:
    """Return all messages redacted; None if there is nothing to redact."""
    sent = sent_messages(tight)
    redacted = [_mask(message, list(pattern.spans(message))) for message in sent]
    if redacted == sent:
        return None
    # Those without a match keep the bytes they have, UTF-8 or not.
    originals = sent_messages(replace(tight, is_utf8=True))
    triples = zip(originals, sent, redacted, strict=True)
    return [original if new == old else new for original, old, new in triples]


def _with_marks(records: Records, tight: Tight, messages: list[bytes]) -> Records:
    before = sent_messages(replace(tight, is_utf8=True))
    marks = marks_of(records)
    for row, (old, new) in enumerate(zip(before, messages, strict=True)):
        if old is not new and old != new:
            marks[row] |= REDACTED
    changed = with_messages(records, messages)
    return replace(changed, columns=replace(columns_of(changed), marks=marks))


def _mask(text: bytes, spans: list[tuple[int, int]]) -> bytes:
    if not spans:
        return text
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    between = [text[begin:end] for begin, end in pairwise(edges)][::2]
    return MARK.join(between)
