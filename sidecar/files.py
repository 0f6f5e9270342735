"""Steps 1 to 3 wired: which files there are, how far each backend has read them.

In: the settings, and what the checkpoint said. Out: a `Backlog` for each backend.
"""

from dataclasses import dataclass, field

from runtime.logs import Seldom
from runtime.stop import Stop
from sidecar.backlog import Backlog
from sidecar.checkpoint import Checkpoint
from sidecar.settings import Settings

__all__ = ["Backlog", "FileFigures", "Files"]


@dataclass(frozen=True, slots=True)
class FileFigures:
    """What the metrics say about files, at one moment."""

    open_files: int
    tracked_files: int
    deleted_bytes: int
    """Disk space that deleted files hold because we still read them."""
    hole_bytes: int
    """NULs at the head of lines that were left out (holes that were filled)."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → names that were left out: symlink, fifo, socket, device, directory,
    other_device, unreadable, files (over `limits.files`), folders."""
    lost: dict[str, int] = field(default_factory=dict)
    """Reason → contents of which something was never read: deleted, rotated_unread, truncated."""
    polling: bool = False
    """No notification: changes are seen at the next scan."""


class Files:
    """All source files that are known; safe for threads."""

    def __init__(self, settings: Settings, checkpoint: Checkpoint, seldom: Seldom) -> None:
        raise NotImplementedError

    def run(self, stop: Stop) -> None:
        """Scan and listen until `stop`; the body of the discovery thread."""
        raise NotImplementedError

    def scan(self) -> None:
        """Look through all folders once: at start, and as the last pass when stopping."""
        raise NotImplementedError

    def backlog(self, name: str) -> Backlog:
        """Return the view of the backend `name`."""
        raise NotImplementedError

    def wake(self) -> None:
        """End every wait of every backlog now (a stop was asked)."""
        raise NotImplementedError

    def figures(self) -> FileFigures:
        """Return the counts for the metrics."""
        raise NotImplementedError

    def volume_bytes(self) -> int:
        """Return the disk space of all that lies below the sources' fixed folders, in bytes.

        It walks them: not more often than once a minute.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close every descriptor; the checkpoint is its owner's."""
        raise NotImplementedError
