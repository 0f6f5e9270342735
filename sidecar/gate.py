"""The gate before a backend: it holds all its workers back together while the backend fails."""

import random
import threading
import time

from sidecar.backoff import DRAIN_STEP_SECONDS, BackOff
from sidecar.ending import Ending


class Gate:
    """Lets attempts through: freely while they succeed, one after each wait while they fail."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._backoff = BackOff(random=random.random)
        self._changed = threading.Condition()
        self._probing = False
        self._failures = 0
        self._acknowledged_at = time.monotonic()

    def enter(self) -> bool:
        """Wait until an attempt may be made; False when the backend is to be given up."""
        if self._backoff.failing_since is None and not self._ending.stop.asked:
            return True
        with self._changed:
            while not self._given_up():
                now = time.monotonic()
                if self._backoff.failing_since is None:
                    return True
                if not self._probing and now >= self._backoff.next_at:
                    self._probing = True
                    return True
                self._changed.wait(self._pause(now))
            return False

    def succeeded(self) -> bool:
        """Note an acknowledgement; return whether it ends an outage."""
        with self._changed:
            was_failing = self._backoff.failing_since is not None
            self._probing = False
            self._failures = 0
            self._acknowledged_at = time.monotonic()
            is_open = self._backoff.succeeded(self._acknowledged_at)
            if was_failing:
                self._changed.notify_all()
            return was_failing and is_open

    def answered(self) -> None:
        """Note an answer that says the backend works, without an acknowledgement (413, 400)."""
        with self._changed:
            self._probing = False
            self._backoff.succeeded(time.monotonic())
            self._changed.notify_all()

    def failed(self, asked_seconds: float | None = None) -> None:
        """Note an attempt that came to nothing."""
        with self._changed:
            now = time.monotonic()
            self._probing = False
            self._failures += 1
            self._backoff.failed(now, asked_seconds)
            if self._ending.stop.asked:
                self._backoff.next_at = min(self._backoff.next_at, now + DRAIN_STEP_SECONDS)
            self._changed.notify_all()

    def wake(self) -> None:
        """A stop was asked: let one attempt through at once."""
        with self._changed:
            self._backoff.draining(time.monotonic())
            self._changed.notify_all()

    @property
    def failing(self) -> bool:
        """True while the last attempt had failed."""
        return self._backoff.failing_since is not None

    def _given_up(self) -> bool:
        return self._ending.given_up(acknowledged_at=self._acknowledged_at, failures=self._failures)

    def _pause(self, now: float) -> float:
        pause = 1.0 if self._probing else self._backoff.next_at - now
        if self._ending.until_eof:
            pause = min(pause, 1.0)
        left = self._ending.seconds_left()
        return max(0.001, pause if left is None else min(pause, left))
