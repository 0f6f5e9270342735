"""One sidecar process in order of time: start, run, stop, and the exit status."""

import contextlib
import ctypes
import logging
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runtime.logs import Seldom, set_up_logs
from runtime.settings import Problem
from runtime.signals import Signals
from runtime.stop import Stop
from runtime.workers import Worker
from sidecar.backends.registry import backend_module
from sidecar.checkpoint import Checkpoint, StateInUseError, open_checkpoint
from sidecar.deliver import Suspicion, Way
from sidecar.ending import Ending
from sidecar.figures import Figures
from sidecar.files import Files
from sidecar.gate import Gate
from sidecar.pipeline import Shipper, pause_after
from sidecar.quarantine import Quarantine
from sidecar.rate import Rate
from sidecar.settings import BackendSettings, Settings

if TYPE_CHECKING:
    from runtime.probes import Answer, Probes

_log = logging.getLogger(__name__)

EXIT_DONE = 0
EXIT_LEFT_BEHIND = 1
EXIT_STATE_IN_USE = 3
ALIVE_SECONDS = 60.0
"""`/healthz` is well while discovery made a turn this lately."""
NEW_ATTEMPT_SECONDS = 1.0
"""Until what nothing works without is tried again."""
_PR_SET_DUMPABLE = 4


def run(
    settings: Settings, problems: Sequence[Problem], *, until_eof: bool, keep_running: bool
) -> int:
    """Run until stop (or, with `until_eof`, until everything is sent); return the exit status."""
    signals = Signals((signal.SIGTERM, signal.SIGINT))
    set_up_logs(settings.log_level)
    _hide_memory()
    for problem in problems:
        _log.warning("a setting is left aside", extra={"fields": {"problem": str(problem)}})
    try:
        checkpoint = _open_checkpoint(settings, keep_running=keep_running)
    except StateInUseError as error:
        _log.error(
            "another process uses the state folder",
            extra={"fields": {"state_dir": settings.state_dir, "error": str(error)}},
        )
        return EXIT_STATE_IN_USE
    process = Process(settings, checkpoint, signals, until_eof=until_eof)
    try:
        process.start()
        process.wait()
        return process.finish()
    finally:
        process.close()


def _open_checkpoint(settings: Settings, *, keep_running: bool) -> Checkpoint:
    names = [backend.name for backend in settings.backends]
    try:
        return open_checkpoint(settings.state_dir, names)
    except StateInUseError:
        if not keep_running:
            raise
        _log.error(
            "another process uses the state folder; going on without state",
            extra={"fields": {"state_dir": settings.state_dir}},
        )
        return open_checkpoint(None, names)


