"""Signals as something to wait for: no handler of ours runs while a lock is held."""

import select
import signal
import socket
from collections.abc import Iterable


class Signals:
    """Collects signals and wake-ups of other threads; waited for by the main thread alone.

    The interpreter writes each signal's number to a socket pair; that takes no lock, so a signal
    that comes at any instruction is safe.
    """

    def __init__(self, wanted: Iterable[signal.Signals]) -> None:
        self._receiver, self._writer = socket.socketpair()
        self._receiver.settimeout(0)
        self._writer.settimeout(0)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in wanted:
            signal.signal(number, _noted)

    def wake(self) -> None:
        """Make `wait` return; safe from any thread."""
        try:
            self._writer.send(b"\0")
        except OSError:
            return  # full: a wake-up is under way already

    def wait(self, seconds: float | None) -> list[int]:
        """Wait for signals or a wake-up, at most `seconds`; return the signals' numbers."""
        select.select([self._receiver], [], [], seconds)
        try:
            return [number for number in self._receiver.recv(4096) if number]
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Stop collecting."""
        signal.set_wakeup_fd(-1)
        self._receiver.close()
        self._writer.close()


def _noted(number: int, frame: object) -> None:
    """Nothing to do here: the number stands in the socket already."""
    del number, frame
