"""The tables of the sidecar's configuration: each key with its parser, default and sentence."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from contract.sidecar_config import (
    BACKEND_TYPES,
    COMPRESSIONS,
    DOCKER_FORMAT,
    FORMATS,
    LOG_LEVELS,
    MULTILINE_MODES,
    STREAMS,
)
from runtime.patterns import parse_pattern
from runtime.settings import (
    REQUIRED,
    Key,
    ValueProblem,
    parse_boolean,
    parse_choice,
    parse_count,
    parse_seconds,
    parse_seconds_or_zero,
    parse_size,
    parse_text,
)
from sidecar.glob import GlobError, compile_exclude, compile_path
from sidecar.url import parse_url


@dataclass(frozen=True, slots=True)
class Only:
    """Which files a backend takes: a stream, a regex on `log.file.path`, or both."""

    stream: str | None
    path: str | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where the metrics go: a port on all addresses, or a file; neither where both are None."""

    port: int | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume of the log files, which has a size that must not be reached."""

    dir: str
    bytes: int


def _or_null(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else parse(value)


def _parse_glob(value: object) -> str:
    path = parse_text()(value)
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueProblem("an absolute glob without '..'")
    try:
        compile_path(path)
    except GlobError as error:
        raise ValueProblem(str(error)) from error
    return path


def _parse_excludes(value: object) -> tuple[str, ...]:
    patterns = _parse_strings(value)
    try:
        compile_exclude(patterns)
    except GlobError as error:
        raise ValueProblem(f"a list of globs, {error}") from error
    return patterns


def _parse_directory(value: object) -> str:
    path = parse_text()(value)
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueProblem("an absolute directory without '..'")
    return path


def _parse_multiline(value: object) -> str:
    if isinstance(value, str) and len(value) > 2 and value[0] == value[-1] == "/":
        return f"/{parse_pattern(value[1:-1])}/"
    if not isinstance(value, str) or value not in MULTILINE_MODES:
        raise ValueProblem("one of " + ", ".join(MULTILINE_MODES) + ", or /regex/ in RE2's syntax")
    return value


def _parse_strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueProblem("a list of strings")
    return tuple(value)


def _parse_pairs(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(key, str) and key and isinstance(item, (str, int, float))
        for key, item in value.items()
    ):
        raise ValueProblem("key: value pairs of text")
    return {key: item if isinstance(item, str) else json.dumps(item) for key, item in value.items()}


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        raise ValueProblem("a name of 1 to 63 lower-case letters, digits and '-'")
    return value


def _parse_credentials(value: object) -> str:
    if not isinstance(value, dict) or set(value) != {"dir"}:
        raise ValueProblem("{dir: DIRECTORY}")
    return _parse_directory(value["dir"])


def _parse_only(value: object) -> Only:
    expected = "{stream: file or stdout} or {path: regex} or both"
    if not isinstance(value, dict) or not value or not set(value) <= {"stream", "path"}:
        raise ValueProblem(expected)
    stream = parse_choice(*STREAMS)(value["stream"]) if "stream" in value else None
    return Only(stream, parse_pattern(value["path"]) if "path" in value else None)


def _parse_metrics(value: object) -> Metrics:
    if value is None:
        return Metrics()
    if isinstance(value, dict) and set(value) == {"port"}:
        return Metrics(port=parse_count(1, 65535)(value["port"]))
    if isinstance(value, dict) and set(value) == {"file"}:
        return Metrics(file=_parse_directory(value["file"]))
    raise ValueProblem("{port: 1 to 65535} or {file: absolute path}")


def _parse_volume(value: object) -> Volume | None:
    if value is None:
        return None
    if isinstance(value, dict) and set(value) == {"dir", "bytes"}:
        return Volume(_parse_directory(value["dir"]), parse_size(value["bytes"]))
    raise ValueProblem("{dir: absolute path, bytes: its size}")


SOURCE_KEYS = (
    Key("path", _parse_glob, REQUIRED, "An absolute glob of files, as this process sees them."),
    Key(
        "shown_as",
        _or_null(parse_text()),
        None,
        "Stands for the part before the first wildcard segment in `log.file.path`.",
    ),
    Key("container", _or_null(parse_text(253)), None, "The container that writes the files."),
    Key("stream", parse_choice(*STREAMS), "file", "`stdout`: the files hold CRI lines."),
    Key(
        "exclude", _parse_excludes, [], "Globs to leave out; without `/` they match the base name."
    ),
    Key("format", parse_choice(*FORMATS, DOCKER_FORMAT), "text", "How a line is read."),
    Key("multiline", _parse_multiline, "none", "How lines are joined to records."),
    Key("fields", _parse_pairs, {}, "Key=value pairs on every record, under `fields`."),
    Key("attributes", _parse_pairs, {}, "Attributes that win over the document's."),
    Key("keep", _or_null(parse_pattern), None, "Send only records that match this regex."),
    Key("drop", _or_null(parse_pattern), None, "Never send records that match this regex."),
    Key("redact", _parse_strings, [], "Names of patterns whose matches become `[redacted]`."),
    Key("skip_empty", parse_boolean, False, "Leave empty lines out."),
)

BACKEND_KEYS = (
    Key("name", _parse_name, REQUIRED, "The backend's name, in metrics and in the checkpoint."),
    Key("type", parse_choice(*BACKEND_TYPES), REQUIRED, "The protocol."),
    Key("url", _or_null(parse_url), None, "Where it listens."),
    Key("compression", parse_choice(*COMPRESSIONS), "none", "Of the body, where the type has it."),
    Key("compression_level", parse_count(0, 3), 1, "0 (fastest) to 3 (smallest)."),
    Key("credentials", _or_null(_parse_credentials), None, "`{dir: …}`: the mounted Secret."),
    Key("insecure", parse_boolean, False, "Do not check the certificate; shows as a metric."),
    Key(
        "allow_link_local",
        parse_boolean,
        False,
        "Connect to link-local addresses (169.254.0.0/16, fe80::/10), where clouds keep secrets.",
    ),
    Key("only", _or_null(_parse_only), None, "Which files it takes: `{stream: …, path: regex}`."),
)

_BYTES = parse_size
_MANY = parse_count(1, 10_000_000)

LIMIT_KEYS = (
    Key("batch_bytes", _BYTES, "1MiB", "Encoded bytes of a batch before compression."),
    Key("batch_seconds", parse_seconds_or_zero, 1, "A batch waits at most this long to fill."),
    Key("in_flight", parse_count(1, 64), 2, "Batches at a time for each backend."),
    Key("max_line_bytes", _BYTES, "1MiB", "A longer line or record is cut."),
    Key("open_files", _MANY, 256, "Descriptors for source files."),
    Key("files", _MANY, 100_000, "Files followed; the least recently written are left out first."),
    Key(
        "deleted_bytes", _BYTES, "256MiB", "Space that deleted files may hold until they are sent."
    ),
    Key("partial_seconds", parse_seconds, 2, "An unterminated line is sent after this long."),
    Key(
        "multiline_seconds", parse_seconds, 3, "An open multi-line record is sent after this long."
    ),
    Key("rotated_seconds", parse_seconds, 30, "A renamed file is let go after this long of quiet."),
    Key("request_seconds", parse_seconds, 30, "A whole request, first byte to last of the answer."),
    Key("drain_seconds", parse_seconds, 25, "What a stop may take."),
    Key("max_rate", _or_null(_BYTES), None, "Bytes per second that leave for each backend."),
    Key("clean_above", _or_null(_BYTES), None, "Delete sent files above this many bytes."),
)

DOCUMENT_KEYS = (
    Key("state_dir", _parse_directory, REQUIRED, "Where the checkpoint stands."),
    Key("attributes", _parse_pairs, {}, "Attributes on every record."),
    Key("scan_seconds", parse_seconds, 1, "Time between two looks at the directories."),
    Key("log_level", parse_choice(*LOG_LEVELS), "info", "Of the sidecar's own log."),
    Key("metrics", _parse_metrics, None, "`{port: N}` or `{file: PATH}`."),
    Key(
        "volume",
        _parse_volume,
        None,
        "`{dir: PATH, bytes: SIZE}`: says it when four fifths of a size-limited volume are used.",
    ),
)
