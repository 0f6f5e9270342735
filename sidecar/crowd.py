"""The limit of files that are followed: the least recently written are given up first.

In: times of writing. Out: whether a file is taken in, and which one leaves for it. Pure.
"""

import heapq
from collections.abc import Mapping

from sidecar.journal import FileKey
from sidecar.source_file import SourceFile, Status, Turn

NEVER = 2**63


class Crowd:
    """Decides who is followed when there are more files than `limits.files`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left_out = 0
        """Files that match and were not followed in the last pass."""
        self._oldest: list[tuple[int, FileKey]] = []
        """Heap of the next ones to leave, as their mtime was when they were picked."""
        self._written_after = -NEVER
        """Files whose mtime (nanoseconds) is not later than this are left out."""
        self._left_out = 0

    def start_pass(self, count: int) -> None:
        """Begin to count anew; where there is room again, older files come back."""
        self._left_out = 0
        if count < self.limit:
            self._written_after = -NEVER

    def end_pass(self) -> None:
        """Everything was looked at."""
        self.left_out = self._left_out

    def admits(self, mtime: int) -> bool:
        """Return whether a file that was written at `mtime` is taken in."""
        if mtime > self._written_after:
            return True
        self._left_out += 1
        return False

    def overflow(self, files: Mapping[FileKey, SourceFile]) -> SourceFile | None:
        """Return the file to give up now; None while the limit holds, or if none may leave."""
        if len(files) <= self.limit:
            return None
        leaving = self._pop(files)
        if leaving is None:
            # Looking at all of them is dear: a tenth is picked at a time.
            ages = ((file.mtime, key) for key, file in files.items() if _may_leave(file))
            self._oldest = heapq.nsmallest(self.limit // 10 + 8, ages)
            leaving = self._pop(files)
        # If none may leave, none is let in until there is room.
        self._written_after = NEVER if leaving is None else leaving.mtime
        self._left_out += leaving is not None
        return leaving

    def _pop(self, files: Mapping[FileKey, SourceFile]) -> SourceFile | None:
        while self._oldest:
            mtime, key = heapq.heappop(self._oldest)
            file = files.get(key)
            if file is not None and file.mtime == mtime and _may_leave(file):
                return file
        return None


def _may_leave(file: SourceFile) -> bool:
    taken = any(cursor is not None and cursor.turn == Turn.TAKEN for cursor in file.cursors)
    return file.status == Status.NAMED and not file.pins and not taken
