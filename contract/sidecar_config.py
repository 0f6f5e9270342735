"""The sidecar's configuration document, as the webhook writes it and the sidecar reads it.

Source: docs/sidecar.md. Sizes are bytes or text such as `256KiB`; times are seconds.
"""

from typing import Any, NotRequired, TypedDict

CONFIG_ENV = "SIDETAIL_CONFIG"
"""The environment variable that holds the document where no `--config` is given."""

FORMATS = ("text", "json", "logfmt", "cri", "auto")
DOCKER_FORMAT = "docker"
"""Docker's json-file; a format of the sidecar's document only, no annotation names it."""
MULTILINE_MODES = ("none", "java", "python", "go", "indented", "auto")
"""Or `/regex/`, which matches the first line of a record."""
STREAMS = ("file", "stdout")
COMPRESSIONS = ("none", "gzip")
BACKEND_TYPES = (
    "http",
    "loki",
    "elasticsearch",
    "otlp",
    "forward",
    "syslog",
    "kafka",
    "file",
    "stdout",
)
LOG_LEVELS = ("debug", "info", "warning", "error")

DOWNWARD_ATTRIBUTES = {
    "POD_NAME": "k8s.pod.name",
    "POD_NAMESPACE": "k8s.namespace.name",
    "POD_UID": "k8s.pod.uid",
    "NODE_NAME": "k8s.node.name",
}
"""Environment variable (set by the downward API) → the attribute it gives, where absent."""


class SourceConfig(TypedDict):
    """`sources[]`: one glob and how its files are read."""

    path: str
    shown_as: NotRequired[str]
    container: NotRequired[str]
    stream: NotRequired[str]
    exclude: NotRequired[list[str]]
    format: NotRequired[str]
    multiline: NotRequired[str]
    fields: NotRequired[dict[str, str]]
    attributes: NotRequired[dict[str, str]]
    keep: NotRequired[str]
    drop: NotRequired[str]
    redact: NotRequired[list[str]]
    skip_empty: NotRequired[bool]


class CredentialsConfig(TypedDict):
    """`backends[].credentials`: the folder of a mounted Secret."""

    dir: str


class BackendConfig(TypedDict):
    """`backends[]`; what else stands in it is the type's own option."""

    name: str
    type: str
    url: NotRequired[str]
    compression: NotRequired[str]
    credentials: NotRequired[CredentialsConfig]


class SidecarConfig(TypedDict):
    """The whole document."""

    sources: NotRequired[list[SourceConfig]]
    backends: list[dict[str, Any]]
    state_dir: str
    attributes: NotRequired[dict[str, str]]
    limits: NotRequired[dict[str, Any]]
    scan_seconds: NotRequired[float]
    redact: NotRequired[dict[str, str]]
    log_level: NotRequired[str]
    metrics: NotRequired[dict[str, Any]]
    volume: NotRequired[dict[str, Any]]
