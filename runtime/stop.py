"""Stop: one value, passed in, that ends every wait of a process."""

import threading
import time


class Stop:
    """Says whether and since when a process should end; a second request means at once."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._at_once = threading.Event()
        self.asked_at: float | None = None
        """Monotonic time of the first request, in seconds."""

    def request(self) -> None:
        """Ask to stop; asked again, ask to stop at once. Safe in a signal handler."""
        if self._asked.is_set():
            self._at_once.set()
            return
        self.asked_at = time.monotonic()
        self._asked.set()

    @property
    def asked(self) -> bool:
        """True after the first request."""
        return self._asked.is_set()

    @property
    def at_once(self) -> bool:
        """True after the second request."""
        return self._at_once.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until stop is asked, at most `seconds`; return whether it was."""
        return self._asked.wait(max(0.0, seconds))
