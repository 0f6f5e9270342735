"""The budget of descriptors: which files are open, and which is closed for another.

The lock of `sidecar.known.KnownFiles` is held in every call.
"""

import os
import resource
from collections import OrderedDict

from sidecar.source_file import SourceFile, Status

RESERVE = 40
"""Descriptors of this process that are no source files: sockets, journal, folders."""
_LOOKED_AT = 32


def budget(open_files: int, *, others: int) -> int:
    """Return how many source files may be open at a time, at least one.

    The limit holds for the process: what it needs for other things is taken off. The soft limit
    of the kernel is raised as far as it may be, and respected.

    Args:
        open_files: the setting.
        others: descriptors that backends need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = open_files + RESERVE + others
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):
            pass  # what we have must do
    room = open_files - min(16, open_files // 4)
    if soft != resource.RLIM_INFINITY:
        room = min(room, soft - RESERVE - others)
    return max(1, room)


class Descriptors:
    """The open source files, the least recently used first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: OrderedDict[SourceFile, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, file: SourceFile, descriptor: int) -> None:
        """Take over a descriptor, and close others for it if there are too many."""
        file.descriptor = descriptor
        self._open[file] = None
        self.shrink()

    def offer(self, file: SourceFile, descriptor: int) -> None:
        """Take over a descriptor if there is room, or an older file that nobody needs; or close.

        A file that was just found is read in its turn: it need not push out others that wait.
        """
        if len(self._open) < self.limit:
            self.add(file, descriptor)
            return
        oldest = next(iter(self._open))
        needed = oldest.pins or oldest.status != Status.NAMED or oldest.is_owed()
        if not needed and _has_name(oldest):
            self.close(oldest)
            self.add(file, descriptor)
        else:
            file.checked = 0
            os.close(descriptor)

    def use(self, file: SourceFile) -> None:
        """Note that a file is used now."""
        self._open.move_to_end(file)

    def shrink(self) -> None:
        """Close files until the budget holds; a deleted one cannot be opened again, and stays."""
        while len(self._open) > self.limit:
            file = self._victim()
            if file is None:
                return
            self.close(file)

    def close(self, file: SourceFile) -> None:
        """Close a file that is open."""
        if file.descriptor >= 0:
            os.close(file.descriptor)
            file.descriptor = -1
            file.checked = 0
            file.facts = None
            self._open.pop(file, None)

    def _victim(self) -> SourceFile | None:
        """Return the file to close: of the oldest, one that nobody needs, else any with a name."""
        fallback = None
        for looked_at, file in enumerate(self._open):
            if fallback is not None and looked_at >= _LOOKED_AT:
                break
            needed = file.status != Status.NAMED or file.is_owed()
            # One that is needed is no better than the first of these: only that is asked for.
            if file.pins or (needed and fallback is not None) or not _has_name(file):
                continue
            if not needed:
                return file
            fallback = file
        return fallback


def _has_name(file: SourceFile) -> bool:
    """Return whether a file could be opened again: nobody may have seen yet that it cannot."""
    if file.status == Status.DELETED:
        return False
    try:
        return os.fstat(file.descriptor).st_nlink > 0
    except OSError:
        return True
