"""One scenario's stage: a folder of logs, a backend, a judge and the sidecar between them."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.fakes.backend import Backend, Request
from tests.fakes.files import Log
from tests.judge import Judge, Ledger, Verdict
from tests.sidecar_process import PATIENCE, ROOT, Sidecar, eventually, free_port

LIMITS: dict[str, Any] = {
    "batch_seconds": 0.02,
    "partial_seconds": 0.3,
    "multiline_seconds": 0.5,
    "rotated_seconds": 0.6,
    "request_seconds": 30,
    "drain_seconds": 10,
}
"""Small enough for tests that wait, large enough for a machine that is busy with others."""


class Stage:
    """Everything a scenario needs; closed by the fixture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.state = folder / "state"
        self.logs.mkdir()
        self.state.mkdir(mode=0o700)
        self.ledger = Ledger()
        self.judge = Judge(self.ledger)
        self.backend = self.new_backend(self.judge)
        self._sidecars: list[Sidecar] = []
        self._closers = contextlib.ExitStack()
        self._closers.callback(self.backend.close)

    # --- building -----------------------------------------------------------------------------

    def new_backend(self, judge: Judge, **options: Any) -> Backend:
        """Return a backend whose stored requests go to `judge`."""
        return Backend(on_stored=judge.take, **options)

    def another_backend(self, *, copies: bool = False, **options: Any) -> tuple[Backend, Judge]:
        """Return a second backend with a judge of its own over the same lines."""
        judge = Judge(self.ledger, copies=copies)
        backend = self.new_backend(judge, **options)
        self._closers.callback(backend.close)
        return backend, judge

    def judge_by(self, **options: Any) -> Judge:
        """Put a judge with other options (`copies`, `foreign`, …) in the place of the stage's."""
        self.judge = Judge(self.ledger, **options)
        self.backend._on_stored = self.judge.take
        return self.judge

    def config(
        self,
        *,
        source: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        backend: Mapping[str, Any] | None = None,
        **document: Any,
    ) -> dict[str, Any]:
        """Return a configuration with one source and one backend, unless `document` has more.

        A key of `document` that is None is left out.
        """
        one = {"name": "main", "type": "http", "url": f"{self.backend.url}/ingest"}
        whole: dict[str, Any] = {
            "sources": [{"path": f"{self.logs}/*.log"} | dict(source or {})],
            "backends": [one | dict(backend or {})],
            "state_dir": str(self.state),
            "scan_seconds": 0.1,
            "metrics": {"port": free_port()},
        }
        whole |= document | {"limits": LIMITS | dict(limits or {})}
        return {key: value for key, value in whole.items() if value is not None}

    def sidecar(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        flags: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        **changes: Any,
    ) -> Sidecar:
        """Return a sidecar that is not started yet; `changes` are those of `config`."""
        made = Sidecar(
            self.folder,
            config if config is not None else self.config(**changes),
            flags=flags,
            environ=environ,
            wrapper=wrapper,
        )
        self._sidecars.append(made)
        return made

    def started(self, **changes: Any) -> Sidecar:
        """Return a sidecar that is up: it answers on its metrics port."""
        return self.wait_until_up(self.sidecar(**changes).start())

    def run_to_end(self, **changes: Any) -> Sidecar:
        """Ship all that is there with `--until-eof`, and return the process that ended well."""
        sidecar = self.sidecar(flags=("--until-eof",), metrics=None, **changes)
        assert sidecar.run() == 0, sidecar.tail()
        return sidecar

    def wait_until_up(self, sidecar: Sidecar) -> Sidecar:
        """Wait until the sidecar answers on its metrics port, and return it."""
        sidecar.wait_for_metric(lambda scrape: scrape.backends(), "the metrics of a backend")
        return sidecar

    def log(self, name: str = "a.log", stream: str | None = None, *, appending: bool = True) -> Log:
        """Open (and make) a log file in the folder; its stream is the name without dots."""
        log = Log(
            self.logs / name,
            self.ledger.stream(stream or name.replace(".", "_").replace("/", "_")),
            appending=appending,
        )
        self._closers.callback(_close_quietly, log)
        return log

    # --- waiting and judging --------------------------------------------------------------------

    def settle(
        self, judge: Judge | None = None, *, where: str = "main", seconds: float = PATIENCE
    ) -> None:
        """Wait until every line that was written has arrived; `where` names the backend."""
        asked = judge or self.judge
        try:
            eventually(lambda: asked.owed() <= 0, f"all lines are at {where}", seconds=seconds)
        except AssertionError:
            # Say what is wrong, not only that something is.
            try:
                asked.verdict().assert_at_least_once(duplicates=10**9)
            except AssertionError as error:
                error.add_note(f"at the backend {where}")
                raise
            raise

    def arrives(self, *messages: str, seconds: float = PATIENCE) -> None:
        """Wait until records with these messages are stored."""
        eventually(
            lambda: set(messages) <= set(self.backend.messages),
            f"{messages} arrive",
            seconds=seconds,
        )

    def verdict(self, *, after_scans: float = 0.4) -> Verdict:
        """Wait for every line, then a little for what should not come, and return the verdict."""
        self.settle()
        time.sleep(after_scans)
        return self.judge.verdict()

    def settled_in_sidecar(self, sidecar: Sidecar) -> None:
        """Wait until the sidecar has taken note of every acknowledgement."""
        sidecar.wait_for_metric(
            lambda scrape: (
                scrape.total("sidetail_lines_in_flight") == 0
                and scrape.total("sidetail_lag_bytes") == 0
            ),
            "nothing is in flight",
        )

    def close(self) -> None:
        """End everything, then check what must hold in every scenario."""
        try:
            for sidecar in self._sidecars:
                sidecar.close()
        finally:
            self._closers.close()
        for sidecar in self._sidecars:
            assert not sidecar.imbalances, sidecar.imbalances[:5]
            assert all(_is_plain(line) for line in sidecar.stderr.split(b"\n")), (
                "a raw control byte"
            )


def _is_plain(line: bytes) -> bool:
    return all(byte >= 32 and byte != 127 for byte in line)


def _close_quietly(log: Log) -> None:
    with contextlib.suppress(OSError):
        os.close(log.descriptor)


def with_code(folder: Path, code: str) -> dict[str, str]:
    """Return the environment of a process in which `code` runs before anything else."""
    place = folder / "site"
    place.mkdir()
    (place / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{place}:{ROOT}"}


def count_replays(backend: Backend) -> int:
    """Return how many batches came again (a retry or a replay was really seen)."""
    return backend.resent


def gaps(requests: list[Request]) -> list[float]:
    """Return the seconds between one request and the next."""
    times = [request.at for request in requests]
    return [b - a for a, b in pairwise(times)]


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Give a stage in `folder`, and close it."""
    stage = Stage(folder)
    try:
        yield stage
    finally:
        stage.close()
