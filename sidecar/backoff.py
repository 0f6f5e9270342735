"""How long to wait after a failure: one back-off for a whole backend."""

from collections.abc import Callable

FIRST_STEP_SECONDS = 0.5
MAX_STEP_SECONDS = 30.0
MAX_ASKED_SECONDS = 300.0
"""`Retry-After` is honoured up to here."""
DRAIN_STEP_SECONDS = 1.0
"""While draining no wait is longer."""


class BackOff:
    """Equal jitter: between half and all of a step that doubles from 0.5 s to 30 s.

    A wait is never longer than the outage has lasted, and never under 0.5 s. What the backend
    asks for (`Retry-After`) replaces it, up to five minutes. All times are monotonic seconds.
    """

    def __init__(self, *, random: Callable[[], float]) -> None:
        self._random = random
        """Returns a number from 0 to 1."""
        self._step = FIRST_STEP_SECONDS
        self.failing_since: float | None = None
        self.next_at = 0.0
        """No attempt is made earlier."""
        self._asked_until = 0.0
        """The latest time that the backend has asked to be left alone until."""

    def failed(self, now: float, asked_seconds: float | None = None) -> float:
        """Note a failure at `now`; return the seconds to wait from then on."""
        if self.failing_since is None:
            self.failing_since = now
        if asked_seconds is not None and asked_seconds > 0:
            asked = min(max(asked_seconds, FIRST_STEP_SECONDS), MAX_ASKED_SECONDS)
            wait = asked + self._random() * min(1.0, asked / 10)
            self._asked_until = now + wait
        else:
            jittered = self._step * (0.5 + self._random() / 2)
            self._step = min(self._step * 2, MAX_STEP_SECONDS)
            wait = max(FIRST_STEP_SECONDS, min(jittered, now - self.failing_since))
        self.next_at = max(self.next_at, now + wait)
        return wait

    def succeeded(self, now: float) -> bool:
        """Note that the backend took something; return whether it may have more at once.

        Not before a time that it has asked for: what succeeds until then was under way already.
        """
        self._step = FIRST_STEP_SECONDS
        if now < min(self._asked_until, self.next_at):
            return False
        self.failing_since = None
        self.next_at = 0.0
        return True

    def draining(self, now: float) -> None:
        """Shorten the wait under way: one attempt at once, then at most a second between two."""
        self.next_at = min(self.next_at, now)
