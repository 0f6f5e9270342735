"""What Loki's refusals mean: the status alone does not say that most of a request was stored.

Source: Loki 2.4 to 3.x, pkg/ingester/stream.go and pkg/validation/validate.go.
"""

import re

from sidecar.backends.answers import Answer, Delivered, LeftOut, Refused
from sidecar.backends.http_answer import HttpAnswer
from sidecar.backends.http_sender import classify_status

MAX_ANSWER_BYTES = 1024 * 1024
"""Loki names every second of which lines were too old."""

TOO_OLD = "too_old"
"""Why a line was dropped: its time is before what Loki takes (for this stream, or at all)."""
TOO_NEW = "too_new"
"""Why a line was dropped: its time is further in the future than Loki takes."""

_BY_INGESTER = re.compile(rb"total ignored: (\d{1,9}) out of (\d{1,9})")
_REASONS_OF_INGESTER = (b"entry too far behind", b"entry out of order")
_BY_DISTRIBUTOR = re.compile(
    rb"(?:(\d{1,9}) errors like: )?entry for stream '.*?' has timestamp too "
    rb"(?:(old): \S+ oldest acceptable timestamp is: \S+?|new: \S+?)(?:; |\s*$)",
    re.DOTALL,
)


def classify_refusal(answer: HttpAnswer, count: int) -> Answer:
    """Say what a status outside 2xx means for a request of `count` entries of one stream.

    A 400 whose only reasons are times is an acknowledgement: what Loki could take of the request
    it has stored, and the rest it will never take. Anything else in it (a line that is too long)
    is bisected: what was stored is sent once more under the same times, which Loki drops.
    """
    outcome = classify_status(answer)
    if not isinstance(outcome, Refused):
        return outcome
    # Loki says it in prose only, so here the text of an error decides.
    left_out = _ignored(answer.body, count) or _invalid(answer.body)
    return outcome if left_out is None else Delivered(left_out)


def _ignored(text: bytes, count: int) -> LeftOut | None:
    """Count the lines that were refused for their place in the stream, if it speaks of all.

    What was refused before the stream was looked at (lines older than Loki takes at all) is not
    told then, but the lines that it was looked at for are fewer than were sent.
    """
    total = _BY_INGESTER.search(text)
    if total is None or not any(reason in text for reason in _REASONS_OF_INGESTER):
        return None
    if int(total[2]) != count:
        return None
    return LeftOut(int(total[1]), TOO_OLD)


def _invalid(text: bytes) -> LeftOut | None:
    """Count the lines that were refused for their times, if there is no other reason."""
    count = 0
    reason = TOO_NEW
    end = 0
    for group in _BY_DISTRIBUTOR.finditer(text):
        if group.start() != end:
            return None
        end = group.end()
        count += int(group[1] or 1)
        if group[2]:
            reason = TOO_OLD
    return LeftOut(count, reason) if count and end == len(text) else None
