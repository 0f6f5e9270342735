"""`max_rate`: bytes a second that leave for one backend, shared by its workers."""

import threading
import time

from sidecar.ending import Ending


class Rate:
    """Makes who has sent much wait before it sends again; nothing is dropped."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def paid(self, sent: int) -> None:
        """Note that `sent` bytes went out."""
        if self._rate is not None and sent:
            with self._lock:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + sent / self._rate

    def wait(self, ending: Ending) -> None:
        """Wait until what was sent is within the rate, or a stop's time is over."""
        if self._rate is None:
            return
        while (pause := self._free_at - time.monotonic()) > 0:
            left = ending.seconds_left()
            if left is None:
                ending.stop.wait(min(pause, 60.0))
            elif left > 0:
                time.sleep(min(pause, left, 0.25))
            else:
                return
