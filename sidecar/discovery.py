"""Step 1 of the line: which source files there are.

In: the sources' globs. Out: files taken in, found again under another name, or without one.
A *pass* reads every folder that a glob reaches and is the truth; a *glance* looks at single names
that a notification spoke of, between two passes. Both run in one thread at a time.
"""

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from runtime.logs import Seldom
from sidecar.crowd import Crowd
from sidecar.identity import shown_name
from sidecar.journal import FileKey, file_key
from sidecar.known import KnownFiles
from sidecar.open import (
    DIRECTORY,
    OTHER_DEVICE,
    SYMLINK,
    UNREADABLE,
    NotASourceFileError,
    open_file,
    open_folder,
    reason_to_skip,
)
from sidecar.reach import Reach, SourceGlobs
from sidecar.source_file import Folder, SourceFile, Status
from sidecar.watches import Watches

_log = logging.getLogger(__name__)

TOO_MANY_FILES = "files"
TOO_MANY_FOLDERS = "folders"


@dataclass(slots=True)
class Found:
    """What one pass, or one glance, has to come back to."""

    new: dict[FileKey, SourceFile] = field(default_factory=dict)
    """Files that were taken in, and not given up again."""
    unnamed: list[SourceFile] = field(default_factory=list)
    """Files whose name is gone, or is another file's now."""


