"""All files that are known, behind one lock: what discovery finds and what backends read meet here.

In: what discovery sees of names and inodes, and what a reader finds in a file. Out: cursors in
the backends' queues, and entries of the journal. The lock is never held while a file is read,
opened or searched; the only thing written under it is an entry that others must not overtake.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sidecar.block import FileFacts
from sidecar.checkpoint import Checkpoint
from sidecar.descriptors import Descriptors
from sidecar.follow import Lines
from sidecar.identity import (
    HEAD_BYTES,
    NO_ANCHOR,
    NO_TAG,
    TAG_BYTES,
    digest,
    file_id,
    head_of,
    head_tag,
    is_same,
    tag_of_head,
)
from sidecar.journal import FileKey, Saved, file_entry, file_key, joined, saved_entries
from sidecar.open import inode_version, open_file, open_folder
from sidecar.reach import SourceGlobs
from sidecar.remembered import Remembered, is_content
from sidecar.source_file import Cursor, Folder, SourceFile, Status, stamp_of
from sidecar.succession import Succession
from sidecar.turns import Turns

DELETED = "deleted"
ROTATED_UNREAD = "rotated_unread"
TRUNCATED = "truncated"
"""Reasons for which something of a file was never read."""
_ENTRIES_AT_A_TIME = 200


class MisplacedError(OSError):
    """Another file stands where this one was."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A backend, as far as files are concerned."""

    name: str
    turns: Turns
    wants: Callable[[SourceGlobs, str], bool]
    """Whether it takes a source's file, by its shown path."""


