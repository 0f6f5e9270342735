"""Notifications of the kernel: a hint that something changed, never the truth.

In: folders to watch. Out: events, or only that something happened. On Linux inotify itself, by
ctypes: one watch a folder, no time-out, no thread that turns. `watchfiles` where there is none.
"""

import ctypes
import errno
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ISDIR = 0x40000000
"""Source: linux/inotify.h."""

_IN_ONLYDIR = 0x01000000
_IN_DONT_FOLLOW = 0x02000000
_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK
_WATCHED = IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_HEADER = struct.Struct("iIII")
_READ_BYTES = 64 * 1024


class HintsUsedUpError(OSError):
    """The user's inotify instances, or watches, on this node are used up."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in a watched folder."""

    watch: int
    """-1 where events were lost."""
    mask: int
    name: str
    """Empty if it concerns the folder itself."""


class Inotify:
    """One inotify instance."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            HintsUsedUpError: there is none left.
            OSError: this system has no inotify.
        """
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, "no inotify")
        self._library = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._library.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self.descriptor < 0:
            raise _error("inotify_init1")

    def add(self, path: str) -> int:
        """Watch a folder; return the watch, the same for the same folder.

        Raises:
            HintsUsedUpError: there are no watches left.
            OSError: it is no folder, or not there.
        """
        mask = _WATCHED | _IN_ONLYDIR | _IN_DONT_FOLLOW
        watch: int = self._library.inotify_add_watch(self.descriptor, os.fsencode(path), mask)
        if watch < 0:
            raise _error(path)
        return watch

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended by itself does not matter."""
        self._library.inotify_rm_watch(self.descriptor, watch)

    def read(self) -> Iterator[Event]:
        """Yield the events that are there, without waiting."""
        while True:
            try:
                buffer = os.read(self.descriptor, _READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            yield from _events(buffer)
            if len(buffer) < _READ_BYTES // 2:
                return

    def close(self) -> None:
        """Close the instance, and with it all watches."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class WatchfilesThread:
    """Calls `changed` when something changed below the paths: where there is no inotify."""

    def __init__(self, paths: list[str], changed: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._changed = changed
        self._thread = threading.Thread(
            target=self._run, args=(paths,), name="watchfiles", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5.0)

    def _run(self, paths: list[str]) -> None:
        from watchfiles import watch

        for _ in watch(
            *paths,
            watch_filter=None,
            step=50,
            debounce=50,
            rust_timeout=1000,
            stop_event=self._stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            self._changed()


def _events(buffer: bytes) -> Iterator[Event]:
    at = 0
    while at + _HEADER.size <= len(buffer):
        watch, mask, _, length = _HEADER.unpack_from(buffer, at)
        at += _HEADER.size
        name = buffer[at : at + length].rstrip(b"\0")
        at += length
        yield Event(watch, mask, os.fsdecode(name))


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    if number in {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM}:
        return HintsUsedUpError(number, os.strerror(number), what)
    return OSError(number, os.strerror(number), what)