class Discovery:
    """The tree of folders that the globs reach, as it was when last read."""

    def __init__(
        self,
        globs: Sequence[SourceGlobs],
        known: KnownFiles,
        *,
        watches: Watches,
        crowd: Crowd,
        max_folders: int,
        seldom: Seldom,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        """Reason → names that were left out, each counted once."""
        self.folders: dict[str, Folder] = {}
        self.pass_number = 0
        self._known = known
        self._watches = watches
        self._crowd = crowd
        self._max_folders = max_folders
        self._seldom = seldom
        self._roots = _roots(globs)
        self._skipped_roots: set[str] = set()
        self._found = Found()

    def look_everywhere(self) -> Found:
        """Read every folder that a glob reaches; the files that lost their names are not judged."""
        self.pass_number += 1
        self._crowd.start_pass(len(self._known.files))
        self._found = Found()
        for path in sorted(self._roots):
            folder = self.folders.get(path)
            if folder is None or folder.seen != self.pass_number:
                self._look_at_root(path)
        self._crowd.end_pass()
        return self._found

    def glance(self, folder: Folder, names: Iterable[str]) -> Found:
        """Look at some names of one folder."""
        self._found = Found()
        try:
            descriptor = open_folder(folder.path)
        except OSError:
            return self._found  # the next pass finds out why
        try:
            if os.fstat(descriptor).st_ino == folder.inode:
                gone = [name for name in names if not self._glance_at(folder, descriptor, name)]
                # Last, so that what was renamed is known under its new name.
                for name in gone:
                    self._lose(folder, name)
        finally:
            os.close(descriptor)
        return self._found

    def put(self, folder: Folder, name: str, file: SourceFile) -> None:
        """Note where a file was found again."""
        old = file.folder.names
        if old.get(file.name) is file:
            del old[file.name]
        self.note(folder, name, file)
        self._known.relocate(file, folder, name)

    def note(self, folder: Folder, name: str, file: SourceFile) -> None:
        """Note under which name of a folder a file was seen now."""
        if folder.path in self.folders:
            folder.names[name] = file
        file.seen = self.pass_number

    def other_name(self, file: SourceFile) -> bool:
        """Move a file to another of its names (hard links) if it has one."""
        for folder in self.folders.values():
            for name, other in folder.names.items():
                if other is file and (folder is not file.folder or name != file.name):
                    self._known.relocate(file, folder, name)
                    return True
        return False

    def remove(self, file: SourceFile) -> None:
        """Forget the names of a file that was let go."""
        if file.folder.names.get(file.name) is file:
            del file.folder.names[file.name]

    # Folders.

    def _look_at_root(self, path: str) -> None:
        try:
            descriptor = open_folder(path)
        except NotASourceFileError as error:
            self._skip_root(path, error.reason)
            self._drop(self.folders.get(path))
            return
        except PermissionError:
            self._keep(self.folders.get(path))
            self._say_unreadable(path)
            return
        except OSError:
            self._drop(self.folders.get(path))
            return
        try:
            folder = self._folder(path, None, self._roots[path])
            folder.device = os.fstat(descriptor).st_dev
            self._look_at(folder, descriptor)
        finally:
            os.close(descriptor)

    def _skip_root(self, path: str, reason: str) -> None:
        """Count a fixed folder that is a link, unless it was counted as a name of another."""
        above = self.folders.get(path.rpartition("/")[0] or "/")
        by_name = above is not None and path.rpartition("/")[2] in (above.skipped or {})
        if not by_name and path not in self._skipped_roots:
            self._skipped_roots.add(path)
            self._count(reason, path)

    def _folder(self, path: str, parent: Folder | None, reaches: Sequence[Reach]) -> Folder:
        folder = self.folders.get(path)
        if folder is None:
            folder = self.folders[path] = Folder(path, parent)
            folder.set_reaches(reaches)
        return folder

    def _look_at(self, folder: Folder, descriptor: int) -> None:
        """Read an open folder and those below it."""
        folder.seen = self.pass_number
        self._watch(folder, descriptor)
        skipped, folder.skipped = folder.skipped, None
        before = len(folder.names)
        hits = 0
        below: list[str] = []
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    file = folder.names.get(entry.name)
                    if file is None:
                        self._see_new(folder, descriptor, entry, skipped or {}, below)
                    else:
                        hits += 1
                        self._see_known(folder, descriptor, entry, file)
        except OSError:
            self._keep_names(folder)
            below = list(folder.children)
        else:
            if hits < before:
                self._lose_missing(folder, descriptor)
        for name in below:
            self._look_below(folder, descriptor, name)
        for name, child in list(folder.children.items()):
            if child.seen != self.pass_number:
                del folder.children[name]
                self._drop(child)

    def _look_below(self, folder: Folder, descriptor: int, name: str) -> None:
        path = folder.path_of(name)
        child = self.folders.get(path)
        if child is None:
            if len(self.folders) >= self._max_folders:
                if folder.skip(name, TOO_MANY_FOLDERS):
                    self._count(TOO_MANY_FOLDERS, path)
                return
            reaches = [*folder.reaches_into(name), *self._roots.get(path, ())]
        else:
            reaches = list(child.reaches)
        try:
            below = open_folder(name, parent=descriptor)
        except PermissionError:
            self._say_unreadable(path)
            self._keep(child)
            return
        except OSError:
            return
        try:
            if os.fstat(below).st_dev != folder.device:
                if folder.skip(name, OTHER_DEVICE):
                    self._count(OTHER_DEVICE, path)
                return
            child = folder.children[name] = self._folder(path, folder, reaches)
            child.device = folder.device
            self._look_at(child, below)
        finally:
            os.close(below)

    def _watch(self, folder: Folder, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if folder.inode != inode:
            self._watches.remove(folder)
            folder.inode = inode
        self._watches.add(folder)

    def _drop(self, folder: Folder | None) -> None:
        """Forget a folder that is not there any more, and those below it."""
        if folder is None:
            return
        for child in list(folder.children.values()):
            self._drop(child)
        for name in list(folder.names):
            self._lose(folder, name)
        self._watches.remove(folder)
        self.folders.pop(folder.path, None)

    def _keep(self, folder: Folder | None) -> None:
        """Leave a folder that cannot be read just now as it is."""
        if folder is None:
            return
        folder.seen = self.pass_number
        self._keep_names(folder)
        for child in folder.children.values():
            self._keep(child)

    def _keep_names(self, folder: Folder) -> None:
        for file in folder.names.values():
            file.seen = self.pass_number
            status = self._known.status_of_open(file)
            if status is not None:
                self._known.refresh(file, status)

    # Names.

    def _see_known(
        self, folder: Folder, descriptor: int, entry: "os.DirEntry[str]", file: SourceFile
    ) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return  # it went away meanwhile: the next pass misses it
        if file.key == status.st_dev << 64 | status.st_ino:
            file.seen = self.pass_number
            self._known.check_content(file, status)
            self._known.refresh(file, status)
        else:
            self._lose(folder, entry.name)
            self._see(folder, descriptor, entry.name, status)

    def _see_new(
        self,
        folder: Folder,
        descriptor: int,
        entry: "os.DirEntry[str]",
        skipped: dict[str, str],
        below: list[str],
    ) -> None:
        name = entry.name
        if name in skipped:
            # Its reason holds until `_see` finds that it does not: nothing is counted twice.
            folder.skip(name, skipped[name])
        try:
            if entry.is_dir(follow_symlinks=False) and self._leads_below(folder, name):
                below.append(name)
            elif entry.is_file(follow_symlinks=False):
                if self._is_of_interest(folder, entry):
                    self._see(folder, descriptor, name, entry.stat(follow_symlinks=False))
            elif folder.owner(name) or self._leads_below(folder, name):
                self._see(folder, descriptor, name, entry.stat(follow_symlinks=False))
        except OSError:
            return

    def _is_of_interest(self, folder: Folder, entry: "os.DirEntry[str]") -> bool:
        """Return whether a file matches, or may be one that lost its name."""
        return folder.owner(entry.name) is not None or entry.inode() in self._known.astray_inodes

    def _leads_below(self, folder: Folder, name: str) -> bool:
        if folder.path_of(name) in self._roots:
            return True
        return folder.descent and bool(folder.reaches_into(name))

    def _glance_at(self, folder: Folder, descriptor: int, name: str) -> bool:
        """Look at one name; return whether it is there."""
        try:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError:
            return False
        file = folder.names.get(name)
        if stat.S_ISDIR(status.st_mode):
            if self._leads_below(folder, name):
                self._look_below(folder, descriptor, name)
        elif file is not None and file.key == file_key(status.st_dev, status.st_ino):
            file.seen = self.pass_number
            self._known.refresh(file, status)
        else:
            if file is not None:
                self._lose(folder, name)
            self._see(folder, descriptor, name, status)
        return True

    def _see(self, folder: Folder, descriptor: int, name: str, status: os.stat_result) -> None:
        """Look at a name that stands for something else than when it was last seen."""
        file = self._known.files.get(file_key(status.st_dev, status.st_ino))
        globs = folder.owner(name)
        if file is not None and stat.S_ISREG(status.st_mode):
            self._see_again(folder, name, file, globs)
            self._known.check_content(file, status)
            self._known.refresh(file, status)
            return
        is_link = stat.S_ISLNK(status.st_mode) and self._leads_below(folder, name)
        if globs is None and not is_link:
            return
        reason = reason_to_skip(status, folder.device)
        if reason is None and globs is not None:
            reason = self._take_in(folder, descriptor, name, globs, status)
        if reason is None:
            if folder.skipped:
                folder.skipped.pop(name, None)
        elif folder.skip(name, reason):
            self._count(reason, folder.path_of(name))

    def _see_again(
        self, folder: Folder, name: str, file: SourceFile, globs: SourceGlobs | None
    ) -> None:
        """A file that is known stands under a name that was not: renamed, or a hard link."""
        is_named = file.status == Status.NAMED and file.folder.names.get(file.name) is file
        if is_named and file.seen == self.pass_number:
            if globs is not None:
                folder.names[name] = file
            return
        if globs is None and is_named:
            # Its other name, which a glob shows, may still be there: the pass will tell.
            return
        self.put(folder, name, file)
        if globs is not None:
            self._known.find_again(file)

    def _take_in(
        self,
        folder: Folder,
        descriptor: int,
        name: str,
        globs: SourceGlobs,
        status: os.stat_result,
    ) -> str | None:
        """Open and take in a new file; return why not."""
        if not self._crowd.admits(status.st_mtime_ns):
            return TOO_MANY_FILES
        try:
            opened = open_file(descriptor, name, folder.device)
            if file_key(opened[1].st_dev, opened[1].st_ino) in self._known.files:
                os.close(opened[0])
                return None  # another one was put in its place: the next pass looks at it
            file = self._known.adopt(globs, folder, name, opened)
        except OSError as error:
            return self._reason(error, folder.path_of(name))
        self.note(folder, name, file)
        self._found.new[file.key] = file
        given_up = self._crowd.overflow(self._known.files)
        if given_up is not None:
            self.remove(given_up)
            self._known.depart(given_up)
            self._found.new.pop(given_up.key, None)
            if given_up.folder.skip(given_up.name, TOO_MANY_FILES):
                self._count(TOO_MANY_FILES, given_up.path)
        return None

    def _reason(self, error: OSError, path: str) -> str | None:
        """Return why a name is skipped of which the opening failed; None if it is not."""
        if isinstance(error, NotASourceFileError):
            return error.reason
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            self._known.close_some()
            return None
        if isinstance(error, FileNotFoundError):
            return None
        self._say_unreadable(path)
        return UNREADABLE

    def _lose(self, folder: Folder, name: str) -> None:
        """A name is gone, or stands for something else."""
        file = folder.names.pop(name, None)
        if file is not None and file.folder is folder and file.name == name:
            file.seen = 0
            self._found.unnamed.append(file)

    def _lose_missing(self, folder: Folder, descriptor: int) -> None:
        try:
            there = set(os.listdir(descriptor))
        except OSError:
            return
        for name in [name for name in folder.names if name not in there]:
            self._lose(folder, name)

    def _count(self, reason: str, path: str) -> None:
        self.skipped[reason] += 1
        if reason in {SYMLINK, DIRECTORY, UNREADABLE}:
            return
        if self._seldom.due("skipped", reason):
            _log.warning(
                "a name is left out",
                extra={"fields": {"reason": reason, "path": shown_name(os.fsencode(path))}},
            )

    def _say_unreadable(self, path: str) -> None:
        if self._seldom.due("unreadable"):
            _log.warning(
                "a file or folder cannot be read; it is tried again",
                extra={"fields": {"path": shown_name(os.fsencode(path))}},
            )


def _roots(globs: Sequence[SourceGlobs]) -> dict[str, list[Reach]]:
    """Return the fixed folders, with the patterns that begin in each."""
    roots: dict[str, list[Reach]] = {}
    for source in globs:
        for glob in source.globs:
            roots.setdefault(glob.folder, []).append(Reach(source, glob, glob.start(), 0))
    return roots
