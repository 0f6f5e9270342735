"""What is known of a source file and of how far each backend has read it.

Plain state, small enough for 100,000 files; `sidecar.known.KnownFiles` guards it with its lock.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from sidecar.block import FileFacts
from sidecar.follow import Lines, Place
from sidecar.glob import MAX_DEPTH
from sidecar.identity import NO_ANCHOR
from sidecar.journal import FileKey
from sidecar.reach import Reach, SourceGlobs, descends
from sidecar.settings import Source

MAX_SKIPPED = 10_000
"""Names of one folder that are remembered as left out; more are not counted."""


class Status(IntEnum):
    """Where a file is."""

    NAMED = 0
    """A glob shows it."""
    STRAY = 1
    """It lost its name under the globs; it is somewhere else, or we do not know."""
    DELETED = 2
    """It has no name at all, and lives while we hold it open."""
    GONE = 3
    """Nothing more comes of it."""


class Turn(IntEnum):
    """What a backend has to do with a file."""

    IDLE = 0
    READY = 1
    """It is in the queue of files to look at."""
    WAITING = 2
    """For more of a line or record, or until its time is over."""
    TAKEN = 3
    """A worker reads it, or lines of it are in flight."""
    BLOCKED = 4
    """It would be ready, but what its name stood for before comes first."""


def stamp_of(status: os.stat_result) -> int:
    """Return a number that changes whenever a file's size, mtime or ctime does."""
    return hash((status.st_size, status.st_mtime_ns, status.st_ctime_ns))


class Folder:
    """One folder, for as long as it is there."""

    __slots__ = (
        "children",
        "descent",
        "device",
        "inode",
        "names",
        "parent",
        "path",
        "reaches",
        "seen",
        "skipped",
        "watch",
    )

    def __init__(self, path: str, parent: "Folder | None" = None) -> None:
        self.path = path
        self.parent = parent
        self.reaches: tuple[Reach, ...] = ()
        self.descent = False
        """True if a pattern reaches into folders in here."""
        self.names: dict[str, SourceFile] = {}
        self.children: dict[str, Folder] = {}
        self.skipped: dict[str, str] | None = None
        """Name → why it is no source file, so that each is counted once."""
        self.inode = 0
        self.device: int | None = None
        """The `st_dev` that its files must have; None if it is in no glob."""
        self.watch = -1
        self.seen = 0
        """The last pass of discovery that read it."""

    def path_of(self, name: str) -> str:
        """Return the path of a name in here."""
        return f"{self.path}/{name}" if self.path != "/" else f"/{name}"

    def set_reaches(self, reaches: Iterable[Reach]) -> None:
        """Set which patterns reach in here, in the order of their sources."""
        self.reaches = tuple(sorted(reaches, key=lambda reach: reach.globs.source.index))
        self.descent = any(descends(reach) for reach in self.reaches)

    def owner(self, name: str) -> SourceGlobs | None:
        """Return the source that a file of this name belongs to: the first that matches it."""
        for reach in self.reaches:
            if not reach.glob.matches(reach.states, name):
                continue
            shown = reach.globs.shown_path(self.path_of(name))
            if not reach.globs.exclude.matches(shown, name):
                return reach.globs
        return None

    def reaches_into(self, name: str) -> list[Reach]:
        """Return how the patterns reach into the folder `name` in here."""
        found = []
        for reach in self.reaches:
            if reach.depth < MAX_DEPTH:
                states = reach.glob.enter(reach.states, name)
                if states:
                    found.append(Reach(reach.globs, reach.glob, states, reach.depth + 1))
        return found

    def skip(self, name: str, reason: str) -> bool:
        """Note why a name is left out; return whether that is new and to be counted."""
        if self.skipped is None:
            self.skipped = {}
        if self.skipped.get(name) == reason or len(self.skipped) >= MAX_SKIPPED:
            return False
        self.skipped[name] = reason
        return True