def _hide_memory() -> None:
    """Keep others of the same user from reading our environment and memory by /proc."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _nothing() -> None:
    """Do nothing."""


class Process:
    """The parts of one running sidecar."""

    def __init__(
        self, settings: Settings, checkpoint: Checkpoint, signals: Signals, *, until_eof: bool
    ) -> None:
        self._settings = settings
        self._checkpoint = checkpoint
        self._signals = signals
        self._stop = Stop()
        self._ending = Ending(
            self._stop, drain_seconds=settings.limits.drain_seconds, until_eof=until_eof
        )
        seldom = Seldom()
        self._files = Files(settings, checkpoint, seldom)
        self._discovery_crashes = 0
        """Faults of ours."""
        quarantine = Quarantine(settings.state_dir)
        self._shippers = [
            self._shipper(backend, quarantine, seldom) for backend in settings.backends
        ]
        self._probes: Probes | None = None
        self._last_figures: Callable[[], None] = _nothing

    def start(self) -> None:
        """Look at the files once and start everything that works on them."""
        self._files.scan()
        if self._ending.until_eof:
            self._last_look()
        self._open_metrics()
        for shipper in self._shippers:
            self._start_when_possible(shipper.start)
        if not self._ending.until_eof:
            self._start_when_possible(self._start_discovery)
        _log.info(
            "following files",
            extra={
                "fields": {
                    "sources": len(self._settings.sources),
                    "backends": [shipper.name for shipper in self._shippers],
                    "state_dir": self._settings.state_dir,
                }
            },
        )

    def wait(self) -> None:
        """Return at the first signal; with `until_eof`, when all workers have ended."""
        while not self._stop.asked:
            if self._signals.wait(0.05 if self._ending.until_eof else None):
                self._stop.request()
            elif self._ending.until_eof and self._joined(0.0):
                return

    def finish(self) -> int:
        """Drain within the time that a stop has; save; return the exit status."""
        if self._stop.asked:
            self._checkpoint.save()
            self._files.scan()
            self._last_look()
            while (self._ending.seconds_left() or 0.0) > 0 and not self._joined(0.0):
                if self._signals.wait(0.02):
                    self._stop.request()
        self._checkpoint.save()
        return self._say_what_is_left()

    def close(self) -> None:
        """Let go of files, port and state."""
        if self._probes is not None:
            self._probes.close()
        self._last_figures()
        self._files.close()
        self._checkpoint.close()
        self._signals.close()

    def _start_when_possible(self, start: Callable[[], bool]) -> None:
        """Start a thread that nothing works without; the pod may have no room for one just now."""
        while not self._stop.asked and not start():
            if self._signals.wait(NEW_ATTEMPT_SECONDS):
                self._stop.request()

    def _start_discovery(self) -> bool:
        run = Worker(
            "discovery", lambda: self._files.run(self._stop), on_crash=self._discover_again
        )
        try:
            run.start()
        except RuntimeError:  # no thread is to be had
            return False
        return True

    def _discover_again(self, error: Exception) -> None:
        """A fault of ours ended discovery: another thread goes on with it, later each time."""
        del error
        while True:
            self._discovery_crashes += 1
            if self._stop.wait(pause_after(self._discovery_crashes)) or self._start_discovery():
                return

    def _last_look(self) -> None:
        """From now on send unterminated lines too, and wait for nothing else."""
        for shipper in self._shippers:
            shipper.backlog.last()
        self._ending.draining = True
        for shipper in self._shippers:
            shipper.wake()
        self._files.wake()

    def _joined(self, seconds: float) -> bool:
        return all(shipper.join(seconds) for shipper in self._shippers)

    def _say_what_is_left(self) -> int:
        left = {}
        for shipper in self._shippers:
            lines = shipper.backlog.lines_left()
            if lines:
                left[shipper.name] = lines
        if not left:
            return EXIT_DONE
        _log.error("lines were left behind", extra={"fields": {"lines_left": left}})
        return EXIT_LEFT_BEHIND

    def _shipper(self, backend: BackendSettings, quarantine: Quarantine, seldom: Seldom) -> Shipper:
        limits = self._settings.limits
        way = Way(
            name=backend.name,
            backend=backend_module(backend.type).open_backend(backend, self._settings),
            gate=Gate(self._ending),
            ending=self._ending,
            figures=Figures(),
            quarantine=quarantine,
            rate=Rate(limits.max_rate),
            suspicion=Suspicion(),
            seldom=seldom,
            request_seconds=limits.request_seconds,
        )
        return Shipper(way, self._files.backlog(backend.name), limits)

    def _open_metrics(self) -> None:
        wanted = self._settings.metrics
        if wanted.port is None and wanted.file is None:
            return
        # 6 MiB and 40 ms that others do not pay:
        from runtime.probes import Answer, open_probes
        from sidecar.metrics import CONTENT_TYPE, Metrics

        insecure = [backend.name for backend in self._settings.backends if backend.insecure]
        metrics = Metrics(self._shippers, self._files.figures, insecure=insecure)
        if wanted.port is not None:
            routes = {
                "/metrics": lambda: Answer(200, metrics.render(), CONTENT_TYPE),
                "/healthz": self._health,
            }
            self._probes = open_probes("::", wanted.port, routes)
        if wanted.file is not None:
            path = wanted.file
            self._last_figures = lambda: metrics.write_file(path)
            with contextlib.suppress(RuntimeError):  # no thread is to be had: only at the end
                Worker("metrics", lambda: metrics.keep_file(path, self._stop)).start()

    def _health(self) -> "Answer":
        from runtime.probes import Answer

        alive = time.monotonic() - self._files.turned_at < ALIVE_SECONDS
        return Answer(200, b"ok\n") if alive else Answer(503, b"discovery stands still\n")
