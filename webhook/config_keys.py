"""The table of the operator config: each key with its parser, default and sentence."""

import re

from contract import VERSION
from contract.annotations import PREFIX, SHORT_KEYS
from runtime.patterns import parse_pattern
from runtime.settings import Key, ValueProblem, nearest, parse_choice
from webhook import values

DEFAULT_IMAGE = f"registry.example/sidetail-sidecar:{VERSION}"
"""What the manifests say too; `registry.example` stands for where a cluster pulls from."""

_IMAGE = re.compile(r"[\w][\w./:@-]{0,511}", re.ASCII)
_SECRET_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_KEY = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_PATTERN_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def _parse_image(value: object) -> str:
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        raise ValueProblem("the name of an image")
    return value


def _parse_secret_name(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _SECRET_NAME.fullmatch(value):
        raise ValueProblem("the name of a Secret, or null")
    return value


def _parse_tenant_keys(value: object) -> frozenset[str] | None:
    if value == "*":
        return None
    if not isinstance(value, list):
        raise ValueProblem('"*", or a list of annotations')
    keys = [str(key).removeprefix(PREFIX) for key in value]
    odd = [key for key in keys if key not in SHORT_KEYS]
    if odd:
        near = [name for key in odd[:8] if (name := nearest(key, SHORT_KEYS))]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueProblem(f"known annotations, not {', '.join(map(ascii, odd[:8]))}{hint}")
    return frozenset(PREFIX + key for key in keys)


def _parse_attributes(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 64:
        raise ValueProblem("an object of at most 64 strings")
    for key, text in value.items():
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z][\w.-]{0,127}", key, re.ASCII):
            raise ValueProblem("names of letters, digits and ._-")
        if not isinstance(text, str) or not 1 <= len(text) <= 255:
            raise ValueProblem("values of 1 to 255 characters")
        if values.UNPRINTABLE.search(text):
            raise ValueProblem("values without control characters")
    return value


def _parse_pod_labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 64:
        raise ValueProblem("a list of at most 64 label keys")
    if not all(isinstance(key, str) and _LABEL_KEY.fullmatch(key) for key in value):
        raise ValueProblem("label keys")
    return tuple(dict.fromkeys(value))


def _parse_redact(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueProblem("an object: name → regex")
    for name, pattern in value.items():
        if not isinstance(name, str) or not _PATTERN_NAME.fullmatch(name):
            raise ValueProblem("names of lower-case letters, digits and '-'")
        try:
            parse_pattern(pattern)
        except ValueProblem as problem:
            raise ValueProblem(f"for {name}: {problem}") from None
    return value


TOP_KEYS = (
    Key("image", _parse_image, DEFAULT_IMAGE, "Of the sidecar and the init container."),
    Key(
        "image_pull_policy",
        parse_choice("Always", "IfNotPresent", "Never"),
        "IfNotPresent",
        "When the kubelet pulls that image.",
    ),
    Key(
        "image_pull_secret",
        _parse_secret_name,
        None,
        "A Secret in each pod's namespace, for a private registry.",
    ),
    Key(
        "on_error",
        parse_choice("skip", "deny"),
        "skip",
        "What a bad annotation does: leave that part out, or deny the pod.",
    ),
    Key("tenant_keys", _parse_tenant_keys, "*", "The annotations that pod authors may set."),
    Key("attributes", _parse_attributes, {}, "Put on every record, such as `k8s.cluster.name`."),
    Key(
        "pod_labels", _parse_pod_labels, [], "Pod labels put on every record: `k8s.pod.label.KEY`."
    ),
    Key("redact", _parse_redact, {}, "Patterns to black out: name → regex (RE2)."),
)
"""The keys of the document but `defaults` and `backends`, which have tables of their own."""
