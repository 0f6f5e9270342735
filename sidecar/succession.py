"""Which file comes after which: what an app wrote under one name is sent in its order.

In: files as they are found. Out: for a file that took another's name, that its lines wait until
those are settled that stood in the other by then. Only the start of a file ever waits.
"""

from collections.abc import Iterable

from sidecar.source_file import SourceFile, Wait


class Succession:
    """The files that were renamed, by the name that they had first; the newest of each."""

    def __init__(self) -> None:
        self._renamed: dict[str, SourceFile] = {}
        self._count = 0

    def note(self, file: SourceFile) -> None:
        """Note a file that has lost its name."""
        self._renamed[_first_name(file)] = file

    def forget(self, file: SourceFile) -> None:
        """Note that a file was let go, or has its first name again."""
        if self._renamed.get(_first_name(file)) is file:
            del self._renamed[_first_name(file)]

    def link(self, files: Iterable[SourceFile], until: float) -> None:
        """Let each new file wait for the one that had its name; the lock is held.

        After `until` (monotonic) none waits any more for what has no end.
        """
        for file in sorted(files, key=lambda file: (file.first is None, file.mtime)):
            if not file.order:
                self._count += 1
                file.order = self._count
            before = self._renamed.get(_first_name(file))
            # Only the younger waits, so that two never wait for each other.
            if before is not None and 0 < before.order < file.order:
                _wait_for(file, before, until)
            if file.first is not None:
                self.note(file)


def _first_name(file: SourceFile) -> str:
    return file.path if file.first is None else file.first


def _wait_for(file: SourceFile, before: SourceFile, until: float) -> None:
    for cursor, other in zip(file.cursors, before.cursors, strict=True):
        if cursor is not None and other is not None and not cursor.settled and other.unsettled():
            cursor.after = Wait(other, before.generation, before.size, until)
