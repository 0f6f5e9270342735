"""Step 8 of the line: how far each file is settled, so that a restart goes on from there.

In: entries of the journal. Out: what the journal said at the last start, on disk what it says now.
Nothing here ever stops the forwarding: a folder that cannot be written is said, tried again, and
the journal is written whole from memory as soon as it can be.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from runtime.workers import Worker
from sidecar.journal import (
    HEADER,
    VERSION,
    FileKey,
    Saved,
    backend_entry,
    joined,
    saved_entries,
)
from sidecar.state_folder import NAME, StateFolder, StateInUseError, write_whole

__all__ = ["Checkpoint", "StateInUseError", "open_checkpoint"]

_log = logging.getLogger(__name__)

SYNC_SECONDS = 5.0
"""Between two fsync, and between two attempts at a folder that could not be written."""
MIN_REWRITE_BYTES = 64 * 1024
"""A journal up to this size is never rewritten because of it."""

Provider = Callable[[], Iterable[bytes]]


def open_checkpoint(directory: str | None, names: Sequence[str]) -> "Checkpoint":
    """Open, lock and read the journal of a state folder; see docs/state.md.

    Args:
        directory: None for no state at all.
        names: of the backends that are configured; what others had read is forgotten.

    Raises:
        StateInUseError: another process holds the lock.
    """
    return Checkpoint(directory, names)


class Checkpoint:
    """The journal of one state folder, locked for this process; safe for threads."""

    def __init__(
        self, directory: str | None, names: Sequence[str], *, sync_seconds: float = SYNC_SECONDS
    ) -> None:
        self.saved: dict[FileKey, Saved] = {}
        """What the journal said at the start; whoever follows the files takes it over."""
        self.numbers: dict[str, int] = {}
        """Backend → its number in entries."""
        self.new: frozenset[str] = frozenset(names)
        """Backends that the journal did not know."""
        self._names = tuple(names)
        self._sync_seconds = sync_seconds
        self._provider: Provider = self._saved_entries
        self._folder = None if directory is None else StateFolder(directory)
        self._name = NAME
        self._lock = threading.Lock()
        self._upkeep = threading.Lock()
        self._file = -1
        self._size = 0
        self._rewritten_size = 0
        self._rewrite_at = 0.0
        self._also: list[bytes] | None = None
        self._behind = True
        self._unsynced = False
        self._trouble = False
        self._dirty = threading.Event()
        self._urgent = threading.Event()
        self._closing = False
        self._worker: Worker | None = None
        self._number_backends({})
        if self._folder is not None:
            self._open(self._folder)

    def follow(self, provider: Provider) -> None:
        """Take the entries of a rewriting from `provider` from now on.

        It is called from another thread, and yields what is true then or later.
        """
        self._provider = provider

    def append(self, entries: Iterable[bytes]) -> None:
        """Write entries; once this returns a process that is killed loses none of them.

        If they cannot be written, the whole journal is, as soon as that is possible.
        """
        if self._folder is None:
            return
        text = b"".join(entries)
        with self._lock:
            if self._also is not None:
                self._also.append(text)
            if not self._behind:
                self._write(text)
            self._unsynced = True
            if self._is_grown():
                self._urgent.set()
            if self._worker is None and not self._closing:
                with contextlib.suppress(RuntimeError):  # no thread to be had: the next time
                    self._worker = Worker("checkpoint", self._keep).start()
        if not self._dirty.is_set():
            self._dirty.set()

    def save(self) -> None:
        """Write what is missing and fsync: at once after SIGTERM, and at the end."""
        if self._folder is not None:
            self._look_after()

    def close(self) -> None:
        """Save, and let go of the lock."""
        self._closing = True
        self._dirty.set()
        self._urgent.set()
        if self._worker is not None:
            self._worker.join(self._sync_seconds)
        self.save()
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file, self._behind = -1, True
            if self._folder is not None:
                self._folder.close()
            self._folder = None

    def _open(self, folder: StateFolder) -> None:
        """Read what stands in the folder, and make ready to append.

        Raises:
            StateInUseError: another process holds the lock.
        """
        try:
            folder.open()
            self._read(folder)
            if self._behind:
                self._rewrite(folder)
        except OSError as error:
            self._say_trouble(error)

    def _read(self, folder: StateFolder) -> None:
        loaded = folder.read(self._name)
        if loaded.version is not None and loaded.version > VERSION:
            self._name = f"{NAME}.{VERSION}"
            _log.warning(
                "the journal is of a newer version; it is left, and our own is kept beside it",
                extra={"fields": {"version": loaded.version, "ours": self._name}},
            )
            loaded = folder.read(self._name)
        self.saved = _of_backends(loaded.files, self._names)
        self._number_backends(loaded.backends)
        self.new = frozenset(self._names) - set(loaded.backends.values())
        if loaded.is_damaged:
            aside = folder.set_aside(self._name)
            _log.warning(
                "the journal is damaged; it is set aside, and what is whole of it is used",
                extra={"fields": {"set_aside": aside, "bad_entries": loaded.bad_entries}},
            )
        elif loaded.good_bytes > 0 and set(loaded.backends.values()) <= set(self._names):
            self._file = folder.open_to_append(self._name, loaded.good_bytes)
            self._size = self._rewritten_size = loaded.good_bytes
            self._behind = False
            with self._lock:
                self._write(b"".join(self._backend_entries(sorted(self.new))))

    def _number_backends(self, known: Mapping[int, str]) -> None:
        """Give each backend a number, the one it had in the journal if it was there."""
        self.numbers = {name: number for number, name in known.items() if name in self._names}
        following = max(known, default=-1) + 1
        for name in self._names:
            if name not in self.numbers:
                self.numbers[name] = following
                following += 1

    def _backend_entries(self, names: Iterable[str]) -> Iterator[bytes]:
        for name in names:
            yield backend_entry(self.numbers[name], name)

    def _saved_entries(self) -> Iterator[bytes]:
        for key, saved in self.saved.items():
            yield from saved_entries(key, saved, self.numbers)

    def _write(self, text: bytes) -> None:
        """Append to the file; a part that was written is cut off again. The lock is held."""
        try:
            write_whole(self._file, text)
            self._size += len(text)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            self._behind = True
            self._say_trouble(error)

    def _is_grown(self) -> bool:
        return (
            self._size > max(2 * self._rewritten_size, MIN_REWRITE_BYTES)
            and time.monotonic() >= self._rewrite_at
        )

    def _keep(self) -> None:
        """Fsync, rewrite and try again what failed; the body of a thread."""
        while not self._closing:
            self._dirty.wait()
            self._urgent.wait(self._sync_seconds)
            self._dirty.clear()
            self._urgent.clear()
            self._look_after()
            if self._behind:
                self._dirty.set()

    def _look_after(self) -> None:
        with self._upkeep:
            folder = self._folder
            if folder is None:
                return
            try:
                self._write_or_sync(folder)
            except (OSError, StateInUseError) as error:
                self._rewrite_at = time.monotonic() + self._sync_seconds
                if isinstance(error, OSError) and error.errno in {errno.ENOENT, errno.ESTALE}:
                    folder.close()  # it is gone: the next time it is opened by its path
                self._say_trouble(error)

    def _write_or_sync(self, folder: StateFolder) -> None:
        """Rewrite the journal if it must be, else fsync what was appended.

        Raises:
            OSError: neither is possible.
            StateInUseError: the folder is there again, and another process's.
        """
        if not self._behind and os.fstat(self._file).st_nlink == 0:
            self._behind = True
        if self._behind:
            folder.open()
            self._rewrite(folder)
        elif self._is_grown():
            self._rewrite(folder)
        elif self._unsynced:
            self._unsynced = False
            os.fsync(self._file)

    def _rewrite(self, folder: StateFolder) -> None:
        """Write the journal whole beside the old one, and put it in its place.

        Raises:
            OSError: it cannot be written; the old one is as it was.
        """
        temporary = self._name + ".tmp"
        with self._lock:
            self._also = []
        descriptor = -1
        try:
            descriptor = folder.create(temporary)
            write_whole(descriptor, HEADER + b"".join(self._backend_entries(self.numbers)))
            for piece in joined(self._provider()):
                write_whole(descriptor, piece)
            os.fsync(descriptor)
            with self._lock:
                write_whole(descriptor, b"".join(self._also))
                folder.rename(temporary, self._name)
                self._file, descriptor = descriptor, self._file
                self._size = self._rewritten_size = os.fstat(self._file).st_size
                self._behind = False
            folder.sync()
        except OSError:
            folder.remove(temporary)
            raise
        finally:
            with self._lock:
                self._also = None
            if descriptor >= 0:
                os.close(descriptor)
        self._say_recovered()

    def _say_trouble(self, error: Exception) -> None:
        if not self._trouble:
            self._trouble = True
            _log.error(
                "the state folder cannot be written; forwarding goes on, and it is tried again",
                extra={"fields": {"error": str(error)}},
            )

    def _say_recovered(self) -> None:
        if self._trouble:
            self._trouble = False
            _log.info("the state folder can be written again")


def _of_backends(files: dict[FileKey, Saved], names: Sequence[str]) -> dict[FileKey, Saved]:
    """Forget what backends had read that are not configured any more."""
    for saved in files.values():
        for name in [name for name in saved.offsets if name not in names]:
            del saved.offsets[name]
    return files
