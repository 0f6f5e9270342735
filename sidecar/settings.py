"""The sidecar's settings, parsed once at the door, every problem at once.

In: the document of the configuration (YAML or JSON text) and the environment as a mapping.
Out: a frozen `Settings`. No raw string travels past here: sizes are bytes, times are seconds,
URLs are split, patterns are known to be RE2's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contract.sidecar_config import BACKEND_TYPES, DOWNWARD_ATTRIBUTES
from runtime.patterns import parse_pattern
from runtime.settings import REQUIRED, Key, Problem, SettingsError, ValueProblem, nearest, shown
from sidecar.backends.registry import option_keys, url_schemes
from sidecar.keys import (
    BACKEND_KEYS,
    DOCUMENT_KEYS,
    LIMIT_KEYS,
    SOURCE_KEYS,
    Metrics,
    Only,
    Volume,
)
from sidecar.url import Url

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One glob and how the lines of its files are read."""

    index: int
    """Its place in the document; a file that several sources match belongs to the first."""
    path: str
    """An absolute glob as this process sees it."""
    shown_as: str | None
    container: str | None
    stream: str
    exclude: tuple[str, ...]
    format: str
    multiline: str
    """`none`, `java`, `python`, `go`, `indented`, `auto`, or `/regex/`."""
    fields: Mapping[str, str]
    attributes: Mapping[str, str]
    """Merged: the document's, the environment's, and the source's own, which win."""
    keep: str | None
    drop: str | None
    redact: tuple[tuple[str, str], ...]
    """(name, pattern), in the order in which they are applied."""
    skip_empty: bool


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """One place where lines go."""

    name: str
    type: str
    url: Url | None
    compression: str
    compression_level: int
    credentials_dir: str | None
    insecure: bool
    allow_link_local: bool
    only: Only | None
    options: Mapping[str, Any]
    """What the type's own file adds: its OPTIONS, parsed, defaults filled in."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    batch_bytes: int
    batch_seconds: float
    in_flight: int
    max_line_bytes: int
    open_files: int
    files: int
    deleted_bytes: int
    partial_seconds: float
    multiline_seconds: float
    rotated_seconds: float
    request_seconds: float
    drain_seconds: float
    max_rate: int | None
    clean_above: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    sources: tuple[Source, ...]
    backends: tuple[BackendSettings, ...]
    state_dir: str | None
    """None only with `keep_running`, where it was missing or wrong: then there is no state."""
    limits: Limits
    scan_seconds: float
    log_level: str
    metrics: Metrics
    volume: Volume | None
    pod_uid: str
    """`k8s.pod.uid`, or empty where it is unknown; part of every id."""


_SECTIONS = ("sources", "backends", "limits", "redact")


def read_settings(
    text: str, environ: Mapping[str, str], *, keep_running: bool = False
) -> tuple[Settings, list[Problem]]:
    """Return the settings that a document gives, and what is wrong with it.

    Args:
        text: JSON, or else YAML.
        environ: `POD_NAME` and its like; never the process's own environment by itself.
        keep_running: leave out what is wrong (a source or backend whole, a limit for its
            default) and return the problems; without it they are raised.

    Raises:
        SettingsError: something is wrong, with all of it. With `keep_running` never.
    """
    reader = _Reader(keep_running=keep_running)
    settings = reader.read(_load(text, reader.problems), environ)
    if reader.problems and not keep_running:
        raise SettingsError(reader.problems)
    return settings, reader.problems


def _load(text: str, problems: list[Problem]) -> dict[str, Any]:
    expected = "a YAML or JSON object"
    document: object = None
    if len(text) > MAX_DOCUMENT_BYTES:
        problems.append(Problem("document", f"{len(text)} characters", "at most 4 MiB"))
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = _load_yaml(text)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        problems.append(Problem("document", type(document).__name__, expected))
        return {}
    return document


def _load_yaml(text: str) -> object:
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - it is the safe loader, in C where there is one
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


class _Reader:
    """Collects the problems of one document while it is read."""

    def __init__(self, *, keep_running: bool) -> None:
        self.problems: list[Problem] = []
        self._keep_running = keep_running

    def read(self, document: dict[str, Any], environ: Mapping[str, str]) -> Settings:
        top = {key: value for key, value in document.items() if key not in _SECTIONS}
        values = self._section("", top, DOCUMENT_KEYS, known=_SECTIONS)
        limits = self._section("limits.", self._object(document, "limits"), LIMIT_KEYS)
        attributes = dict(values["attributes"] or {})
        for variable, attribute in DOWNWARD_ATTRIBUTES.items():
            if environ.get(variable):
                attributes.setdefault(attribute, environ[variable])
        return Settings(
            sources=self._sources(document, attributes),
            backends=self._backends(document),
            state_dir=values["state_dir"],
            limits=Limits(**limits),
            scan_seconds=values["scan_seconds"],
            log_level=values["log_level"],
            metrics=values["metrics"],
            volume=values["volume"],
            pod_uid=attributes.get("k8s.pod.uid", ""),
        )

    def _problem(self, where: str, value: object, expected: str) -> None:
        self.problems.append(Problem(where, shown(value), expected))

    def _object(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        section = document.get(name) or {}
        if not isinstance(section, dict):
            self._problem(name, type(section).__name__, "an object")
            return {}
        return {str(key): value for key, value in section.items()}

    def _rows(self, document: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
        rows = document.get(name)
        if rows is None:
            return []
        if not isinstance(rows, list):
            self._problem(name, type(rows).__name__, "a list of objects")
            return []
        found = []
        for index, row in enumerate(rows):
            where = f"{name}[{index}]"
            if isinstance(row, dict):
                found.append((where, {str(key): value for key, value in row.items()}))
            else:
                self._problem(where, type(row).__name__, "an object")
        return found

    def _section(
        self,
        prefix: str,
        given: Mapping[str, Any],
        keys: tuple[Key, ...],
        known: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Return key → value with defaults; a wrong value is a problem and takes its default."""
        self._unknown(prefix, given, (*(key.name for key in keys), *known))
        values: dict[str, Any] = {}
        for key in keys:
            default = None if key.default is REQUIRED else key.parse(key.default)
            values[key.name] = default
            if key.name not in given:
                if key.default is REQUIRED:
                    self._problem(prefix + key.name, None, "a value: it is required")
                continue
            try:
                values[key.name] = key.parse(given[key.name])
            except ValueProblem as problem:
                value = "(not shown)" if key.name == "url" else given[key.name]
                self._problem(prefix + key.name, value, str(problem))
        return values

    def _unknown(self, prefix: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in given:
            if name not in known:
                near = nearest(name, known)
                hint = f"; did you mean {near}?" if near else ""
                expected = "a known key: " + ", ".join(known) + hint
                self.problems.append(Problem(prefix + name, "an unknown key", expected))

    def _sources(self, document: dict[str, Any], shared: dict[str, str]) -> tuple[Source, ...]:
        patterns = self._patterns(document)
        sources = []
        for index, (where, row) in enumerate(self._rows(document, "sources")):
            before = self._wrong_values()
            values = self._section(where + ".", row, SOURCE_KEYS)
            redact = []
            for name in values["redact"]:
                if name in patterns:
                    redact.append((name, patterns[name]))
                else:
                    self._problem(f"{where}.redact", name, "a name of the table redact")
            if self._wrong_values() > before:
                continue  # what protects fails closed: left out whole
            values["redact"] = tuple(redact)
            values["attributes"] = _merge(shared, values["attributes"], values["container"])
            sources.append(Source(index=index, **values))
        return tuple(sources)

    def _patterns(self, document: dict[str, Any]) -> dict[str, str]:
        patterns = {}
        for name, pattern in self._object(document, "redact").items():
            try:
                patterns[name] = parse_pattern(pattern)
            except ValueProblem as problem:
                self._problem(f"redact.{name}", pattern, str(problem))
        return patterns

    def _backends(self, document: dict[str, Any]) -> tuple[BackendSettings, ...]:
        rows = self._rows(document, "backends")
        if not rows:
            self._problem("backends", document.get("backends"), "a list of at least one backend")
        backends: list[BackendSettings] = []
        for where, row in rows:
            backend = self._backend(where, row)
            if backend is None:
                continue
            if any(other.name == backend.name for other in backends):
                self._problem(f"{where}.name", backend.name, "a name that no other backend has")
                continue
            backends.append(backend)
        return tuple(backends)

    def _backend(self, where: str, row: dict[str, Any]) -> BackendSettings | None:
        before = self._wrong_values()
        names = {key.name for key in BACKEND_KEYS}
        own: tuple[Key, ...] = ()
        schemes: tuple[str, ...] = ()
        if row.get("type") in BACKEND_TYPES:
            own = option_keys(row["type"])
            schemes = url_schemes(row["type"])
        own_names = tuple(key.name for key in own)
        common = {key: value for key, value in row.items() if key in names}
        values = self._section(where + ".", common, BACKEND_KEYS)
        rest = {key: value for key, value in row.items() if key not in names}
        options: dict[str, Any] = {}
        if values["type"] is not None:
            self._unknown(where + ".", rest, (*names, *own_names))
            given = {key: value for key, value in rest.items() if key in own_names}
            options = self._section(where + ".", given, own)
        url = values["url"]
        if schemes and (url is None or url.scheme not in schemes):
            expected = "a URL that begins with " + " or ".join(f"{name}://" for name in schemes)
            self._problem(f"{where}.url", "(not shown)" if url else None, expected)
        if self._wrong_values() > before:
            return None
        values["credentials_dir"] = values.pop("credentials")
        return BackendSettings(options=options, **values)

    def _wrong_values(self) -> int:
        """Count the problems that leave something out; with keep_running unknown keys do not."""
        if not self._keep_running:
            return len(self.problems)
        return sum(problem.got != "an unknown key" for problem in self.problems)


def _merge(
    shared: Mapping[str, str], own: Mapping[str, str], container: str | None
) -> dict[str, str]:
    """Return a source's attributes: the shared ones, its own over them, and what follows."""
    merged = {**shared, **own}
    if container:
        merged.setdefault("k8s.container.name", container)
    parts = [merged.get(f"k8s.{part}.name") for part in ("namespace", "pod", "container")]
    if all(parts):
        merged.setdefault("service.instance.id", ".".join(str(part) for part in parts))
    return {key: value for key, value in merged.items() if value}
