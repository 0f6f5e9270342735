"""Step 1 of the webhook: the bytes of an AdmissionReview come in, a `Review` goes out.

JSON is read strictly, as two parsers must never disagree about what was admitted: no key twice,
no NaN, no number that JavaScript or Go would read in another way, no nesting without end.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

API_VERSION = "admission.k8s.io/v1"
MAX_DEPTH = 100
"""Levels of nesting; a pod has some twenty, with its managedFields."""
MAX_VALUES = 400_000
"""Objects, lists and elements; a Deployment as large as etcd takes has fewer, twice."""
_MAX_DIGITS = 20
"""Of a whole number: an int64 has 19 and a sign."""

_CONTENT_TYPE = re.compile(
    r"""application/json\s*(?:;\s*charset\s*=\s*(?:utf-?8|"utf-?8")\s*)?;?\s*""", re.IGNORECASE
)
_UID = re.compile(r"[\x21-\x7e]{1,128}")
_NAME = re.compile(r"[^\x00-\x20\x7f]{0,253}")


class ReviewError(ValueError):
    """A request that is no AdmissionReview of ours; the text never shows what was sent."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """The HTTP status to answer with."""


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server asks about."""

    uid: str
    """1 to 128 printable ASCII characters without blanks; the response echoes it."""
    operation: str
    """`CREATE`, `UPDATE`, `DELETE` or `CONNECT`."""
    group: str
    resource: str
    """In plural, as in a URL: `pods`."""
    subresource: str
    """Empty for the object itself."""
    kind: str
    namespace: str
    """Empty for an object of no namespace."""
    name: str
    """Empty where the API server has yet to make one up."""
    object: Json | None
    """None on DELETE."""
    dry_run: bool

    def is_about(self, group: str, resource: str, *operations: str) -> bool:
        """Return whether this is one of `operations` on an object of that resource itself."""
        return (
            self.group == group
            and self.resource == resource
            and not self.subresource
            and self.operation in operations
        )


def parse_review(
    body: bytearray, *, content_type: str | None, content_encoding: str | None = None
) -> Review:
    """Return the review that `body` holds, and empty it.

    Raises:
        ReviewError: 415 for another type or encoding, 400 for JSON or a review that breaks rules.
    """
    if content_type is None or not _CONTENT_TYPE.fullmatch(content_type.strip()):
        raise ReviewError(415, "Content-Type: expected application/json in UTF-8")
    if content_encoding is not None and content_encoding.strip().lower() not in ("", "identity"):
        raise ReviewError(415, "Content-Encoding: expected none")
    return _read_review(parse_json(body))


def parse_json(body: bytearray) -> Any:
    """Return what `body` holds: JSON in UTF-8, read strictly.

    `body` is emptied once it is text: 7 MiB need not be in memory three times over.

    Raises:
        ReviewError: 400; it is none, or has a key twice, a number out of range, too much of all.
    """
    if body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_VALUES:
        raise ReviewError(400, f"body: got too many values, expected at most {MAX_VALUES}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ReviewError(400, "body: got bytes that are not UTF-8, expected JSON") from None
    body.clear()
    try:
        parsed = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        text = f"body: got no JSON at character {error.pos}, expected an AdmissionReview"
        raise ReviewError(400, text) from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(parsed)
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ReviewError(400, "body: got a key twice in an object, expected each key once")
    return unique


def _parse_whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ReviewError(400, f"body: got a number of {len(digits)} digits, expected an int64")
    return int(digits)


def _parse_fraction(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ReviewError(400, "body: got a number out of range, expected a double")
    return number


def _refuse_constant(name: str) -> float:
    raise ReviewError(400, f"body: got {name}, expected JSON, which has no such number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_parse_whole,
    parse_float=_parse_fraction,
    parse_constant=_refuse_constant,
)


def _too_deep() -> ReviewError:
    return ReviewError(400, f"body: got deeper nesting, expected at most {MAX_DEPTH} levels")


def _check_depth(parsed: Any) -> None:
    """Look at it level by level: what the recursion limit allows differs between Pythons."""
    level = [parsed] if isinstance(parsed, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise _too_deep()


def _read_review(document: Any) -> Review:
    if not isinstance(document, dict):
        raise _wrong("body", document, "an AdmissionReview object")
    version, kind = document.get("apiVersion"), document.get("kind")
    if version != API_VERSION or kind != "AdmissionReview":
        raise ReviewError(400, f"body: expected kind AdmissionReview of apiVersion {API_VERSION}")
    request = document.get("request")
    if not isinstance(request, dict):
        raise _wrong("request", request, "an object")
    reviewed = _optional(request, "object", dict)
    group, resource = _read_resource(request, reviewed)
    return Review(
        uid=_text(request, "uid", _UID.fullmatch, "1 to 128 printable ASCII characters"),
        operation=_name(request, "operation") or "CREATE",
        group=group,
        resource=resource,
        subresource=_name(request, "subResource"),
        kind=_read_kind(request, reviewed),
        namespace=_name(request, "namespace"),
        name=_name(request, "name"),
        object=reviewed,
        dry_run=_optional(request, "dryRun", bool) or False,
    )


def _read_resource(request: Json, reviewed: Json | None) -> tuple[str, str]:
    """Return group and resource; a person who asks with no more than a pod is understood."""
    resource = _optional(request, "resource", dict)
    if resource is not None:
        return _name(resource, "group"), _name(resource, "resource")
    group, _, _ = str((reviewed or {}).get("apiVersion", "")).rpartition("/")
    return group[:253], _read_kind(request, reviewed).lower() + "s"


def _read_kind(request: Json, reviewed: Json | None) -> str:
    kind = _optional(request, "kind", dict)
    name = _name(kind or {}, "kind") or (reviewed or {}).get("kind")
    return name[:253] if isinstance(name, str) else ""


def _optional(request: Json, key: str, kind: type) -> Any:
    """Return a member of that type; null stands for absent, as Go writes it."""
    value = request.get(key)
    if value is not None and not isinstance(value, kind):
        expected = "an object" if kind is dict else "true or false"
        raise _wrong(f"request.{key}", value, expected)
    return value


def _name(request: Json, key: str) -> str:
    if request.get(key) is None:
        return ""
    return _text(request, key, _NAME.fullmatch, "at most 253 characters without blanks")


def _text(request: Json, key: str, fits: Callable[[str], object], expected: str) -> str:
    value = request.get(key)
    if not isinstance(value, str) or not fits(value):
        raise _wrong(f"request.{key}", value, expected)
    return value


def _wrong(where: str, value: object, expected: str) -> ReviewError:
    """Return an error that names the type only: the value may be anybody's secret."""
    got = "nothing" if value is None else f"a value of type {type(value).__name__}"
    return ReviewError(400, f"{where}: got {got}, expected {expected}")
