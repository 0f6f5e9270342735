"""Disk space of the log volume: what is used, and what may be deleted to have it back.

In: files that are known. Out: bytes, and files deleted that every backend has to their end, where
`clean_above` asks for it. A volume that is mounted read-only is none of our business.
"""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from runtime.logs import Seldom
from sidecar.glob import MAX_DEPTH
from sidecar.identity import shown_name
from sidecar.journal import file_key
from sidecar.keys import Volume
from sidecar.known import KnownFiles
from sidecar.open import open_folder
from sidecar.reach import SourceGlobs
from sidecar.source_file import SourceFile, Status

_log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""A file that was written to more lately is not deleted."""
LOOK_SECONDS = 60.0
"""Between two looks at how full the volume is."""
FULL_PART = 0.8
_MAX_ENTRIES = 1_000_000


class Room:
    """Says that a volume is nearly full: past its size the kubelet evicts the whole pod."""

    def __init__(
        self,
        volume: Volume,
        folders: Iterable[str],
        seldom: Seldom,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look after the folders that lie on the volume: each may be a mount of its own."""
        self.used_bytes = 0
        """When last looked at."""
        self._folders = [each for each in folders if f"{each}/".startswith(f"{volume.dir}/")]
        self._volume = volume
        self._seldom = seldom
        self._clock = clock
        self._look_at = 0.0

    def look(self) -> None:
        """Measure the volume, at most once in LOOK_SECONDS."""
        now = self._clock()
        if now < self._look_at:
            return
        self.used_bytes = used_bytes(self._folders)
        self._look_at = now + LOOK_SECONDS
        if self.used_bytes < FULL_PART * self._volume.bytes:
            self._seldom.over("room", self._volume.dir)
        elif self._seldom.due("room", self._volume.dir):
            _log.warning(
                "the log volume is four fifths full; at its size the kubelet evicts the pod",
                extra={
                    "fields": {
                        "dir": self._volume.dir,
                        "used_bytes": self.used_bytes,
                        "size_bytes": self._volume.bytes,
                        "hint": "raise sidetail.dev/size-limit, or set sidetail.dev/clean-above",
                    }
                },
            )


def used_bytes(folders: Iterable[str]) -> int:
    """Return the disk space of all that lies below some folders; a hard link counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for path in _outermost(folders):
        try:
            descriptor = open_folder(path)
        except OSError:
            continue
        try:
            for status in _statuses(descriptor, 2 * MAX_DEPTH):
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
        finally:
            os.close(descriptor)
    return total


class Cleaner:
    """Deletes the oldest files that are done while matched files hold more than allowed."""

    def __init__(self, known: KnownFiles, globs: Sequence[SourceGlobs], limit: int) -> None:
        self._known = known
        self._globs = [each for each in globs if each.source.stream == "file"]
        self._limit = limit

    def clean(self) -> None:
        """Delete what may be deleted, oldest first, until the limit holds."""
        writable = {each.source.index for each in self._globs if _is_writable_volume(each.base)}
        files = [
            file
            for file in list(self._known.files.values())
            if file.source.index in writable and file.status != Status.DELETED
        ]
        held = sum(_disk_bytes(file) for file in files)
        if held <= self._limit:
            return
        newest = self._newest(files)
        for file in sorted(files, key=lambda file: file.mtime):
            if held <= self._limit:
                return
            if file not in newest and self._is_done(file):
                held -= self._delete(file)

    def _newest(self, files: Iterable[SourceFile]) -> set[SourceFile]:
        """Return the newest file of each source, in each folder."""
        by_pattern: dict[tuple[int, str], list[SourceFile]] = defaultdict(list)
        for file in files:
            if file.status == Status.NAMED:
                by_pattern[file.source.index, file.folder.path].append(file)
        return {max(some, key=lambda file: file.mtime) for some in by_pattern.values()}

    def _is_done(self, file: SourceFile) -> bool:
        quiet = self._known.clock() - file.grown_at
        return file.entered and not file.is_owed() and quiet >= QUIET_SECONDS

    def _delete(self, file: SourceFile) -> int:
        """Delete a file if it still is what we know; return the bytes that it held."""
        try:
            folder = open_folder(file.folder.path)
        except OSError:
            return 0
        try:
            status = os.stat(file.name, dir_fd=folder, follow_symlinks=False)
            is_same = file_key(status.st_dev, status.st_ino) == file.key
            if not is_same or status.st_size != file.size or status.st_mtime_ns != file.mtime:
                return 0
            os.unlink(file.name, dir_fd=folder)
        except OSError:
            return 0
        finally:
            os.close(folder)
        _log.info(
            "a file that is delivered was deleted for clean_above",
            extra={"fields": {"path": shown_name(os.fsencode(file.path)), "bytes": file.size}},
        )
        return status.st_blocks * 512


def _is_writable_volume(path: str) -> bool:
    try:
        descriptor = open_folder(path)
    except OSError:
        return False
    try:
        return not os.fstatvfs(descriptor).f_flag & os.ST_RDONLY
    finally:
        os.close(descriptor)


def _disk_bytes(file: SourceFile) -> int:
    """Return about what a file takes; a sparse one takes less, and is deleted no sooner for it."""
    return file.size


def _outermost(folders: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for path in sorted(set(folders)):
        if not any(path == one or path.startswith(one.rstrip("/") + "/") for one in kept):
            kept.append(path)
    return kept


def _statuses(descriptor: int, depth: int) -> Iterator[os.stat_result]:
    """Yield the status of everything in a folder and below; never over to another device."""
    device = os.fstat(descriptor).st_dev
    folders: list[str] = []
    try:
        with os.scandir(descriptor) as entries:
            for count, entry in enumerate(entries):
                status = entry.stat(follow_symlinks=False)
                yield status
                if entry.is_dir(follow_symlinks=False) and status.st_dev == device:
                    folders.append(entry.name)
                if count >= _MAX_ENTRIES:
                    break
    except OSError:
        return
    for name in folders if depth else ():
        try:
            below = open_folder(name, parent=descriptor)
        except OSError:
            continue
        try:
            yield from _statuses(below, depth - 1)
        finally:
            os.close(below)
