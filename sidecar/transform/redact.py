"""Takes secrets out of messages: every match of a pattern becomes a constant mark."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from sidecar.transform.lines import columns_of
from sidecar.transform.patterns import Pattern
from sidecar.transform.records import REDACTED, Records, marks_of
from sidecar.transform.tight import Tight, tighten, with_messages

MARK: Final = b"[redacted]"
"""The same for all patterns: it says nothing about what was there."""


def redact_matches(patterns: Sequence[Pattern]) -> Callable[[Records], Records]:
    """Return the step that redacts messages, pattern after pattern.

    The bytes of a message that was changed are never sent (REDACTED).
    """

    def redact(records: Records) -> Records:
        if not records.count:
            return records
        tight = tighten(records)
        changed: set[int] = set()
        for pattern in patterns:
            tight, rows = pattern.redact(tight, MARK)
            changed |= rows
        return with_redacted(records, tight, changed) if changed else records

    return redact


def redact_text(text: bytes, patterns: Iterable[Pattern]) -> bytes:
    """Return one text with all matches of the patterns redacted."""
    for pattern in patterns:
        text = pattern.redact_text(text, MARK)
    return text


def with_redacted(records: Records, tight: Tight, rows: Iterable[int]) -> Records:
    """Return the records with other messages, of which those at `rows` were redacted."""
    marks = marks_of(records)
    for row in rows:
        marks[row] |= REDACTED
    changed = with_messages(records, tight)
    return replace(changed, columns=replace(columns_of(changed), marks=marks))
