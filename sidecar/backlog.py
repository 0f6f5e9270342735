"""One backend's view of the files: what is ready, in fair turn, and what is settled.

Every method may be called from several threads of that backend. A file that has lines in flight
is *taken*: no other worker gets anything of it until `settle` or `give_back`.
"""

from collections.abc import Iterable

from sidecar.block import Block


class Backlog:
    """What one backend has still to be sent."""

    def take(self, max_bytes: int) -> Block | None:
        """Return the next block, in fair turn between files; None if nothing is ready.

        The file is the caller's until `settle` or `give_back`. A block is at most `max_bytes`
        long, but for a longer line or open record, which is a block of its own.
        """
        raise NotImplementedError

    def more(self, block: Block, max_bytes: int) -> Block | None:
        """Return the block that follows what was used of `block`'s file, None if there is none."""
        raise NotImplementedError

    def use(self, block: Block, upto: int, lines: int) -> None:
        """Note that the lines before offset `upto` of the file are in the caller's batch.

        The rest of the block is read again. `upto == block.start` of a block without `flush`
        holds the record that is open: the file has its turn again when it grew, or when the
        record's time is over, or with a larger block if this one was full.
        """
        raise NotImplementedError

    def settle(self, blocks: Iterable[Block]) -> None:
        """Note that all that was used of the blocks' files is settled, and free the files.

        The journal has it before any of those files can be taken again.
        """
        raise NotImplementedError

    def give_back(self, blocks: Iterable[Block]) -> None:
        """Free the blocks' files; what was used of them will be read again."""
        raise NotImplementedError

    def wait(self, seconds: float | None) -> bool:
        """Wait until something is ready, or `wake`, at most `seconds`; return `ready()`."""
        raise NotImplementedError

    def wake(self) -> None:
        """End every wait of this backend's workers now."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Return whether `take` may find something now."""
        raise NotImplementedError

    def due_in(self) -> float | None:
        """Return the seconds until a partial line or an open record is sent; None without any."""
        raise NotImplementedError

    def last(self) -> None:
        """Send unterminated lines and open records from now on, after a second look at each."""
        raise NotImplementedError

    def drained(self) -> bool:
        """Return whether everything is settled that stood in the files when last looked at."""
        raise NotImplementedError

    def backlog_bytes(self) -> int:
        """Return the bytes that are not settled, in all files; cheap."""
        raise NotImplementedError

    def oldest_unsettled_at(self) -> float | None:
        """Return about when the oldest byte that is not settled was first seen (monotonic)."""
        raise NotImplementedError

    def lines_left(self, seconds: float = 1.0) -> int:
        """Count the lines that are not settled, reading the files for at most `seconds`.

        An unterminated line counts. What time does not suffice for is estimated.
        """
        raise NotImplementedError
