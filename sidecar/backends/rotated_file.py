"""One file of whole lines that is appended to, rotated and compressed; a crash leaves no torn line.

Rotated files are NAME.1 (the newest), NAME.2, … or NAME.1.gz, …; a file that is being compressed
is NAME.1.gz.part until it is whole.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence

from sidecar.batch import Piece

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE = 0o640
_STEP = 64 * 1024
_PACK_STEP = 1024 * 1024
_MAX_PIECES = 512
"""Of one writev; the kernel takes 1,024."""


class RotatedFile:
    """The live file and its rotated ones, in one folder; for one thread at a time."""

    def __init__(
        self,
        folder: int,
        name: str,
        *,
        max_bytes: int,
        max_files: int,
        gzip_level: int | None,
    ) -> None:
        """Open the file, made if it is not there; a torn last line is cut off.

        Args:
            folder: a descriptor, which this object closes.
            name: of the live file.
            max_bytes: it is rotated before it would grow beyond this.
            max_files: the live one included.
            gzip_level: of rotated files, 0 to 3; None leaves them as they are.

        Raises:
            OSError: it cannot be opened, is no regular file, or somebody else writes to it.
        """
        self._folder = folder
        self._name = name
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._gzip_level = gzip_level
        self._file = -1
        try:
            self._open()
            self._finish_rotations()
        except BaseException:
            self.close()
            raise

    def append(self, pieces: Sequence[Piece]) -> int:
        """Append pieces that end in a newline, all of them or none; return how many bytes.

        They are on the disk when this returns.

        Raises:
            OSError: none of them is in the file.
        """
        if self._gone():
            self._reopen()
        total = sum(map(len, pieces))
        size = os.fstat(self._file).st_size
        if size and size + total > self._max_bytes:
            self._rotate()
            size = 0
        try:
            _write_all(self._file, pieces)
            os.fdatasync(self._file)
        except OSError:
            # What stands there of it would be a torn line, or come twice.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise
        return total

    def close(self) -> None:
        """Close the file and the folder."""
        for descriptor in (self._file, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._folder = -1

    def _open(self) -> None:
        self._file = os.open(self._name, _FLAGS, _MODE, dir_fd=self._folder)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise OSError(errno.ENOTSUP, "not a regular file")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _cut_torn_line(self._file)
        os.fsync(self._folder)

    def _reopen(self) -> None:
        os.close(self._file)
        self._file = -1
        self._open()

    def _gone(self) -> bool:
        """Return whether the name no longer leads to the file that is open."""
        if self._file < 0:
            return True
        mine = os.fstat(self._file)
        try:
            there = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)

    def _rotate(self) -> None:
        for ending in ("", ".gz"):
            self._unlink(f"{self._name}.{self._max_files - 1}{ending}")
        for number in range(self._max_files - 2, 0, -1):
            for ending in ("", ".gz"):
                self._rename(f".{number}{ending}", f".{number + 1}{ending}")
        if self._max_files == 1:
            self._unlink(self._name)
        else:
            self._rename("", ".1")
        self._reopen()
        self._finish_rotations()

    def _finish_rotations(self) -> None:
        """Compress what is not yet; also what a crash left half done."""
        if self._gzip_level is None:
            return
        for number in range(1, self._max_files):
            name = f"{self._name}.{number}"
            if self._exists(f"{name}.gz"):
                self._unlink(name)  # compressed and whole: only the last step was missing
            elif self._exists(name):
                self._compress(name, self._gzip_level)

    def _compress(self, name: str, level: int) -> None:
        part = f"{name}.gz.part"
        self._unlink(part)
        try:
            _compress(self._folder, name, part, level)
        except OSError:
            self._unlink(part)  # of a disk that is full nothing is kept occupied
            raise
        os.rename(part, f"{name}.gz", src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)
        self._unlink(name)

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _rename(self, old: str, new: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rename(
                self._name + old,
                self._name + new,
                src_dir_fd=self._folder,
                dst_dir_fd=self._folder,
            )

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)


def open_folder(base: str, parts: Sequence[str]) -> int:
    """Return a descriptor of the folder `parts` below `base`, made where it is not there.

    No part below `base` may be a link.

    Raises:
        OSError: it cannot be made or opened.
    """
    os.makedirs(base, mode=0o755, exist_ok=True)
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=folder)
                os.fsync(folder)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=folder)
        finally:
            os.close(folder)
        folder = inner
    return folder


def _write_all(file: int, pieces: Sequence[Piece]) -> None:
    waiting = [memoryview(piece) for piece in pieces if len(piece)]
    while waiting:
        written = os.writev(file, waiting[:_MAX_PIECES])
        while written:
            head = waiting[0]
            if written < len(head):
                waiting[0] = head[written:]
                break
            written -= len(head)
            waiting.pop(0)


def _cut_torn_line(file: int) -> None:
    """Cut off what stands behind the last newline: a crash came in between."""
    size = os.fstat(file).st_size
    end = size
    while end:
        begin = max(0, end - _STEP)
        newline = os.pread(file, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        os.ftruncate(file, end)


def _compress(folder: int, name: str, part: str, level: int) -> None:
    from isal import isal_zlib  # no configuration without gzip pays for it

    with contextlib.ExitStack() as stack:
        read_flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        source = os.open(name, read_flags, dir_fd=folder)
        stack.callback(os.close, source)
        write_flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(part, write_flags, _MODE, dir_fd=folder)
        stack.callback(os.close, target)
        packer = isal_zlib.compressobj(level=level, wbits=31)
        while piece := os.read(source, _PACK_STEP):
            _write_all(target, [packer.compress(piece)])
        _write_all(target, [packer.flush()])
        os.fsync(target)
