"""What of one batch is still to be settled, and which piece of it has its turn.

In order, as a rule. While the backend is held, the line that was refused (the suspect) takes
turns with others: lines of other files first, then the rest of the batch, split smaller each time
it is refused, so that a single good line is enough to end the hold.
"""

from collections import deque
from collections.abc import Callable

from sidecar.batch import Batch

MAX_EXTENSIONS = 8
"""Blocks of other lines that are taken while one line is held."""


class Pieces:
    """The pieces of one batch, all of them disjoint."""

    def __init__(self, batch: Batch) -> None:
        self._waiting = deque([batch])
        self.suspect: Batch | None = None
        self._suspects_turn = False
        self._extensions = 0
        self._stuck = 0
        """Single lines in `_waiting` that were refused since the hold began."""
        self._end = batch.first + batch.count

    def __bool__(self) -> bool:
        return bool(self._waiting) or self.suspect is not None

    def next(self, extend: Callable[[], Batch | None]) -> Batch:
        """Return the piece that is to be sent now; it is no longer here."""
        if self.suspect is None:
            return self._waiting.popleft()
        other = None if self._suspects_turn else self._other(extend)
        self._suspects_turn = other is not None
        return self.suspect if other is None else other

    def put_back(self, *pieces: Batch) -> None:
        """Have pieces sent next, in the order given; the suspect is here anyway."""
        mine = [piece for piece in pieces if piece is not self.suspect]
        self._waiting.extendleft(reversed(mine))

    def refused(self, *pieces: Batch) -> None:
        """While held: these were refused (as one piece), and come again after the others."""
        mine = [piece for piece in pieces if piece is not self.suspect]
        self._stuck += sum(piece.count == 1 for piece in mine)
        self._waiting.extend(mine)

    def hold(self, suspect: Batch) -> None:
        """Keep a line that was refused alone; from now on it takes turns with others."""
        self.suspect = suspect
        self._suspects_turn = False
        self._extensions = self._stuck = 0

    def clear(self, piece: Batch) -> None:
        """A piece that was just sent is no suspect any more, but one like the others."""
        if piece is self.suspect:
            self.suspect = None

    def release(self) -> None:
        """The hold is over: everything is sent in its order again, the suspect too."""
        waiting = [*self._waiting, *([self.suspect] if self.suspect is not None else [])]
        self._waiting = deque(sorted(waiting, key=lambda piece: piece.first))
        self.suspect = None

    def _other(self, extend: Callable[[], Batch | None]) -> Batch | None:
        wanted = self._extensions == 0 or self._stuck >= len(self._waiting)
        if wanted and self._extensions < MAX_EXTENSIONS:
            more = extend()
            self._extensions += 1
            if more is not None:
                more.first, self._end = self._end, self._end + more.count
                return more
        if not self._waiting:
            return None
        piece = self._waiting.popleft()
        if piece.count == 1:
            self._stuck = max(0, self._stuck - 1)
        return piece
