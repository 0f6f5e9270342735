"""When a backend's workers give up: the limits of a stop, and of a run until the end of files."""

import time

from runtime.stop import Stop


class Ending:
    """Tells how much time is left; shared by all workers of one process."""

    def __init__(self, stop: Stop, *, drain_seconds: float, until_eof: bool) -> None:
        self.stop = stop
        self.drain_seconds = drain_seconds
        self.until_eof = until_eof
        self.draining = until_eof
        """True when everything that is there should be sent, and nothing else waited for: set
        after the last look at the files, or a worker could take what it does not know for nothing.
        """

    def seconds_left(self) -> float | None:
        """Return how long a stop may still take; None while none was asked."""
        if self.stop.asked_at is None:
            return None
        if self.stop.at_once:
            return 0.0
        return max(0.0, self.stop.asked_at + self.drain_seconds - time.monotonic())

    def given_up(self, *, acknowledged_at: float, failures: int) -> bool:
        """Return whether a backend should be left alone.

        Args:
            acknowledged_at: monotonic time of its last acknowledgement, or of the start.
            failures: attempts since then that came to nothing.
        """
        left = self.seconds_left()
        if left is not None:
            return left <= 0.0
        silent = time.monotonic() - acknowledged_at
        return self.until_eof and failures >= 3 and silent >= self.drain_seconds
