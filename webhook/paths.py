"""Reads `sidetail.dev/paths`: the short form, or a JSON or YAML list.

In: the annotation's text. Out: requests, each a path with what is asked for it alone, or the
reason why it cannot be read. Where a path leads is for the plan to say.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from contract.annotations import PREFIX
from contract.plan import MAX_LEFT_OUT
from contract.reasons import BAD_PATH, BAD_VALUE
from runtime.settings import ValueProblem
from webhook import values
from webhook.globs import DEEP, check_glob
from webhook.shown import got, shown_path
from webhook.values import UNREADABLE
from webhook.yaml_text import load_untrusted_yaml

MAX_PATHS = 32
"""Of one pod."""
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
"""What file systems allow."""
MAX_YAML = 4 * 1024
"""Characters of a YAML list: its parser is a hundred times slower than JSON's."""

_CONTAINER = re.compile(r"([A-Za-z0-9._-]{1,253}):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PathRequest:
    """One element of the list that could be read."""

    shown: str
    """As its author wrote it, escaped and cut."""
    path: str
    """Checked, and still without regard to any container: relative, if it was written so."""
    container: str | None
    """None: the default container."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """`exclude`, `format`, `multiline`, `fields`: what holds for this path alone."""


@dataclass(frozen=True, slots=True)
class BadPath:
    """One element of the list that could not."""

    shown: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PathList:
    """The whole list."""

    requests: tuple[PathRequest | BadPath, ...] = ()
    rest: tuple[str, ...] = ()
    """What stands behind the last one that a pod may have, as shown; the first of them."""
    rest_count: int = 0
    """How many they are."""


def parse_paths(value: object) -> PathList:
    """Return the elements of the list, in their order.

    Raises:
        ValueProblem: the list as a whole cannot be read.
    """
    elements = _elements(str(value))
    rest = elements[MAX_PATHS:]
    return PathList(
        requests=tuple(_request(element) for element in elements[:MAX_PATHS]),
        rest=tuple(shown_path(str(element)) for element in rest[:MAX_LEFT_OUT]),
        rest_count=len(rest),
    )


def _elements(text: str) -> list[Any]:
    stripped = text.strip()
    if stripped == UNREADABLE:
        raise ValueProblem("a string")
    if not stripped.startswith(("[", "- ", "-\n")):
        return [element.strip() for element in text.split(",") if element.strip()]
    elements = _load_list(stripped)
    if not isinstance(elements, list):
        raise ValueProblem("a list of paths")
    return elements


def _load_list(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    if len(text) > MAX_YAML:
        raise ValueProblem(f"JSON, or at most {MAX_YAML} characters of YAML")
    try:
        return load_untrusted_yaml(text)
    except ValueError as error:
        raise ValueProblem(f"a JSON or YAML list ({error})") from None


_OWN_PARSERS: Mapping[str, values.Parser] = {
    "exclude": values.parse_exclude,
    "format": values.parse_format,
    "multiline": values.parse_multiline,
    "fields": values.parse_fields,
}


def _request(element: Any) -> PathRequest | BadPath:
    if isinstance(element, str):
        return _read(element, {})
    if not isinstance(element, dict):
        return BadPath("(not a path)", BAD_PATH, "expected a string, or an object with path")
    path, container = element.get("path"), element.get("container")
    if not isinstance(path, str) or not set(element) <= {"path", "container", *_OWN_PARSERS}:
        shown = shown_path(path) if isinstance(path, str) else "(no path)"
        known = ", ".join(("path", "container", *_OWN_PARSERS))
        return BadPath(shown, BAD_PATH, f"expected an object with {known}")
    if container is None:
        return _read(path, element)
    if not isinstance(container, str) or not values.LABEL.fullmatch(container):
        return BadPath(shown_path(path), BAD_PATH, "container: expected a container's name")
    return _read(f"{container}:{path}", element)


def _read(text: str, element: Mapping[str, Any]) -> PathRequest | BadPath:
    """Return the request for `[container:]path`; `element` is the object it stands in."""
    shown = shown_path(text)
    match = None if text.startswith("/") else _CONTAINER.fullmatch(text)
    container, path = (match[1], match[2].strip()) if match else (None, text)
    try:
        checked = check_path(path)
    except ValueProblem as problem:
        return BadPath(shown, BAD_PATH, f"expected {problem}")
    own: dict[str, Any] = {}
    for key, parse in _OWN_PARSERS.items():
        try:
            if key in element:
                own[key] = parse(element[key])
        except ValueProblem as problem:
            value = got(PREFIX + key, element[key])
            return BadPath(shown, BAD_VALUE, f"{key}: {value}expected {problem}")
    return PathRequest(shown, checked, container, own)


def check_path(path: str) -> str:
    """Return a path with `.` segments taken out; a `**` at its end means every file below.

    Raises:
        ValueProblem: it breaks one of the rules, which is named.
    """
    _check_text(path)
    return _checked(path)


@lru_cache(maxsize=2048)
def _checked(path: str) -> str:
    """Return the path; replicas ask for the same ones again and again."""
    kept = [segment for segment in path.split("/") if segment != "."]
    if kept[-1:] == [DEEP]:
        kept.append("*")
    names = kept[1:] if path.startswith("/") else kept
    if not names or names == [""] or path.startswith("-"):
        raise ValueProblem("a file, such as /var/log/app/*.log")
    if names[-1] == "":
        raise ValueProblem("a file, not a folder: add * at the end")
    for segment in names:
        _check_segment(segment)
    checked = "/".join(kept)
    check_glob(checked)
    return checked


def _check_text(path: str) -> None:
    if not path:
        raise ValueProblem("an absolute path, such as /var/log/app/*.log")
    if values.UNPRINTABLE.search(path):
        raise ValueProblem("a path without control characters")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValueProblem(f"a path of at most {MAX_PATH_BYTES} bytes")
    if "$(" in path or "`" in path or "${" in path:
        raise ValueProblem("a path without $(…), ${…} and `…`: nothing is replaced in it")


def _check_segment(segment: str) -> None:
    if segment == "":
        raise ValueProblem("a path without empty segments (//)")
    if segment == "..":
        raise ValueProblem("a path without ..")
    if segment.startswith("~"):
        raise ValueProblem("a path without ~: nothing is replaced in it")
    if len(segment.encode()) > MAX_NAME_BYTES:
        raise ValueProblem(f"names of at most {MAX_NAME_BYTES} bytes")
