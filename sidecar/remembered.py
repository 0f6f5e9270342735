"""Files that are not followed (yet, or any more) but of which the journal says something.

In: what the journal said at the start, and files that are let go. Out: how far a file that is
found had been read, and which generation the next content of its inode has.
"""

import os
from collections.abc import Iterator

from sidecar.checkpoint import Checkpoint
from sidecar.identity import anchor_length, is_same
from sidecar.journal import MAX_DEPARTED, FileKey, Saved, saved_entries


class Remembered:
    """What is saved, by device and inode; only discovery's thread changes it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        every = checkpoint.saved
        self.owed = {key: saved for key, saved in every.items() if not saved.departed}
        """Files that were followed when the journal was written, and not found so far."""
        self._departed = {key: saved for key, saved in every.items() if saved.departed}
        checkpoint.saved = {}

    def find(self, key: FileKey) -> Saved | None:
        """Return what is saved of a device and inode."""
        return self.owed.get(key) or self._departed.get(key)

    def found(self, key: FileKey) -> None:
        """Note that a file is followed (again); call it only after that is so."""
        self.owed.pop(key, None)
        self._departed.pop(key, None)

    def let_go(self, key: FileKey, saved: Saved, *, deleted: bool) -> None:
        """Keep what is known of a file that left: its generation, and its place unless deleted."""
        if deleted:
            saved = Saved(generation=saved.generation, gone=True)
        saved.departed = True
        self._departed[key] = saved
        self.owed.pop(key, None)
        if len(self._departed) > MAX_DEPARTED:
            del self._departed[next(iter(self._departed))]
        # All that is known, not only that it left: a rewriting may be under way.
        self._checkpoint.append(saved_entries(key, saved, self._checkpoint.numbers))

    def was_owed(self, saved: Saved) -> bool:
        """Return whether something of a file had surely not reached a backend that there was."""
        return any(
            saved.offsets.get(name, (0, b""))[0] < saved.size
            for name in self._checkpoint.numbers
            if name not in self._checkpoint.new
        )

    def entries(self) -> Iterator[bytes]:
        """Yield the entries of all that is remembered; called from another thread."""
        for some in (self.owed, self._departed):
            for key, saved in list(some.items()):
                yield from saved_entries(key, saved, self._checkpoint.numbers)


def is_content(saved: Saved, descriptor: int, *, size: int, version: int) -> bool:
    """Return whether an open file is the one that was saved, by its number and its bytes.

    Raises:
        OSError: it cannot be read.
    """
    if saved.gone or size < saved.head_length or not (saved.first or saved.offsets):
        return False
    if saved.version and saved.version != version:
        return False
    if not is_same(saved.head, os.pread(descriptor, saved.head_length, 0)):
        return False
    for offset, anchor in saved.offsets.values():
        length = anchor_length(offset)
        if size < offset or not is_same(anchor, os.pread(descriptor, length, offset - length)):
            return False
    return True
