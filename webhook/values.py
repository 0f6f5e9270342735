"""Parsers for the value of one annotation, or of one default of the operator's.

Each takes the annotation's text, or what YAML made of the operator's value; it returns the value
or raises ValueProblem with what was expected. None of them shows what it got: an author may have
put a secret there.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from contract.sidecar_config import FORMATS, LOG_LEVELS, MULTILINE_MODES
from runtime.patterns import parse_pattern
from runtime.settings import ValueProblem, parse_boolean, parse_choice, parse_count
from webhook.credentials import looks_like_credential, names_credential
from webhook.globs import check_glob
from webhook.quantities import NANO, parse_quantity

MAX_FIELDS = 32
MAX_NAMES = 64
"""Elements of a list of names or globs."""

LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""A DNS-1123 label: the name of a container, a namespace, a Secret."""
_FIELD_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}", re.ASCII)
_RESERVED_FIELD = re.compile(r"(?:namespace|pod|container|node|tenant)|(?:k8s|sidetail|log)\..*")

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""C0, DEL, C1, and half characters that no UTF-8 can carry."""

UNREADABLE = "\0"
"""Stands for an annotation that is no string; no parser takes it."""

Parser = Callable[[object], Any]
"""Returns the value, or raises ValueProblem."""

Stdout = Literal["off", "mirror", "all"] | tuple[str, ...]
"""A tuple names containers."""


def parse_list(value: object) -> tuple[str, ...]:
    """Return the elements of a comma-separated text, of a JSON list, or of a list.

    Blanks around an element are trimmed and empty elements ignored, but in a list.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        # A glob may begin with a character class, so this may still be the short form.
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, str):
        value = [element.strip() for element in value.split(",")]
        value = [element for element in value if element]
    if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
        raise ValueProblem("a comma-separated list, or a JSON list of strings")
    if len(value) > MAX_NAMES:
        raise ValueProblem(f"at most {MAX_NAMES} elements")
    if any(UNPRINTABLE.search(element) for element in value):
        raise ValueProblem("no control characters")
    return tuple(dict.fromkeys(value))


def parse_exclude(value: object) -> tuple[str, ...]:
    """Return globs for base names (without `/`) or whole paths (with a leading `/` or `**/`)."""
    globs = parse_list(value)
    for glob in globs:
        if not glob or len(glob) > 1024 or "$(" in glob:
            raise ValueProblem("globs of 1 to 1024 characters")
        if "/" in glob and not glob.startswith(("/", "**/")):
            raise ValueProblem("globs without /, or with the whole path from its first / on")
        check_glob(glob)
    return globs


def parse_names(value: object) -> tuple[str, ...]:
    """Return one or more names; whether they are known is for the caller to say."""
    names = parse_list(value)
    if not names or "" in names:
        raise ValueProblem("one or more names, comma-separated")
    return names


def parse_names_or_none(value: object) -> tuple[str, ...]:
    """Return any number of names."""
    return tuple(name for name in parse_list(value) if name)


def parse_stdout(value: object) -> Stdout:
    """Return whose stdout to collect."""
    if value is False or value == "off":  # YAML 1.1 reads a bare `off` as false
        return "off"
    if value == "mirror":
        return "mirror"
    if value == "all":
        return "all"
    names = parse_names(value)
    if not all(LABEL.fullmatch(name) for name in names):
        raise ValueProblem("mirror, all, off, or names of containers")
    return names


def parse_command(value: object) -> dict[str, tuple[str, ...]]:
    """Return container → argv from a JSON object."""
    expected = 'a JSON object such as {"app": ["/bin/app", "--flag"]}'
    try:
        parsed = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueProblem(expected)
    for argv in parsed.values():
        if not isinstance(argv, list) or not argv or not argv[0]:
            raise ValueProblem(expected)
        if not all(isinstance(word, str) and _is_argument(word) for word in argv):
            raise ValueProblem(expected)
    return {container: tuple(argv) for container, argv in parsed.items()}


def _is_argument(word: str) -> bool:
    return "\0" not in word and not re.search("[\ud800-\udfff]", word)