class KnownFiles:
    """The files, their places, and the one lock that guards both."""

    def __init__(
        self,
        *,
        pod_uid: str,
        globs: Iterable[SourceGlobs],
        checkpoint: Checkpoint,
        descriptors: Descriptors,
        wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.Lock()
        self.clock = clock
        self.files: dict[FileKey, SourceFile] = {}
        self.astray: dict[FileKey, SourceFile] = {}
        """Those of the files that no glob shows."""
        self.astray_inodes: set[int] = set()
        """Inodes of those that have a name somewhere."""
        self.readers: list[Reader] = []
        self.remembered = Remembered(checkpoint)
        self.descriptors = descriptors
        self.lost: Counter[str] = Counter()
        """Reason → contents of which something was never read."""
        self.hole_bytes = 0
        """NULs at the head of lines that were left out (holes that were filled)."""
        self._pod_uid = pod_uid
        self._wait_seconds = wait_seconds
        self._succession = Succession()
        self._globs = {each.source.index: each for each in globs}
        self._checkpoint = checkpoint
        checkpoint.follow(self._entries)

    def add_reader(self, reader: Reader) -> None:
        """Add a backend, before the first file is adopted."""
        self.readers.append(reader)

    # What discovery sees.

    def adopt(
        self, globs: SourceGlobs, folder: Folder, name: str, opened: tuple[int, os.stat_result]
    ) -> SourceFile:
        """Take in a file that was found, with its descriptor; `enter` it next.

        Raises:
            OSError: it cannot be read; it is closed.
        """
        descriptor, status = opened
        file = SourceFile(file_key(status.st_dev, status.st_ino), globs.source, folder, name)
        saved = self.remembered.find(file.key)
        try:
            file.version = inode_version(descriptor)
            self._note_status(file, status)
            self._read_head(file, descriptor, status)
            if saved is not None and not is_content(
                saved, descriptor, size=file.size, version=file.version
            ):
                file.generation, saved = saved.generation + 1, None
        except OSError:
            os.close(descriptor)
            raise
        with self.lock:
            self._register(file, globs, saved)
            self.descriptors.offer(file, descriptor)
        self.remembered.found(file.key)
        return file

    def enter(self, files: Iterable[SourceFile]) -> None:
        """Write the entries of files with content, and let backends read them from then on."""
        found = [file for file in files if file.status != Status.GONE]
        new = [file for file in found if not file.entered and file.size > 0]
        for piece in joined(file_entry(file.key, self._saved_of(file)) for file in new):
            self._checkpoint.append([piece])
        now = self.clock()
        with self.lock:
            self._succession.link(found, now + self._wait_seconds)
            for file in found:
                if file.size > 0:
                    file.entered = True
                    self._make_ready(file, now)

    def refresh(self, file: SourceFile, status: os.stat_result) -> None:
        """Note what a file's status is now; if it changed, backends look at it."""
        if stamp_of(status) == file.stamp and (file.entered or not file.size):
            return
        with self.lock:
            self._note_growth(file, status)
            entered = file.entered
            if entered:
                self._make_ready(file, self.clock())
        if not entered and status.st_size > 0:
            self._enter_first_content(file)

    def check_content(self, file: SourceFile, status: os.stat_result) -> None:
        """Look at the head of a file that has changed, as a pass saw it.

        A reader does so too, but while every backend is down there is none; and other content
        is owed, wherever it goes from here, only if the journal knows it.
        """
        if stamp_of(status) == file.stamp or not file.entered:
            return
        try:
            descriptor = self.hold(file)
        except OSError:
            return  # it is looked at again when it can be opened
        try:
            status = os.fstat(descriptor)
            if self.is_unchanged(file, descriptor, status):
                return
        except OSError:
            return
        finally:
            self.release(file)
        with self.lock:
            self.replace(file, status)
        self._enter_first_content(file)

    def relocate(self, file: SourceFile, folder: Folder, name: str) -> None:
        """Note the name under which a file was found again."""
        with self.lock:
            if file.first is None:
                file.first = file.path
            self._succession.note(file)
            file.folder, file.name, file.misses = folder, name, 0
            if file.first == file.path:
                self._succession.forget(file)
                file.first = None
            entry = file_entry(file.key, self._saved_of(file)) if file.entered else b""
            self._make_ready(file, self.clock())
        self._checkpoint.append([entry])

    def find_again(self, file: SourceFile) -> None:
        """Note that a glob shows a file again."""
        with self.lock:
            file.status = Status.NAMED
            self._forget_astray(file)

    def lose_name(self, file: SourceFile) -> None:
        """Note that no glob shows a file any more: it was renamed or moved."""
        with self.lock:
            if file.status == Status.NAMED:
                file.status = Status.STRAY
                file.lost_at = self.clock()
                file.first = file.path if file.first is None else file.first
                self._succession.note(file)
                self.astray[file.key] = file
                self.astray_inodes.add(file.inode)

    def note_deleted(self, file: SourceFile) -> None:
        """Note that a file has no name anywhere: it lives as long as we hold it open."""
        with self.lock:
            if file.status in {Status.NAMED, Status.STRAY}:
                if file.status == Status.NAMED:
                    file.lost_at = self.clock()
                self._forget_astray(file)
                self._succession.note(file)
                file.status = Status.DELETED
                self.astray[file.key] = file
                # An unterminated line of it may have to go sooner now.
                self._make_ready(file, self.clock())

    def status_of_open(self, file: SourceFile) -> os.stat_result | None:
        """Return the status of a file that is open; None if it is not."""
        with self.lock:
            return os.fstat(file.descriptor) if file.descriptor >= 0 else None

    def close_some(self) -> None:
        """Close files that nobody needs just now: the process has no descriptors left."""
        with self.lock:
            self.descriptors.limit = max(1, len(self.descriptors) * 3 // 4)
            self.descriptors.shrink()

    def depart(self, file: SourceFile, *, gone: bool = False) -> None:
        """Let go of a file.

        One that is `gone`, nowhere to be found or past the budget, is counted as lost if
        something of it was never read. Another goes on where it was, should it be found again.
        """
        with self.lock:
            deleted = gone or file.status == Status.DELETED
            saved = self._saved_of(file)
            if deleted and file.is_unread():
                self.lost[DELETED if file.first is None else ROTATED_UNREAD] += 1
            self._unregister(file)
        self.remembered.let_go(file.key, saved, deleted=deleted)

    def forget(self, key: FileKey, saved: Saved) -> None:
        """Note that a file of the journal is nowhere any more."""
        if self.remembered.was_owed(saved):
            self.lost[DELETED if saved.path == saved.first else ROTATED_UNREAD] += 1
        self.remembered.let_go(key, saved, deleted=True)

    # What readers find.

    def hold(self, file: SourceFile) -> int:
        """Return a file's descriptor, which stays open until `release`.

        Raises:
            MisplacedError: it is not where it was.
            OSError: it cannot be opened.
        """
        with self.lock:
            if file.descriptor >= 0:
                file.pins += 1
                self.descriptors.use(file)
                return file.descriptor
            path, name, device = file.folder.path, file.name, file.device
        try:
            folder = open_folder(path)
            try:
                descriptor, status = open_file(folder, name, device)
            finally:
                os.close(folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MisplacedError(str(error)) from error
        if file_key(status.st_dev, status.st_ino) != file.key:
            os.close(descriptor)
            raise MisplacedError(f"another file stands at {name!r}")
        return self._take_descriptor(file, descriptor, status)

    def release(self, file: SourceFile) -> None:
        """End a `hold`."""
        with self.lock:
            file.pins -= 1
            if file.pins == 0:
                if file.status == Status.GONE:
                    self.descriptors.close(file)
                else:
                    self.descriptors.shrink()

    def is_unchanged(self, file: SourceFile, descriptor: int, status: os.stat_result) -> bool:
        """Return whether a file still begins as it did; note how far it has grown.

        Raises:
            OSError: it cannot be read.
        """
        stamp = stamp_of(status)
        if stamp == file.checked:
            return True
        length, head, generation = file.head_length, file.head, file.generation
        beginning = os.pread(descriptor, HEAD_BYTES, 0)
        if len(beginning) < length or not is_same(head, beginning[:length]):
            return False
        with self.lock:
            if file.generation == generation:
                file.checked = stamp
                grown = head_of(beginning)
                if len(grown) > file.head_length:
                    file.head_length, file.head = len(grown), digest(grown)
        return True

    def note_look(self, file: SourceFile, status: os.stat_result, seen: int) -> None:
        """Note what a reader saw of a file, unless discovery saw something newer (lock held).

        What one backend's reader has seen first, discovery takes for known: so the others hear of
        it here.
        """
        if file.stamp == seen and stamp_of(status) != seen:
            self._note_growth(file, status)
            self._make_ready(file, self.clock())

    def replace(self, file: SourceFile, status: os.stat_result) -> None:
        """Note that a file has other content: it is read from its beginning (lock held)."""
        read = [
            cursor.settled if cursor.reading is None else cursor.reading.place.position
            for cursor in file.cursors
            if cursor is not None
        ]
        if any(position < file.size for position in read):
            self.lost[TRUNCATED] += 1
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is not None:
                reader.turns.unsettled -= cursor.unsettled()
                cursor.settled, cursor.anchor, cursor.reading = 0, NO_ANCHOR, None
                cursor.since = 0.0
        file.generation += 1
        file.head_length, file.head, file.checked = 0, b"", 0
        file.tag, file.facts, file.first = None, None, None
        file.entered, file.order = False, 0
        file.size = 0
        if file.final is not None:
            file.final = status.st_size
        self._note_growth(file, status)
        self._make_ready(file, self.clock())

    def facts_of(self, file: SourceFile, descriptor: int, lines: Lines) -> FileFacts:
        """Return what all records of a content share; the journal has its head tag (lock held).

        Raises:
            OSError: it cannot be read.
        """
        if file.facts is not None:
            return file.facts
        if file.tag is None or not file.entered:
            if file.tag is None:
                file.tag = _tag(descriptor, lines)
            file.entered = True
            self._checkpoint.append([file_entry(file.key, self._saved_of(file))])
            # Discovery, which may be about to enter it, leaves a file that is entered alone.
            self._make_ready(file, self.clock())
        globs = self._globs[file.source.index]
        file.facts = FileFacts(
            file=file_id(
                pod_uid=self._pod_uid,
                container=file.source.container,
                device=file.device,
                inode=file.inode,
                tag=file.tag,
                generation=file.generation,
            ),
            path=globs.shown_path(file.path if file.first is None else file.first),
            source=file.source,
        )
        return file.facts

    def append(self, entries: Iterable[bytes]) -> None:
        """Write entries of the journal."""
        self._checkpoint.append(entries)

    # Inside.

    def _register(self, file: SourceFile, globs: SourceGlobs, saved: Saved | None) -> None:
        if saved is not None:
            file.generation, file.tag = saved.generation, saved.tag
            file.first = None if saved.first in {"", file.path} else saved.first
            file.entered = saved.path == file.path and not saved.departed
        shown = globs.shown_path(file.path if file.first is None else file.first)
        file.cursors = tuple(
            Cursor(file) if reader.wants(globs, shown) else None for reader in self.readers
        )
        now = file.grown_at = self.clock()
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is None:
                continue
            if saved is not None:
                cursor.settled, cursor.anchor = saved.offsets.get(reader.name, (0, NO_ANCHOR))
            unsettled = cursor.unsettled()
            reader.turns.unsettled += unsettled
            if unsettled:
                cursor.since = now
        self.files[file.key] = file

    def _unregister(self, file: SourceFile) -> None:
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is not None:
                reader.turns.unsettled -= cursor.unsettled()
        file.status = Status.GONE
        self._succession.forget(file)
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is not None:
                reader.turns.unblock(cursor)
        del self.files[file.key]
        self._forget_astray(file)
        if file.pins == 0:
            self.descriptors.close(file)

    def _forget_astray(self, file: SourceFile) -> None:
        self.astray.pop(file.key, None)
        self.astray_inodes.discard(file.inode)

    def _make_ready(self, file: SourceFile, now: float) -> None:
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is not None:
                reader.turns.make_ready(cursor, now)

    @staticmethod
    def _note_status(file: SourceFile, status: os.stat_result) -> None:
        file.size = status.st_size
        file.mtime = status.st_mtime_ns
        file.stamp = stamp_of(status)

    def _note_growth(self, file: SourceFile, status: os.stat_result) -> None:
        grown = status.st_size != file.size
        if grown:
            now = file.grown_at = self.clock()
            for reader, cursor in zip(self.readers, file.cursors, strict=True):
                if cursor is not None:
                    before = cursor.unsettled()
                    if cursor.reading is not None:
                        cursor.reading.room = 0
                    after = max(0, status.st_size - cursor.settled)
                    reader.turns.unsettled += after - before
                    if before == 0 and after > 0:
                        cursor.since = now
        self._note_status(file, status)

    def _read_head(self, file: SourceFile, descriptor: int, status: os.stat_result) -> None:
        beginning = os.pread(descriptor, HEAD_BYTES, 0) if status.st_size else b""
        head = head_of(beginning)
        file.head_length, file.head = len(head), digest(head)
        file.tag = tag_of_head(beginning)
        file.checked = stamp_of(status)

    def _enter_first_content(self, file: SourceFile) -> None:
        """Enter a file that was empty, or has other content than before."""
        try:
            descriptor = self.hold(file)
        except OSError:
            return  # the next pass sees it again
        try:
            status = os.fstat(descriptor)
            generation = file.generation
            beginning = os.pread(descriptor, HEAD_BYTES, 0)
        except OSError:
            return
        finally:
            self.release(file)
        with self.lock:
            if file.entered or file.generation != generation:
                return
            head = head_of(beginning)
            file.head_length, file.head = len(head), digest(head)
            if file.tag is None:
                file.tag = tag_of_head(beginning)
            file.checked = stamp_of(status)
        self.enter([file])

    def _take_descriptor(self, file: SourceFile, descriptor: int, status: os.stat_result) -> int:
        version = inode_version(descriptor)
        with self.lock:
            if file.status == Status.GONE:
                os.close(descriptor)
                raise MisplacedError("it was let go")
            file.pins += 1
            if file.descriptor >= 0:
                os.close(descriptor)
            else:
                self.descriptors.add(file, descriptor)
                if version != file.version:
                    # The inode was used again for a new file while this one was closed.
                    file.version = version
                    self.replace(file, status)
            return file.descriptor

    def _saved_of(self, file: SourceFile) -> Saved:
        path = file.path
        saved = Saved(
            generation=file.generation,
            version=file.version,
            head_length=file.head_length,
            head=file.head,
            tag=file.tag,
            first=path if file.first is None else file.first,
            path=path,
            size=file.size,
        )
        for reader, cursor in zip(self.readers, file.cursors, strict=True):
            if cursor is not None and cursor.settled:
                saved.offsets[reader.name] = (cursor.settled, cursor.anchor)
        return saved

    def _entries(self) -> Iterator[bytes]:
        """Yield the entries of everything that is known, for a rewriting of the journal."""
        numbers = self._checkpoint.numbers
        yield from self.remembered.entries()
        files = list(self.files.values())
        for start in range(0, len(files), _ENTRIES_AT_A_TIME):
            with self.lock:
                some = [
                    (file.key, self._saved_of(file))
                    for file in files[start : start + _ENTRIES_AT_A_TIME]
                    if file.entered and file.status != Status.GONE
                ]
            for key, saved in some:
                yield from saved_entries(key, saved, numbers)


def _tag(descriptor: int, lines: Lines) -> bytes:
    """Return the head tag of a content whose first lines these are.

    Where they are not its first (an entry of the journal was damaged), the head has to tell.
    """
    if lines.before.strip(b"\0"):
        return tag_of_head(os.pread(descriptor, HEAD_BYTES, 0)) or NO_TAG
    if not lines.terminated and b"\n" not in lines.data:
        return NO_TAG
    return head_tag(os.pread(descriptor, TAG_BYTES, lines.start).partition(b"\n")[0])
