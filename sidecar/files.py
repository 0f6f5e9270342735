"""Steps 1 to 3 wired: which files there are, and how far each backend has read them.

In: the settings, and what the checkpoint said. Out: a `Backlog` for each backend, and figures.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.logs import Seldom
from runtime.stop import Stop
from sidecar.astray import Astray
from sidecar.backlog import Backlog
from sidecar.checkpoint import Checkpoint
from sidecar.crowd import Crowd
from sidecar.descriptors import Descriptors, budget
from sidecar.discovery import Discovery, Found
from sidecar.inotify import WatchfilesThread
from sidecar.known import KnownFiles, Reader
from sidecar.reach import SourceGlobs, compile_source
from sidecar.room import Cleaner, Room
from sidecar.settings import BackendSettings, Settings
from sidecar.source_file import Folder
from sidecar.turns import Turns
from sidecar.watches import Hints, Watches

__all__ = ["Backlog", "FileFigures", "Files"]

GATHER_SECONDS = 0.05
"""While no worker waits for something new, notifications are gathered for so long."""
MAX_USELESS_SECONDS = 0.02
"""Notifications of which nothing came are read less and less often, down to this."""
SCAN_SHARE = 50
"""A pass that takes long is repeated after so many times its CPU time: a fiftieth of a core."""
POLL_SHARE = 20
"""The same where passes see everything, because there are no notifications."""
MAX_TURN_SECONDS = 15.0
"""The discovery thread makes a turn at least so often, to be seen alive."""
NEW_INOTIFY_SECONDS = 60.0
"""After which inotify is tried again where its instances were used up."""
_DESCRIPTORS_OF_A_WORKER = 2


@dataclass(frozen=True, slots=True)
class FileFigures:
    """What the metrics say about files, at one moment."""

    open_files: int
    tracked_files: int
    over_limit: int
    """Files that match and are left out for `limits.files`."""
    deleted_bytes: int
    """Disk space that deleted files hold because we still read them."""
    hole_bytes: int
    """NULs at the head of lines that were left out (holes that were filled)."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → names that were left out: symlink, fifo, socket, device, directory,
    other_device, unreadable, files (over `limits.files`), folders."""
    lost: dict[str, int] = field(default_factory=dict)
    """Reason → contents of which something was never read: deleted, rotated_unread, truncated."""
    polling: bool = False
    """Some change is seen at the next pass only: no notification can be had for it."""
    volume_used_bytes: int | None = None
    """Of the volume whose size is known."""


class Files:
    """All source files that are known; safe for threads."""

    def __init__(
        self,
        settings: Settings,
        checkpoint: Checkpoint,
        seldom: Seldom,
        *,
        clock: Callable[[], float] = time.monotonic,
        watches: Watches | None = None,
    ) -> None:
        limits = settings.limits
        self.turned_at = time.monotonic()
        """When the discovery thread made its last turn (monotonic)."""
        self._settings = settings
        self._globs = [compile_source(source) for source in settings.sources]
        others = len(settings.backends) * limits.in_flight * _DESCRIPTORS_OF_A_WORKER
        self._known = KnownFiles(
            pod_uid=settings.pod_uid,
            globs=self._globs,
            checkpoint=checkpoint,
            descriptors=Descriptors(budget(limits.open_files, others=others)),
            wait_seconds=limits.partial_seconds + limits.multiline_seconds,
            clock=clock,
        )
        for backend in settings.backends:
            turns = Turns(self._known.lock)
            self._known.add_reader(Reader(backend.name, turns, _wanted_by(backend)))
        self._backlogs = {
            backend.name: Backlog(
                known=self._known,
                index=index,
                entry_number=checkpoint.numbers[backend.name],
                limits=limits,
                listen=self._listening,
            )
            for index, backend in enumerate(settings.backends)
        }
        self._watches = Watches() if watches is None else watches
        self._crowd = Crowd(limits.files)
        self._discovery = Discovery(
            self._globs,
            self._known,
            watches=self._watches,
            crowd=self._crowd,
            max_folders=limits.files,
            seldom=seldom,
        )
        self._astray = Astray(self._known, self._discovery, self._globs, limits)
        self._cleaner = (
            None
            if limits.clean_above is None
            else Cleaner(self._known, self._globs, limits.clean_above)
        )
        self._room = (
            None
            if settings.volume is None
            else Room(settings.volume, [each.base for each in self._globs], seldom)
        )
        self._scanning = threading.Lock()
        self._next_scan_at = 0.0
        self._muted = False
        self._useless = 0
        self._waker = _Waker()
        self._watchfiles: WatchfilesThread | None = None
        self._inotify_at = 0.0

    def run(self, stop: Stop) -> None:
        """Scan and listen until `stop`; the body of the discovery thread.

        After a fault of ours it may be called again.
        """
        if self._watches.inotify is None:
            self._open_hints()
        while not stop.asked:
            now = time.monotonic()
            if now >= self._next_scan_at:
                self.scan()
            else:
                self._listen()
            self.turned_at = now

    def scan(self) -> None:
        """Look through all folders once: at start, and as the last pass when stopping."""
        with self._scanning:
            started_at, cpu = time.monotonic(), time.thread_time()
            self._watches.read()
            found = self._discovery.look_everywhere()
            self._astray.judge(found.unnamed)
            self._known.enter([*found.new.values(), *self._astray.tend()])
            if self._cleaner is not None:
                self._cleaner.clean()
            if self._room is not None:
                self._room.look()
            cost = time.thread_time() - cpu
            share = SCAN_SHARE if self._watches.complete else POLL_SHARE
            self._next_scan_at = started_at + max(self._settings.scan_seconds, share * cost)

    def backlog(self, name: str) -> Backlog:
        """Return the view of the backend `name`."""
        return self._backlogs[name]

    def wake(self) -> None:
        """End every wait of every backlog, and of the discovery thread, now."""
        for backlog in self._backlogs.values():
            backlog.wake()
        self._waker.wake()

    def figures(self) -> FileFigures:
        """Return the counts for the metrics."""
        return FileFigures(
            tracked_files=len(self._known.files),
            open_files=len(self._known.descriptors),
            over_limit=self._crowd.left_out,
            deleted_bytes=self._astray.deleted_bytes,
            hole_bytes=self._known.hole_bytes,
            polling=not self._watches.complete,
            skipped=dict(self._discovery.skipped),
            lost=dict(self._known.lost),
            volume_used_bytes=None if self._room is None else self._room.used_bytes,
        )

    def close(self) -> None:
        """Close every descriptor; the checkpoint is its owner's."""
        with self._scanning:
            if self._watchfiles is not None:
                self._watchfiles.close()
            self._watches.close()
        with self._known.lock:
            for file in self._known.files.values():
                self._known.descriptors.close(file)
        self._waker.close()

    # Hints.

    def _open_hints(self) -> None:
        """Open inotify, or what there is instead; a pass then watches the folders."""
        with self._scanning:
            self._inotify_at = time.monotonic()
            self._watches.open()
            if self._watches.inotify is None and not self._watches.is_used_up:
                self._watch_otherwise()
            self._next_scan_at = 0.0

    def _watch_otherwise(self) -> None:
        paths = [each.base for each in self._globs if os.path.isdir(each.base)]
        if paths:
            self._watchfiles = WatchfilesThread(paths, self._something_changed)

    def _something_changed(self) -> None:
        self._next_scan_at = 0.0
        self._waker.wake()

    def _listening(self) -> None:
        """A worker waits for something new: notifications are gathered no longer."""
        if self._muted:
            self._waker.wake()

    def _listen(self) -> None:
        """Wait for a notification until the next pass is due; act on what came."""
        pause = min(self._next_scan_at - time.monotonic(), MAX_TURN_SECONDS)
        inotify = self._watches.inotify
        if inotify is None:
            self._waker.wait(pause)
            self._try_inotify_again()
            return
        self._muted = True
        if any(reader.turns.listeners for reader in self._known.readers):
            self._muted = False
            self._waker.wait(pause, inotify.descriptor)
        else:
            self._waker.wait(min(pause, GATHER_SECONDS))
            self._muted = False
        self._act_on(self._watches.read())

    def _act_on(self, hints: Hints) -> None:
        if hints.overflow:
            self._next_scan_at = 0.0
            return
        if not hints.names and not hints.written:
            return
        with self._scanning:
            useful = self._glance(hints)
        if useful:
            self._useless = 0
        else:
            # Others write into our folders, or a line grows byte by byte: not so eagerly then.
            self._useless = min(self._useless + 1, 10)
            self._waker.wait(min(MAX_USELESS_SECONDS, 0.0005 * 2**self._useless))

    def _glance(self, hints: Hints) -> bool:
        """Look at the names that events spoke of; return whether a worker got something to do."""
        before = self._queued()
        for folder, names in hints.written.items():
            hints.names.setdefault(folder, set()).update(self._not_refreshed(folder, names))
        for folder, names in hints.names.items():
            if names:
                found: Found = self._discovery.glance(folder, names)
                self._astray.judge(found.unnamed)
                self._known.enter(found.new.values())
        return self._queued() > before

    def _queued(self) -> int:
        return sum(reader.turns.queued for reader in self._known.readers)

    def _not_refreshed(self, folder: Folder, names: set[str]) -> list[str]:
        """Refresh the open files that were written to; return the names of the others."""
        others = []
        for name in names:
            file = folder.names.get(name)
            if file is None:
                if folder.owner(name) is not None:
                    others.append(name)
                continue
            status = self._known.status_of_open(file)
            if status is None:
                others.append(name)
            else:
                self._known.refresh(file, status)
        return others

    def _try_inotify_again(self) -> None:
        if self._watches.is_used_up and time.monotonic() - self._inotify_at > NEW_INOTIFY_SECONDS:
            self._open_hints()


class _Waker:
    """Ends a wait for a descriptor from another thread."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)

    def wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._writer, b"\0")

    def wait(self, seconds: float, descriptor: int = -1) -> None:
        """Wait until `wake`, or until `descriptor` can be read, at most `seconds`."""
        if descriptor >= 0:
            self._poll.register(descriptor, select.POLLIN)
        try:
            ready = self._poll.poll(max(0.0, seconds) * 1000)
        finally:
            if descriptor >= 0:
                self._poll.unregister(descriptor)
        if any(number == self._reader for number, _ in ready):
            with contextlib.suppress(OSError):
                os.read(self._reader, 4096)

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


def _wanted_by(backend: BackendSettings) -> Callable[[SourceGlobs, str], bool]:
    """Return which files a backend takes (`only`), by their source and shown path."""
    stream = backend.only.stream if backend.only is not None else None
    search = _search(backend.only.path if backend.only is not None else None)

    def wants(globs: SourceGlobs, path: str) -> bool:
        return (stream is None or globs.source.stream == stream) and search(path)

    return wants


def _search(pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return bool  # a path is never empty
    import re2  # only where there is a pattern

    compiled = re2.compile(pattern)
    return lambda path: compiled.search(path) is not None
