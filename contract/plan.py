"""The plan: what is collected from where, as `sidetail.dev/status` holds it.

Source: docs/annotations.md.
"""

from typing import Literal, NotRequired, TypedDict

Outcome = Literal["injected", "partial", "skipped", "none"]
"""As in the status; `none` is a pod that gets no status: nothing was asked, or it is excluded."""

Stream = Literal["file", "stdout"]
STDOUT_PATH = "stdout"
"""The `path` of an entry for a container's stdout."""


class PlanEntry(TypedDict):
    """One accepted path and one volume it reaches, or one container whose stdout is collected."""

    container: str
    stream: Stream
    path: str
    """The absolute, normalised pattern as the app sees it; `stdout` for a container's stdout."""
    volume: str | None
    """A name in `spec.volumes[]`; None where the node agent reads the kubelet's own files."""
    subPath: str
    """As in the mount (a `subPathExpr` verbatim); empty for the volume's root."""
    glob: str | None
    """Relative to `subPath`."""


class LeftOut(TypedDict):
    """One thing that was asked for and is not done."""

    key: NotRequired[str]
    """The annotation it was asked with; absent where `path` says it."""
    path: NotRequired[str]
    """The path as its author wrote it, escaped and cut."""
    reason: str
    """A code of `contract.reasons`."""
    message: str
    """Printable, at most 512 characters."""


class Status(TypedDict):
    """The document of the annotation `sidetail.dev/status`."""

    version: str
    collector: str
    outcome: str
    default_container: str
    """The one that is meant where none is named, also when others come to stand before it."""
    plan: list[PlanEntry]
    left_out: list[LeftOut]


MAX_LEFT_OUT = 64
"""Entries of `left_out`; the last of them counts the rest."""
MAX_MESSAGE = 512
"""Characters of one `message`."""
