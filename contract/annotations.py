"""The annotations and labels under our prefix: what a pod author may write, and what we write.

The page docs/annotations.md is made from this table.
"""

from dataclasses import dataclass

PREFIX = "sidetail.dev/"

INJECT_LABEL = PREFIX + "inject"
"""On a namespace `enabled`; on a pod `true` or `false`."""
STATUS = PREFIX + "status"
"""Written by the webhook: a `contract.plan.Status` document."""

PATHS = PREFIX + "paths"
EXCLUDE = PREFIX + "exclude"
STDOUT = PREFIX + "stdout"
COMMAND = PREFIX + "command"
BACKEND = PREFIX + "backend"
FORMAT = PREFIX + "format"
MULTILINE = PREFIX + "multiline"
KEEP = PREFIX + "keep"
DROP = PREFIX + "drop"
REDACT = PREFIX + "redact"
FIELDS = PREFIX + "fields"
COLLECTOR = PREFIX + "collector"
NATIVE = PREFIX + "native"
SEED = PREFIX + "seed"
SIZE_LIMIT = PREFIX + "size-limit"
CLEAN_ABOVE = PREFIX + "clean-above"
MAX_RATE = PREFIX + "max-rate"
CPU_REQUEST = PREFIX + "cpu-request"
CPU_LIMIT = PREFIX + "cpu-limit"
MEMORY_REQUEST = PREFIX + "memory-request"
MEMORY_LIMIT = PREFIX + "memory-limit"
LOG_LEVEL = PREFIX + "log-level"
METRICS_PORT = PREFIX + "metrics-port"

DEFAULT_EXCLUDE = ("*.gz", "*.zip", "*.bz2", "*.xz", "*.zst")
"""Holds where neither pod nor namespace nor operator says anything."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation that a pod author may set, or a namespace for its pods."""

    key: str
    value: str
    """What may be written, for people."""
    default: str
    """What holds without it; `operator's` is a key of `defaults` in the operator config."""
    sentence: str
    protects: bool = False
    """It keeps lines from leaving: what cannot be honoured refuses what it applies to."""
    in_defaults: bool = True
    """Whether the operator may give a default for it."""
    is_word: bool = False
    """Its value is a word, a number or a size: a wrong one that resembles it may be shown."""


ANNOTATIONS = (
    Annotation(
        PATHS,
        "`[container:]/abs/glob`, comma-separated; or a JSON or YAML list of strings or of objects"
        " `{path, container, exclude, format, multiline, fields}`",
        "none",
        "The log files to collect, as the container sees them.",
        in_defaults=False,
    ),
    Annotation(
        EXCLUDE,
        "globs, comma-separated or a JSON list",
        "`" + ",".join(DEFAULT_EXCLUDE) + "`",
        "Files to leave out: without `/` the base name is matched, with `/` the whole path as the"
        " app sees it.",
        protects=True,
    ),
    Annotation(
        STDOUT,
        "`mirror`, `all`, `off`, or containers, comma-separated",
        "operator's (`off`)",
        "Whose stdout and stderr to collect: `mirror` is the default container, `all` every"
        " container but init containers and known sidecars.",
        is_word=True,
    ),
    Annotation(
        COMMAND,
        "a JSON object: container → list of strings",
        "none",
        "The program of a container whose spec has no `command`, so that its stdout can be"
        " mirrored.",
        in_defaults=False,
    ),
    Annotation(
        BACKEND,
        "backend names, comma-separated",
        "operator's",
        "Where the lines go: backends that the operator has defined.",
        protects=True,
    ),
    Annotation(
        FORMAT,
        "`text`, `json`, `logfmt`, `cri` or `auto`",
        "operator's (`text`)",
        "How a line is parsed.",
        is_word=True,
    ),
    Annotation(
        MULTILINE,
        "`none`, `java`, `python`, `go`, `indented`, `auto`, or `/regex/`",
        "operator's (`none`)",
        "How lines are joined into records; a regex matches the first line of a record.",
        is_word=True,
    ),
    Annotation(
        KEEP,
        "a regex (RE2), at most 4 KiB",
        "operator's (none)",
        "Only records that match are shipped.",
        protects=True,
    ),
    Annotation(
        DROP,
        "a regex (RE2), at most 4 KiB",
        "operator's (none)",
        "Records that match are never shipped.",
        protects=True,
    ),
    Annotation(
        REDACT,
        "names of the operator's patterns, comma-separated",
        "operator's",
        "What is blacked out in every record; added to the operator's default, which nobody can"
        " take away.",
        protects=True,
    ),
    Annotation(
        FIELDS,
        "`key=value`, comma-separated",
        "operator's (none)",
        "Added to every record, under `fields`.",
    ),
    Annotation(
        COLLECTOR,
        "`sidecar` or `node`",
        "operator's (`sidecar`)",
        "Who collects: a sidecar in the pod, or the agent on its node.",
        is_word=True,
    ),
    Annotation(
        NATIVE,
        "`auto`, `true` or `false`",
        "operator's (`auto`)",
        "Whether the sidecar is a native one; `auto` asks the versions of API server and kubelets.",
        is_word=True,
    ),
    Annotation(
        SEED,
        "`true` or `false`",
        "operator's (`false`)",
        "Copy what the image has under a directory into the new volume before the app starts.",
        is_word=True,
    ),
    Annotation(
        SIZE_LIMIT,
        "a quantity, at least 1Mi",
        "operator's (`4Gi`)",
        "The size of the volume `sidetail-logs`; past it the kubelet evicts the pod, "
        "and the sidecar says it at four fifths.",
        is_word=True,
    ),
    Annotation(
        CLEAN_ABOVE,
        "a quantity, at least 1Mi",
        "operator's (never deletes)",
        "While the matched files on `sidetail-logs` hold more, those that every backend has"
        " acknowledged are deleted, oldest first.",
        is_word=True,
    ),
    Annotation(
        MAX_RATE,
        "a quantity: bytes per second",
        "operator's (none)",
        "What leaves the pod at most, per backend; what is above waits in its file.",
        is_word=True,
    ),
    Annotation(
        CPU_REQUEST, "a quantity", "operator's (`10m`)", "CPU request of the sidecar.", is_word=True
    ),
    Annotation(
        CPU_LIMIT, "a quantity", "operator's (`500m`)", "CPU limit of the sidecar.", is_word=True
    ),
    Annotation(
        MEMORY_REQUEST,
        "a quantity",
        "operator's (`48Mi`)",
        "Memory request of the sidecar.",
        is_word=True,
    ),
    Annotation(
        MEMORY_LIMIT,
        "a quantity",
        "operator's (`128Mi`)",
        "Memory limit of the sidecar.",
        is_word=True,
    ),
    Annotation(
        LOG_LEVEL,
        "`debug`, `info`, `warning` or `error`",
        "operator's (`info`)",
        "Of the sidecar's own log.",
        is_word=True,
    ),
    Annotation(
        METRICS_PORT,
        "a port from 1 to 65535",
        "operator's (none)",
        "Where the sidecar serves `/metrics` and `/healthz`, on all addresses of the pod.",
        is_word=True,
    ),
)

KEYS = tuple(annotation.key for annotation in ANNOTATIONS)


SHORT_KEYS = tuple(key.removeprefix(PREFIX) for key in KEYS)
"""Without the prefix, which would make every key resemble every other."""


def default_name(key: str) -> str:
    """Return the name under which `defaults` of the operator config holds an annotation's value."""
    return key.removeprefix(PREFIX).replace("-", "_")
