"""Takes secrets out of messages: every match of a pattern becomes a constant mark."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import TYPE_CHECKING, Final

from sidecar.native import library
from sidecar.transform import in_c
from sidecar.transform.lines import columns_of
from sidecar.transform.patterns import Pattern, as_sent
from sidecar.transform.records import REDACTED, Records, marks_of
from sidecar.transform.tight import (
    Tight,
    is_utf8,
    messages_of,
    tight_of,
    tighten,
    with_marks,
    with_messages,
)

if TYPE_CHECKING:
    from array import array

MARK: Final = b"[redacted]"
"""The same for all patterns: it says nothing about what was there."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What one pattern does to messages."""

    before: Tight
    spans: "array[int]"
    """Begin and end of each match, one after the other."""
    after: Tight
    changed: bytes
    """A 1 for each message that had a match."""


def redact_matches(patterns: Sequence[Pattern]) -> Callable[[Records], Records]:
    """Return the step that redacts messages, pattern after pattern.

    The bytes of a message that was changed are never sent (REDACTED).
    """

    def redact(records: Records) -> Records:
        tight, changed = tighten_as_sent(records), bytes(records.count)
        for redaction in redactions(tight, patterns):
            tight, changed = redaction.after, either(changed, redaction.changed)
        return with_redacted(records, tight, changed) if any(changed) else records

    return redact


def redactions(tight: Tight, patterns: Iterable[Pattern]) -> Iterator[Redaction]:
    """Yield what each pattern that matches does to what the patterns before have left."""
    for pattern in patterns:
        spans = pattern.spans(tight)
        if spans:
            redaction = Redaction(tight, spans, *with_marks(tight, spans, MARK))
            tight = redaction.after
            yield redaction


def tighten_as_sent(records: Records) -> Tight:
    """Return the messages as they are sent, which is what a pattern sees."""
    tight = tighten(records)
    return tight if is_utf8(tight.text) else tight_of(map(as_sent, tight.messages()))


def redact_text(text: bytes, patterns: Iterable[Pattern]) -> bytes:
    """Return one text with all matches of the patterns redacted."""
    for pattern in patterns:
        text = pattern.redact_text(text, MARK)
    return text


def with_redacted(records: Records, tight: Tight, changed: bytes) -> Records:
    """Return the records with other messages where they were changed; the others' bytes stay."""
    if not is_utf8(records.text):
        pairs = zip(messages_of(records), tight.messages(), changed, strict=True)
        tight = tight_of(after if is_changed else before for before, after, is_changed in pairs)
    marks, native = marks_of(records), library()
    if native is not None:
        in_c.set_bits(native, marks, changed, REDACTED)
    for row in compress(range(len(marks)), changed) if native is None else ():
        marks[row] |= REDACTED
    redacted = with_messages(records, tight)
    return replace(redacted, columns=replace(columns_of(redacted), marks=marks))


def either(some: bytes, others: bytes) -> bytes:
    """Return a 1 wherever one of two masks has one."""
    bits = int.from_bytes(some, "little") | int.from_bytes(others, "little")
    return bits.to_bytes(len(some), "little")


def both(some: bytes, others: bytes) -> bytes:
    """Return a 1 wherever both of two masks have one."""
    bits = int.from_bytes(some, "little") & int.from_bytes(others, "little")
    return bits.to_bytes(len(some), "little")
