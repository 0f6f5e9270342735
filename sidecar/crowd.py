"""The limit of files that are followed: the least recently written are given up first.

In: times of writing. Out: whether a file is taken in, and which ones leave for it. Pure.
"""

from collections.abc import Mapping

from sidecar.journal import FileKey
from sidecar.source_file import SourceFile, Status, Turn


class Crowd:
    """Decides who is followed when there are more files than `limits.files`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left_out = 0
        """Files that match and are not followed, as of the last pass."""
        self._slack = max(8, limit // 10)
        self._written_after = -1
        """Files whose mtime (nanoseconds) is not later than this are left out."""
        self._left_out = 0

    def start_pass(self, count: int) -> None:
        """Begin to count anew; where there is room again, older files come back."""
        self.left_out, self._left_out = self._left_out, 0
        if count < self.limit:
            self._written_after = -1

    def admits(self, mtime: int) -> bool:
        """Return whether a file that was written at `mtime` is taken in."""
        if mtime > self._written_after:
            return True
        self._left_out += 1
        return False

    def overflow(self, files: Mapping[FileKey, SourceFile]) -> list[SourceFile]:
        """Return the files to give up now: none while the limit is not passed by a tenth."""
        if len(files) <= self.limit + self._slack:
            return []
        by_age = sorted(
            (file for file in files.values() if _may_leave(file)), key=lambda file: file.mtime
        )
        leaving = by_age[: len(files) - self.limit]
        # If none may leave, none is let in until there is room.
        self._written_after = leaving[-1].mtime if leaving else 2**63
        self._left_out += len(leaving)
        return leaving


def _may_leave(file: SourceFile) -> bool:
    taken = any(cursor is not None and cursor.turn == Turn.TAKEN for cursor in file.cursors)
    return file.status == Status.NAMED and not file.pins and not taken