def parse_multiline(value: object) -> str:
    """Return a mode, or `/regex/`."""
    if isinstance(value, str) and len(value) > 2 and value[0] == value[-1] == "/":
        parse_pattern(value[1:-1])
        return value
    try:
        return parse_choice(*MULTILINE_MODES)(value)
    except ValueProblem as problem:
        raise ValueProblem(f"{problem}, or /regex/") from None


def parse_pattern_or_none(value: object) -> str | None:
    """Return a regex; None for an empty text, which takes back a default."""
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, str) and UNPRINTABLE.search(value.replace("\t", "")):
        raise ValueProblem("a regex without control characters (write \\n, \\x00)")
    return parse_pattern(value)


def parse_fields(value: object) -> dict[str, str]:
    """Return `key=value` pairs as an object of strings."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = [_pair(element) for element in parse_list(value)]
    if len(pairs) > MAX_FIELDS:
        raise ValueProblem(f"at most {MAX_FIELDS} fields")
    for key, text in pairs:
        _check_field(key, text)
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueProblem("each key once")
    return dict(pairs)


def _pair(element: str) -> tuple[str, str]:
    key, equals, text = element.partition("=")
    if not equals:
        raise ValueProblem("key=value, comma-separated")
    return key.strip(), text.strip()


def _check_field(key: object, text: object) -> None:
    if not isinstance(key, str) or not _FIELD_KEY.fullmatch(key):
        raise ValueProblem("keys of letters, digits and ._- that begin with a letter, at most 63")
    if _RESERVED_FIELD.fullmatch(key):
        raise ValueProblem("keys that are not the identity of a pod (namespace, pod, k8s.…)")
    if not isinstance(text, str) or not 1 <= len(text) <= 63:
        raise ValueProblem("values of 1 to 63 characters")
    if UNPRINTABLE.search(text) or '"' in text or "'" in text:
        raise ValueProblem("values without quotes and control characters")
    if names_credential(key) or looks_like_credential(text):
        raise ValueProblem("nothing that looks like a credential")


def parse_native(value: object) -> str:
    """Return `auto`, `true` or `false`, as text or as YAML's booleans."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return parse_choice("auto", "true", "false")(value)


parse_seed = parse_boolean
parse_format = parse_choice(*FORMATS)
parse_collector = parse_choice("sidecar", "node")
parse_log_level = parse_choice(*LOG_LEVELS)
parse_port = parse_count(1, 65535)


def parse_amount(low: str, high: str) -> Callable[[object], str]:
    """Return a parser for a quantity from `low` to `high`, which returns the quantity's text."""
    least, most = parse_quantity(low) or 0, parse_quantity(high) or 0

    def parse(value: object) -> str:
        amount = parse_quantity(value)
        if amount is None or not least <= amount <= most:
            raise ValueProblem(f"a quantity from {low} to {high}")
        return str(value)

    return parse


parse_size_limit = parse_amount("1Mi", "16Ti")
parse_cpu = parse_amount("1m", "64")
parse_memory_request = parse_amount("1Mi", "64Gi")
parse_memory_limit = parse_amount("16Mi", "64Gi")
parse_ephemeral = parse_amount("1Mi", "1Ti")


def parse_bytes(low: str, high: str) -> Callable[[object], int | None]:
    """Return a parser for a whole number of bytes; None for an empty text or null."""
    least, most = (parse_quantity(low) or 0) // NANO, (parse_quantity(high) or 0) // NANO

    def parse(value: object) -> int | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        amount = parse_quantity(value)
        if amount is None or amount % NANO or not least <= amount // NANO <= most:
            raise ValueProblem(f"a whole number of bytes from {low} to {high}, such as 64Mi")
        return amount // NANO

    return parse


parse_clean_above = parse_bytes("1Mi", "16Ti")
parse_max_rate = parse_bytes("1", "1Ti")


def parse_optional_port(value: object) -> int | None:
    """Return a port, or None for null."""
    return None if value is None else parse_port(value)
