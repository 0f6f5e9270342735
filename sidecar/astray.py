"""Files that no glob shows: renamed, moved, deleted, or of the journal and not found so far.

In: files that lost their names. Out: the same found again by device, inode and bytes, or let go
when they are read, settled and quiet, or when their time or room is over.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence

from sidecar.discovery import Discovery
from sidecar.glob import MAX_DEPTH
from sidecar.journal import FileKey, Saved, file_key
from sidecar.known import KnownFiles
from sidecar.open import inode_version, open_file, open_folder
from sidecar.reach import SourceGlobs
from sidecar.remembered import is_content
from sidecar.settings import Limits
from sidecar.source_file import Folder, SourceFile, Status

MAX_MISSES = 3
"""Passes that look in vain for a file before it counts as gone: a rename may hide one once."""


class Astray:
    """Looks after them, once a pass."""

    def __init__(
        self,
        known: KnownFiles,
        discovery: Discovery,
        globs: Sequence[SourceGlobs],
        limits: Limits,
    ) -> None:
        self.deleted_bytes = 0
        """Disk space of deleted files that are held, as of the last pass."""
        self._known = known
        self._discovery = discovery
        self._globs = globs
        self._limits = limits
        self._misses: Counter[FileKey] = Counter()
        self._found: list[SourceFile] = []

    def judge(self, unnamed: Sequence[SourceFile]) -> None:
        """Find out what became of files that lost their names in a pass or a glance."""
        for file in unnamed:
            if file.status == Status.GONE or file.seen == self._discovery.pass_number:
                continue
            if self._discovery.other_name(file):
                file.seen = self._discovery.pass_number
                continue
            status = self._known.status_of_open(file)
            if status is not None:
                self._known.refresh(file, status)
            if status is None or status.st_nlink > 0:
                self._known.lose_name(file)
            else:
                self._known.note_deleted(file)

    def tend(self) -> list[SourceFile]:
        """Look at all of them, search those that are nowhere, let go of those that are done.

        Returns the files of the journal that were found, to be entered with the new ones.
        """
        self._found.clear()
        missing = [file for file in list(self._known.astray.values()) if not self._look(file)]
        if missing or self._known.remembered.owed:
            self._search({file.key: file for file in missing})
        self._hold_to_budget()
        for file in list(self._known.astray.values()):
            if self._is_done(file):
                self._let_go(file)
        return [file for file in self._found if file.status != Status.GONE]

    def _look(self, file: SourceFile) -> bool:
        """Refresh what is known of a file; return whether it was found."""
        status = self._known.status_of_open(file)
        if status is not None and status.st_nlink == 0:
            self._known.note_deleted(file)
        elif status is None:
            if file.seen == self._discovery.pass_number:
                return True  # a folder of a glob showed it under its other name
            status = _status_at(file)
            if status is None:
                return False
        self._known.check_content(file, status)
        self._known.refresh(file, status)
        file.misses = 0
        return True

    def _is_done(self, file: SourceFile) -> bool:
        """Return whether a file is read to its end, settled, and quiet for long enough."""
        if file.is_owed() or not (file.entered or file.size == 0):
            return False
        seconds = self._limits.rotated_seconds
        if file.status == Status.DELETED:
            seconds /= 3
        return self._known.clock() - max(file.lost_at, file.grown_at) >= seconds

    def _let_go(self, file: SourceFile, *, gone: bool = False) -> None:
        self._known.depart(file, gone=gone)
        self._discovery.remove(file)

    def _hold_to_budget(self) -> None:
        """Let go of deleted files, the first first, that hold more disk than they may."""
        deleted = [each for each in self._known.astray.values() if each.status == Status.DELETED]
        sizes = {file: self._disk_bytes(file) for file in deleted}
        self.deleted_bytes = sum(sizes.values())
        count = len(deleted)
        for file in sorted(deleted, key=lambda file: (file.is_owed(), file.lost_at)):
            if self.deleted_bytes <= self._limits.deleted_bytes and (
                count <= self._known.descriptors.limit
            ):
                return
            self.deleted_bytes -= sizes[file]
            count -= 1
            self._let_go(file)

    def _disk_bytes(self, file: SourceFile) -> int:
        status = self._known.status_of_open(file)
        return 0 if status is None else status.st_blocks * 512

    # The search.

    def _search(self, missing: dict[FileKey, SourceFile]) -> None:
        """Look for files by device and inode, in the globs' folders and below their fixed ones."""
        owed = dict(self._known.remembered.owed)
        inodes = {key & 2**64 - 1 for key in (*missing, *owed)}
        bases_are_there = True
        for path, descriptor in self._places([*missing.values()], [*owed.values()]):
            if descriptor < 0:
                bases_are_there = False
                continue
            for entry in _regular_files(descriptor):
                if entry.inode() in inodes:
                    self._recognise(path, descriptor, entry, missing, owed)
            if not missing and not owed:
                return
        for file in missing.values():
            file.misses += 1
            if file.misses >= MAX_MISSES:
                self._let_go(file, gone=True)
        if bases_are_there:
            self._miss(owed)

    def _miss(self, owed: dict[FileKey, Saved]) -> None:
        for key, saved in owed.items():
            self._misses[key] += 1
            if self._misses[key] >= MAX_MISSES:
                del self._misses[key]
                self._known.forget(key, saved)

    def _recognise(
        self,
        path: str,
        descriptor: int,
        entry: "os.DirEntry[str]",
        missing: dict[FileKey, SourceFile],
        owed: dict[FileKey, Saved],
    ) -> None:
        """Follow on with a file if it is one of those that are searched."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return
        key = file_key(status.st_dev, status.st_ino)
        folder = self._discovery.folders.get(path) or Folder(path)
        file = missing.pop(key, None)
        if file is not None:
            self._discovery.put(folder, entry.name, file)
            self._known.check_content(file, status)
            self._known.refresh(file, status)
        elif key in owed:
            saved = owed.pop(key)
            if folder.owner(entry.name) is None:
                self._follow_on(key, saved, folder, entry.name, descriptor)

    def _follow_on(
        self, key: FileKey, saved: Saved, folder: Folder, name: str, descriptor: int
    ) -> None:
        """Take in a file of the journal that has a name which no glob shows."""
        globs = next((each for each in self._globs if each.matches(saved.first)), None)
        if globs is None:
            self._known.remembered.let_go(key, saved, deleted=True)
            return
        try:
            descriptor, status = opened = open_file(descriptor, name, key >> 64)
        except OSError:
            return  # it is there, and cannot be read now: the next pass tries again
        try:
            version = inode_version(descriptor)
            is_same = is_content(saved, descriptor, size=status.st_size, version=version)
        except OSError:
            is_same = False
        if not is_same:
            os.close(descriptor)
            self._known.forget(key, saved)
            return
        try:
            file = self._known.adopt(globs, folder, name, opened)
        except OSError:
            return
        self._discovery.note(folder, name, file)
        self._known.lose_name(file)
        self._found.append(file)

    def _places(
        self, missing: Sequence[SourceFile], owed: Sequence[Saved]
    ) -> Iterator[tuple[str, int]]:
        """Yield (path, descriptor) of each folder to search; -1 for a base that is not there.

        The descriptor is closed when the next one is asked for.
        """
        visited: set[str] = set()
        last = [file.folder.path for file in missing] + [
            _folder_of(each.path) for each in owed if each.path
        ]
        for path in dict.fromkeys([*last, *self._discovery.folders]):
            visited.add(path)
            yield from _opened(path)
        for base in dict.fromkeys(each.base for each in self._globs):
            try:
                descriptor = open_folder(base)
            except OSError:
                yield base, -1
                continue
            try:
                yield from _below(base, descriptor, visited, MAX_DEPTH)
            finally:
                os.close(descriptor)


def _status_at(file: SourceFile) -> os.stat_result | None:
    """Return the status of what stands where a file was last seen, if it is that file."""
    for _, descriptor in _opened(file.folder.path):
        try:
            status = os.stat(file.name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            return None
        return status if file_key(status.st_dev, status.st_ino) == file.key else None
    return None


def _opened(path: str) -> Iterator[tuple[str, int]]:
    """Yield a folder with its descriptor, open until the iterator goes on; nothing if absent."""
    try:
        descriptor = open_folder(path)
    except OSError:
        return
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)


def _below(path: str, descriptor: int, visited: set[str], depth: int) -> Iterator[tuple[str, int]]:
    """Yield the folders from `path` down that were not visited."""
    if path not in visited:
        visited.add(path)
        yield path, descriptor
    if depth == 0:
        return
    for name in _folders(descriptor):
        try:
            below = open_folder(name, parent=descriptor)
        except OSError:
            continue
        try:
            yield from _below(f"{path.rstrip('/')}/{name}", below, visited, depth - 1)
        finally:
            os.close(below)


def _folders(descriptor: int) -> list[str]:
    try:
        with os.scandir(descriptor) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _regular_files(descriptor: int) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    yield entry
    except OSError:
        return


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"
