"""Compact JSON in ASCII: what leaves the webhook carries anything that JSON may carry."""

import json
from typing import Any

import orjson


def to_ascii(value: Any) -> str:
    r"""Return a value as JSON without blanks, everything beyond ASCII escaped.

    >>> to_ascii({"a": [1, "\u00e9", "\ud800"]})
    '{"a":[1,"\\u00e9","\\ud800"]}'
    """
    try:
        text = orjson.dumps(value)
    except (TypeError, ValueError):  # half a surrogate pair, or an integer beyond 64 bits
        text = b"\xff"
    # Twenty times as fast, and nearly every text is ASCII.
    return text.decode() if text.isascii() else json.dumps(value, separators=(",", ":"))
