"""The folder of the journal: opened once, locked, and everything in it reached by its descriptor.

In: names. Out: descriptors, and what a journal says. A link is never followed in it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import stat

from sidecar.journal import VERSION, Loaded, load

_log = logging.getLogger(__name__)

NAME = "journal"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class StateInUseError(Exception):
    """Another process has this state folder."""


class StateFolder:
    """The folder of the journal: opened once, locked, and everything in it by its descriptor."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    def open(self) -> None:
        """Make, open and lock the folder, if that is not done yet.

        Raises:
            StateInUseError: another process holds the lock.
            OSError: it cannot be made or opened.
        """
        if self._descriptor >= 0:
            return
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        descriptor = os.open(self.path, _FOLDER_FLAGS)
        try:
            # The folder itself is locked: that needs no space on its disk.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StateInUseError(f"{self.path!r} is locked by another process") from error
        except OSError as error:
            _log.warning(
                "the state folder cannot be locked", extra={"fields": {"error": str(error)}}
            )
        self._descriptor = descriptor
        self._remove_leftovers()

    def close(self) -> None:
        """Let go of the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, name: str) -> Loaded:
        """Return what a journal says; what is none, or cannot be read, counts as damaged."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _FILE_FLAGS, dir_fd=self._descriptor)
        except FileNotFoundError:
            return Loaded(version=VERSION)
        except OSError:
            return Loaded()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return Loaded()
        with open(descriptor, "rb", buffering=256 * 1024) as file:
            try:
                return load(file)
            except OSError:
                return Loaded()

    def open_to_append(self, name: str, size: int) -> int:
        """Return a descriptor of the journal, cut to `size` bytes; the caller closes it."""
        flags = os.O_WRONLY | os.O_APPEND | _FILE_FLAGS
        descriptor = os.open(name, flags, dir_fd=self._descriptor)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, size)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, name: str) -> int:
        """Return a descriptor of a new, empty file; the caller closes it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
        return os.open(name, flags, 0o600, dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if that is possible."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def rename(self, old: str, new: str) -> None:
        """Put `old` in the place of `new`."""
        os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def sync(self) -> None:
        """Make a rename survive a power cut."""
        os.fsync(self._descriptor)

    def set_aside(self, name: str) -> str:
        """Rename what stands at `name`, whatever it is; return the new name.

        Raises:
            OSError: it cannot be renamed.
        """
        for attempt in range(10):
            aside = f"{name}.bad" + (f".{attempt}" if attempt else "")
            try:
                self.rename(name, aside)
            except (IsADirectoryError, NotADirectoryError, FileExistsError):
                continue
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                continue
            return aside
        raise OSError(errno.EEXIST, "no free name to set it aside", name)

    def _remove_leftovers(self) -> None:
        for name in (f"{NAME}.tmp", f"{NAME}.{VERSION}.tmp"):
            self.remove(name)


def write_whole(descriptor: int, text: bytes) -> None:
    """Write all of `text`.

    Raises:
        OSError: the disk is full, or gone; a part may be written.
    """
    done = os.write(descriptor, text) if text else 0
    while done < len(text):
        done += os.write(descriptor, text[done:])
