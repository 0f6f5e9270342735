"""Step 2 of the line: opens folders and files without following a link, and never waits.

Whoever writes to the log volume may plant links, FIFOs and devices, and may swap them while we
look. So nothing is decided by a path: every component is opened relative to the one before it,
a link at any level is refused by the kernel, and what was opened is looked at once more.
"""

import errno
import fcntl
import os
import stat
import struct

SYMLINK = "symlink"
FIFO = "fifo"
SOCKET = "socket"
DEVICE = "device"
DIRECTORY = "directory"
OTHER_DEVICE = "other_device"
UNREADABLE = "unreadable"
"""Reasons why a name is skipped; the first six never change while the name stands for it."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WAY_FLAGS = _FOLDER_FLAGS | getattr(os, "O_PATH", 0)
"""Of the folders on the way to one: these need not be readable."""
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FS_IOC_GETVERSION = 0x80007601 | struct.calcsize("l") << 16
"""_IOR('v', 1, long). Source: linux/fs.h."""
_LINK_ERRORS = (errno.ELOOP, errno.ENOTDIR)


class NotASourceFileError(OSError):
    """What the name stands for is never read; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(errno.EINVAL, f"not a source file: {reason}")


def open_folder(path: str, *, parent: int | None = None) -> int:
    """Return a descriptor of the folder at an absolute path; the caller closes it.

    With `parent` the path is one name in that folder.

    Raises:
        NotASourceFileError: a component is a link (`symlink`).
        OSError: it is not there, no folder, or may not be read.
    """
    if parent is not None:
        return _open_component(path, parent, _FOLDER_FLAGS)
    names = [name for name in path.split("/") if name]
    current = os.open("/", _WAY_FLAGS if names else _FOLDER_FLAGS)
    for index, name in enumerate(names):
        flags = _WAY_FLAGS if index < len(names) - 1 else _FOLDER_FLAGS
        try:
            following = _open_component(name, current, flags)
        finally:
            os.close(current)
        current = following
    return current


def open_file(folder: int, name: str, device: int | None) -> tuple[int, os.stat_result]:
    """Open the source file `name` in the folder `folder`; the caller closes it.

    Args:
        folder: a descriptor.
        name: one component.
        device: the volume's `st_dev`; None for any.

    Raises:
        NotASourceFileError: it is a link, not a regular file, or on another device.
        OSError: it is not there, or may not be read.
    """
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotASourceFileError(SYMLINK) from error
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            raise NotASourceFileError(SOCKET) from error
        raise
    try:
        status = os.fstat(descriptor)
        reason = reason_to_skip(status, device)
        if reason is not None:
            raise NotASourceFileError(reason)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, status


def reason_to_skip(status: os.stat_result, device: int | None) -> str | None:
    """Return why a file with this status is never read, or None if it is a source file."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return None if device in {None, status.st_dev} else OTHER_DEVICE
    reasons = {
        stat.S_IFLNK: SYMLINK,
        stat.S_IFIFO: FIFO,
        stat.S_IFSOCK: SOCKET,
        stat.S_IFDIR: DIRECTORY,
    }
    return reasons.get(kind, DEVICE)


def inode_version(descriptor: int) -> int:
    """Return the number that ext4, XFS and btrfs give an inode anew each time it is used again.

    0 where the file system has none. A file that was deleted while nobody looked, and whose
    inode came back at once, is told by it even if it begins with the same bytes.
    """
    buffer = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, buffer)
    except OSError:
        return 0
    return int.from_bytes(buffer[:4], "little")


def next_data(descriptor: int, offset: int, size: int) -> int:
    """Return the offset of the first byte from `offset` on that is not in a hole, or `size`.

    Where the file system does not tell, that is `offset` itself.
    """
    if offset >= size:
        return size
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


def _open_component(name: str, parent: int, flags: int) -> int:
    try:
        return os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in _LINK_ERRORS and _is_link(name, parent):
            raise NotASourceFileError(SYMLINK) from error
        raise


def _is_link(name: str, parent: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False
