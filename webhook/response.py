"""Step 7 of the webhook: a decision comes in, the bytes of an AdmissionReview go out.

All of it is ASCII: half a surrogate pair, which JSON may carry, has no UTF-8.
"""

import base64
from collections.abc import Sequence
from typing import Any

from webhook.admission import Denial
from webhook.ascii_json import to_ascii
from webhook.request import API_VERSION
from webhook.shown import cut

MAX_WARNING = 256
"""Characters of one warning. Source: k8s.io/apiserver, endpoints/filters/warning.go."""
MAX_WARNINGS = 4096
"""Characters of all warnings together. Source: as above."""
MAX_DENIAL = 1024


def render_admitted(
    uid: str, *, patch: Sequence[dict[str, Any]] = (), warnings: Sequence[str] = ()
) -> bytes:
    """Return the response that admits, with a JSON patch (RFC 6902) if there are operations."""
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if patch:
        operations = to_ascii(list(patch))
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(operations.encode("ascii")).decode("ascii")
    return _render(response, warnings)


def render_denied(uid: str, denial: Denial, *, warnings: Sequence[str] = ()) -> bytes:
    """Return the response that denies."""
    status = {"code": denial.code, "message": to_printable(denial.message, MAX_DENIAL)}
    return _render({"uid": uid, "allowed": False, "status": status}, warnings)


def _render(response: dict[str, Any], warnings: Sequence[str]) -> bytes:
    if warnings:
        response["warnings"] = cut_warnings(warnings)
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return to_ascii(review).encode("ascii")


def cut_warnings(warnings: Sequence[str]) -> list[str]:
    r"""Return as many warnings as the API server passes on; the last one counts the rest.

    >>> cut_warnings(["a line\nbreak"])
    ['a line\\nbreak']
    """
    texts = [to_printable(warning, MAX_WARNING) for warning in warnings if warning]
    if sum(map(len, texts)) <= MAX_WARNINGS:
        return texts
    room = MAX_WARNINGS - len(_rest(len(texts)))
    kept = []
    for text in texts:
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    return [*kept, _rest(len(texts) - len(kept))]


def _rest(count: int) -> str:
    return f"sidetail: and {count} more"


def to_printable(text: str, most: int) -> str:
    r"""Return `text` with its unprintable characters escaped, at most `most` characters of it.

    >>> to_printable("\x1b[31m\u202eabc", 40)
    '\\x1b[31m\\u202eabc'
    >>> to_printable("abcdef", 4)
    'abc…'
    """
    # The first `most` characters decide: an escape only makes them longer.
    text = text[: most + 1]
    if not text.isprintable():
        text = "".join(map(_escaped, text))
    return cut(text, most)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
