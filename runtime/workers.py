"""Threads that are held: each has a name, its failure is seen, and it can be waited for."""

import logging
import threading
from collections.abc import Callable

from runtime.stop import Stop

_log = logging.getLogger(__name__)


class Worker:
    """One daemon thread whose body is called once; a crash is logged and kept in `error`."""

    def __init__(
        self,
        name: str,
        body: Callable[[], None],
        *,
        on_crash: Callable[[Exception], None] | None = None,
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self._body = body
        self._on_crash = on_crash
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Worker":
        """Start the thread and return self."""
        self._thread.start()
        return self

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end; return whether it has ended."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """True while the body runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as error:  # noqa: BLE001 - the one place where a thread's failure is seen
            self.error = error
            _log.error(
                "a thread of ours failed",
                extra={"fields": {"thread": self.name, "error": type(error).__name__}},
                exc_info=error,
            )
            if self._on_crash is not None:
                self._on_crash(error)


def repeat(turn: Callable[[], float], stop: Stop, *, after_crash_seconds: float = 30.0) -> None:
    """Call `turn` until stop is asked; it returns the seconds to wait before its next call.

    A turn that crashes is logged and does not end the others: the body of a worker whose work
    must go on for as long as the process lives.
    """
    while not stop.asked:
        try:
            seconds = turn()
        except Exception as error:  # noqa: BLE001 - as in `Worker`, whose thread would end here
            _log.error(
                "a turn of a thread of ours failed; it is tried again",
                extra={
                    "fields": {
                        "thread": threading.current_thread().name,
                        "error": type(error).__name__,
                        "next_in_seconds": after_crash_seconds,
                    }
                },
                exc_info=error,
            )
            seconds = after_crash_seconds
        stop.wait(seconds)
