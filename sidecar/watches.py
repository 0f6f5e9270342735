"""Which folders are watched, and whether notifications can be had at all.

In: folders as discovery reads them. Out: (folder, names) that something happened to. Where
inotify's instances or watches are used up, passes have to see everything; that is said once.
"""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from sidecar.inotify import (
    IN_IGNORED,
    IN_MODIFY,
    IN_Q_OVERFLOW,
    Event,
    HintsUsedUpError,
    Inotify,
)
from sidecar.source_file import Folder

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Hints:
    """What a read of the events came to."""

    names: dict[Folder, set[str]] = field(default_factory=dict)
    """Folder → names to look at."""
    written: dict[Folder, set[str]] = field(default_factory=dict)
    """Folder → names of which nothing is known but that they were written to."""
    overflow: bool = False
    """Events were lost: only a pass tells."""


class Watches:
    """One inotify instance and the folders that it watches."""

    def __init__(self) -> None:
        self.inotify: Inotify | None = None
        self.complete = False
        """False if a folder is not watched."""
        self._folders: dict[int, Folder] = {}
        self.is_used_up = False
        """There is inotify, but no instance of it is left."""
        self._said = False

    def open(self) -> None:
        """Open an instance; without one, folders are added in vain."""
        try:
            self.inotify = Inotify()
        except HintsUsedUpError as error:
            self.is_used_up = True
            self._say(error)
            return
        except OSError:
            return  # no Linux
        self.complete, self.is_used_up = True, False

    def close(self) -> None:
        """Close the instance."""
        if self.inotify is not None:
            self.inotify.close()
            self.inotify = None

    def add(self, folder: Folder) -> None:
        """Watch a folder, unless it is watched already."""
        if self.inotify is None or folder.watch >= 0:
            return
        try:
            folder.watch = self.inotify.add(folder.path)
        except HintsUsedUpError as error:
            self.complete = False
            self._say(error)
            return
        except OSError:
            return  # it is gone: the next pass knows
        self._folders[folder.watch] = folder

    def remove(self, folder: Folder) -> None:
        """End the watch of a folder."""
        if self.inotify is not None and self._folders.get(folder.watch) is folder:
            del self._folders[folder.watch]
            self.inotify.remove(folder.watch)
        folder.watch = -1

    def read(self) -> Hints:
        """Return what happened since the last time."""
        hints = Hints()
        if self.inotify is not None:
            with contextlib.suppress(OSError):
                self._sort(self.inotify.read(), hints)
        return hints

    def _sort(self, events: Iterable[Event], hints: Hints) -> None:
        for event in events:
            folder = self._folders.get(event.watch)
            if event.mask & IN_Q_OVERFLOW:
                hints.overflow = True
            elif folder is None:
                continue
            elif event.mask & IN_IGNORED:
                del self._folders[event.watch]
                folder.watch = -1
            elif event.mask == IN_MODIFY:
                hints.written.setdefault(folder, set()).add(event.name)
            elif event.name:
                hints.names.setdefault(folder, set()).add(event.name)

    def _say(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            _log.warning(
                "notifications of the kernel are used up; changes are seen at each scan instead",
                extra={"fields": {"error": str(error)}},
            )