@dataclass(slots=True, eq=False)
class SourceFile:
    """One device and inode, with the content that it has now."""

    key: FileKey
    source: Source
    folder: Folder
    name: str
    first: str | None = None
    """The path by which this content was first found; None while it is its path now."""
    generation: int = 0
    """How often other content was found under this device and inode."""
    version: int = 0
    """See `sidecar.open.inode_version`."""
    size: int = 0
    mtime: int = 0
    """Nanoseconds, as the file system says."""
    stamp: int = 0
    """`stamp_of` its status when last seen."""
    checked: int = 0
    """The stamp at which its head was last found unchanged; 0 while it is closed."""
    head_length: int = 0
    head: bytes = b""
    """The head or its digest."""
    tag: bytes | None = None
    """The head tag; None until it is certain."""
    entered: bool = False
    """The journal has an entry of this content."""
    descriptor: int = -1
    pins: int = 0
    """Reads under way: it is not closed meanwhile."""
    facts: FileFacts | None = None
    cursors: "tuple[Cursor | None, ...]" = ()
    """One for each backend; None for those that do not want it."""
    seen: int = 0
    """The pass of discovery that last saw its name."""
    grown_at: float = 0.0
    """Monotonic time at which a change of its size was last seen."""
    status: Status = Status.NAMED
    lost_at: float = 0.0
    """Monotonic time at which it was first seen without its name."""
    misses: int = 0
    """Passes that looked for it in vain."""
    order: int = 0
    """Its place among all contents, by when they were entered; 0 before that."""
    final: int | None = None
    """Its size when the last lines were asked for; what comes later is left alone."""

    @property
    def path(self) -> str:
        """Where it was last seen."""
        return self.folder.path_of(self.name)

    @property
    def device(self) -> int:
        """Its `st_dev`."""
        return self.key >> 64

    @property
    def inode(self) -> int:
        """Its `st_ino`."""
        return self.key & 2**64 - 1

    def is_owed(self) -> bool:
        """Return whether a backend has still to settle something of it, as far as is known."""
        return any(cursor is not None and cursor.is_owed() for cursor in self.cursors)

    def is_unread(self) -> bool:
        """Return whether a backend has not read all of it, as far as is known."""
        return any(cursor is not None and cursor.is_unread() for cursor in self.cursors)


class Cursor:
    """How far one backend is with one file."""

    __slots__ = ("after", "anchor", "file", "reading", "settled", "since", "turn")

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.turn = Turn.IDLE
        self.settled = 0
        """Everything before this offset is settled."""
        self.anchor = NO_ANCHOR
        """The anchor of `settled`, or its digest."""
        self.since = 0.0
        """About when the byte at `settled` was first seen (monotonic); 0 if there is none."""
        self.reading: Reading | None = None
        self.after: Wait | None = None

    def is_owed(self) -> bool:
        """Return whether something is not settled, or in somebody's hands."""
        return self.turn != Turn.IDLE or self.unsettled() > 0

    def is_unread(self) -> bool:
        """Return whether there is something that is not in a batch either."""
        read = self.settled if self.reading is None else self.reading.place.position
        room = 0 if self.reading is None else self.reading.room
        return self.file.size - room > read

    def unsettled(self) -> int:
        """Return the bytes that are not settled; room at the end of the file is none."""
        room = 0 if self.reading is None else self.reading.room
        return max(0, self.file.size - self.settled - room)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a file has to wait for before its first line."""

    cursor: Cursor
    generation: int
    upto: int
    """The offset that has to be settled."""
    until: float
    """Monotonic: after it an unterminated line or open record is not waited for."""

    def is_over(self, now: float) -> bool:
        """Return whether it need not wait any longer."""
        cursor = self.cursor
        file = cursor.file
        if file.status == Status.GONE or file.generation != self.generation:
            return True
        if cursor.turn == Turn.WAITING and now >= self.until:
            return True
        return cursor.settled >= self.upto or cursor.turn == Turn.IDLE


class Reading:
    """What a cursor needs only while it is looked at, or has something to wait for."""

    __slots__ = (
        "due",
        "failures",
        "held",
        "held_bytes",
        "looked_at",
        "place",
        "put_off_until",
        "room",
        "second_at",
        "stamp",
        "window",
    )

    def __init__(self, cursor: Cursor) -> None:
        place = Place()
        place.go_to(cursor.settled, cursor.anchor)
        self.place = place
        self.stamp = 0
        """The file's stamp when all of it had been looked at; 0 while there is more."""
        self.due = 0.0
        """Monotonic time at which its turn comes even if nothing changes; 0 for none."""
        self.second_at = 0.0
        """When the last lines may go, after their second look; 0 before the first."""
        self.held = False
        """A record is open at the place."""
        self.held_bytes = 0
        self.window = 0
        """Bytes to read for an open record; 0 for the usual."""
        self.looked_at = 0.0
        self.room = 0
        """Bytes of NULs at the end of the file that count as not written yet."""
        self.failures = 0
        """Attempts to open or read the file that failed, since the last that did not."""
        self.put_off_until = 0.0
        """Monotonic time until which nothing makes it ready, for a fault of ours; 0 for none."""

    def is_idle(self) -> bool:
        """Return whether nothing is lost if this is made anew."""
        place = self.place
        kept = self.held or self.room or self.failures or self.put_off_until
        return not (kept or place.probed > place.position)


class Look:
    """What the reader of a block has to remember: its `Block.context`."""

    __slots__ = ("cursor", "generation", "lines", "stamp")

    def __init__(self, cursor: Cursor, generation: int, lines: Lines, stamp: int) -> None:
        self.cursor = cursor
        self.generation = generation
        self.lines = lines
        self.stamp = stamp
