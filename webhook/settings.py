"""The operator config: `config.yaml` of the ConfigMap, parsed strictly, all problems at once.

In: YAML or JSON text. Out: a frozen `OperatorConfig`; nothing raw travels past here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.settings import Problem, SettingsError, ValueProblem, nearest, shown
from webhook import values
from webhook.backends import Backend, read_backends
from webhook.choices import PARSERS, Choices
from webhook.config_keys import DEFAULT_IMAGE, TOP_KEYS
from webhook.quantities import parse_quantity
from webhook.yaml_text import load_yaml

MAX_CONFIG_BYTES = 1024 * 1024
"""A ConfigMap holds no more."""


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    """What the operator decided for every pod."""

    image: str = DEFAULT_IMAGE
    """Of the sidecar and of `sidetail-init`."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secret: str | None = None
    defaults: Choices = field(default_factory=lambda: Choices(backend=("main",)))
    requests: Mapping[str, str] = field(default_factory=lambda: {"cpu": "10m", "memory": "48Mi"})
    """Resource → quantity, for each of our containers."""
    limits: Mapping[str, str] = field(default_factory=lambda: {"cpu": "500m", "memory": "128Mi"})
    guaranteed_cpu: str = "100m"
    """Request and limit where the pod is of the class Guaranteed."""
    on_error: str = "skip"
    tenant_keys: frozenset[str] | None = None
    """The annotations that pod authors may set; None lets them set all."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    pod_labels: tuple[str, ...] = ()
    backends: Mapping[str, Backend] = field(
        default_factory=lambda: {
            "main": Backend("main", {"name": "main", "type": "stdout"}, None, "")
        }
    )
    redact: Mapping[str, str] = field(default_factory=dict)
    """Name of a pattern → regex."""


DEFAULT_CONFIG = OperatorConfig()
"""What holds without a file (`--standalone` and the offline preview): lines go to our stdout."""


_RESOURCES = {
    "requests": {
        "cpu": values.parse_cpu,
        "memory": values.parse_memory_request,
        "ephemeral-storage": values.parse_ephemeral,
    },
    "limits": {
        "cpu": values.parse_cpu,
        "memory": values.parse_memory_limit,
        "ephemeral-storage": values.parse_ephemeral,
    },
}
_FIGURES = {
    "cpu_request": ("requests", "cpu"),
    "memory_request": ("requests", "memory"),
    "cpu_limit": ("limits", "cpu"),
    "memory_limit": ("limits", "memory"),
}
_DEFAULTS = (*PARSERS, "requests", "limits", "guaranteed_cpu")


def load_operator_config(text: str) -> OperatorConfig:
    """Return the operator config that `text` (YAML or JSON) holds.

    Raises:
        SettingsError: it has problems; all of them are in it.
    """
    problems: list[Problem] = []
    document = _load(text, problems)
    config = _read(document, problems) if not problems else DEFAULT_CONFIG
    if problems:
        raise SettingsError(problems)
    return config


def _load(text: str, problems: list[Problem]) -> dict[str, Any]:
    if len(text) > MAX_CONFIG_BYTES:
        problems.append(Problem("document", f"{len(text)} characters", "at most 1 MiB"))
        return {}
    try:
        document = load_yaml(text)
    except ValueError as error:
        problems.append(Problem("document", str(error), "YAML or JSON"))
        return {}
    if not isinstance(document, dict):
        problems.append(Problem("document", type(document).__name__, "an object"))
        return {}
    return document


def _read(document: dict[str, Any], problems: list[Problem]) -> OperatorConfig:
    _check_known("", document, (*(key.name for key in TOP_KEYS), "defaults", "backends"), problems)
    plain = {}
    for key in TOP_KEYS:
        given = document.get(key.name, key.default)
        plain[key.name] = _parse(key.name, given, key.parse, problems, key.parse(key.default))
    backends = read_backends(document.get("backends"), problems)
    defaults = document.get("defaults")
    if not isinstance(defaults, dict):
        if defaults is not None:
            problems.append(Problem("defaults", type(defaults).__name__, "an object"))
        defaults = {}
    _check_known("defaults.", defaults, _DEFAULTS, problems)
    config = OperatorConfig(
        **plain,
        backends=backends,
        defaults=_choices(defaults, backends, problems),
        **_figures(defaults, problems),
    )
    _validate(config, problems)
    return config


def _check_known(
    prefix: str, given: Mapping[Any, Any], known: tuple[str, ...], problems: list[Problem]
) -> None:
    for name in given:
        if name in known:
            continue
        near = nearest(str(name), known)
        hint = f"; did you mean {near}?" if near else ""
        expected = "one of " + ", ".join(sorted(known)) + hint
        problems.append(Problem(prefix + ascii(name).strip("'"), "an unknown key", expected))


def _parse(
    where: str, value: object, parse: values.Parser, problems: list[Problem], otherwise: Any
) -> Any:
    try:
        return parse(value)
    except ValueProblem as problem:
        problems.append(Problem(where, shown(value), str(problem)))
        return otherwise


def _choices(
    defaults: dict[str, Any], backends: Mapping[str, Backend], problems: list[Problem]
) -> Choices:
    given = {
        name: _parse(f"defaults.{name}", defaults[name], _default_parser(name), problems, None)
        for name in PARSERS
        if name in defaults and name not in _FIGURES
    }
    if "backend" not in given:
        given["backend"] = ("main",) if "main" in backends or len(backends) != 1 else (*backends,)
    return Choices(**given)


def _default_parser(name: str) -> values.Parser:
    return values.parse_optional_port if name == "metrics_port" else PARSERS[name]


def _figures(defaults: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "requests": _resources("requests", defaults, DEFAULT_CONFIG.requests, problems),
        "limits": _resources("limits", defaults, DEFAULT_CONFIG.limits, problems),
    }
    for name, (section, resource) in _FIGURES.items():
        if name in defaults:
            parse = _RESOURCES[section][resource]
            text = _parse(f"defaults.{name}", defaults[name], parse, problems, None)
            figures[section] = {**figures[section], resource: text}
    if "guaranteed_cpu" in defaults:
        given = defaults["guaranteed_cpu"]
        figures["guaranteed_cpu"] = _parse(
            "defaults.guaranteed_cpu", given, values.parse_cpu, problems, "100m"
        )
    return figures


def _resources(
    section: str, defaults: dict[str, Any], builtin: Mapping[str, str], problems: list[Problem]
) -> dict[str, str]:
    given = defaults.get(section, {})
    if not isinstance(given, dict):
        problems.append(Problem(f"defaults.{section}", type(given).__name__, "an object"))
        given = {}
    parsers = _RESOURCES[section]
    _check_known(f"defaults.{section}.", given, tuple(parsers), problems)
    resources = dict(builtin)
    for name in parsers:
        if name in given:
            where = f"defaults.{section}.{name}"
            resources[name] = _parse(where, given[name], parsers[name], problems, "")
    return {name: text for name, text in resources.items() if text}


def _validate(config: OperatorConfig, problems: list[Problem]) -> None:
    """Check what no key can say alone."""
    defaults = config.defaults
    if config.backends:
        for name in defaults.backend or ():
            if name not in config.backends:
                expected = "one of " + ", ".join(config.backends)
                problems.append(Problem("defaults.backend", shown(name), expected))
    for name in defaults.redact or ():
        if name not in config.redact:
            expected = "a name under redact: " + (", ".join(config.redact) or "there is none")
            problems.append(Problem("defaults.redact", shown(name), expected))
    for name, request in config.requests.items():
        limit = config.limits.get(name)
        if limit is not None and (parse_quantity(request) or 0) > (parse_quantity(limit) or 0):
            expected = f"at most the limit, {limit}"
            problems.append(Problem(f"defaults.requests.{name}", request, expected))
