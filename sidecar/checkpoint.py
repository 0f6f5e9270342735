"""Step 8 of the line: how far each file is settled, so that a restart goes on from there.

In: entries, as text lines of the journal. Out: what the journal said at the last start.
"""

from typing import NoReturn


class StateLockedError(Exception):
    """Another process has this state directory."""


class Checkpoint:
    """The journal of one state directory, locked for this process; see docs/state.md."""

    def __init__(self, directory: str | None) -> None:
        """Open, lock and read the journal; with None there is no state and nothing is kept.

        A directory that cannot be used is said once, and forwarding goes on without it until it
        can be used again.

        Raises:
            StateLockedError: another process holds the lock.
        """
        raise NotImplementedError

    def save(self) -> NoReturn:
        """Write what is missing and fsync: at once after SIGTERM, and at the end."""
        raise NotImplementedError

    def close(self) -> NoReturn:
        """Save, and let go of the lock."""
        raise NotImplementedError
