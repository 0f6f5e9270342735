"""What the answer to a bulk request means, item by item.

Source: Elasticsearch's reference, "Bulk API", response body.
"""

import re

import orjson

from sidecar.backends.answers import Answer, Delivered, Hold, Partly, Retry

_ERRORS = re.compile(rb'"errors"\s*:\s*(true|false)')
_HEAD_BYTES = 256
"""`errors` stands in the first bytes of an answer, before the items."""

_THERE = frozenset({*range(200, 300), 409})
"""Our ids are never those of another line: a document that exists is the one that we sent."""
_REFUSED = frozenset({400, 413, 422})
_NOT_NOW = frozenset({408, 425, 429, *range(500, 600)})


def classify_items(body: bytes, count: int) -> Answer:
    """Say what became of `count` items.

    What is neither taken nor refused for good is sent again alone; where that is every item, the
    whole batch is, and a status that an operator has to mend (a cluster that is read-only, a
    missing index) holds.
    """
    errors = _ERRORS.search(body, 0, _HEAD_BYTES)
    if errors is not None and errors[1] == b"false" and body.count(b'"status":') == count:
        return Delivered()  # the usual answer, which is not worth some thousand objects
    statuses = _statuses(body)
    if statuses is None:
        return Hold("answer_not_understood")
    if len(statuses) != count:
        return Retry("answer_incomplete")
    return _by_status(statuses)


def _statuses(body: bytes) -> list[int] | None:
    """Return the items' statuses; None where this is no answer to a bulk request."""
    try:
        items = orjson.loads(body)["items"]
        statuses = [item["status"] for (item,) in (each.values() for each in items)]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return statuses if all(isinstance(status, int) for status in statuses) else None


def _by_status(statuses: list[int]) -> Answer:
    retry = [
        index
        for index, status in enumerate(statuses)
        if status not in _THERE and status not in _REFUSED
    ]
    rejected = [(index, "rejected") for index, status in enumerate(statuses) if status in _REFUSED]
    if not retry and not rejected:
        return Delivered()
    if len(retry) < len(statuses):
        return Partly(retry=tuple(retry), rejected=tuple(rejected))
    held = [status for status in statuses if status not in _NOT_NOW]
    return Hold(f"item_status_{held[0]}") if held else Retry(f"item_status_{statuses[0]}")
