"""The sidecar's metrics: every figure of one scrape is of one moment.

Imported only where the configuration asks for metrics. Format: Prometheus text exposition.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from contract import VERSION
from runtime.atomic import write_atomically
from runtime.stop import Stop
from sidecar.figures import LATENCY_BOUNDS, Snapshot
from sidecar.files import Backlog, FileFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FILE_SECONDS = 5.0
"""How often the metrics file is written."""


class Shipping(Protocol):
    """What is looked at of one backend."""

    name: str
    backlog: Backlog

    def snapshot(self) -> Snapshot:
        """Return its figures."""
        ...


class Metrics:
    """Renders the figures of all backends and of the files."""

    def __init__(
        self,
        shippers: Sequence[Shipping],
        files: Callable[[], FileFigures],
        *,
        insecure: Sequence[str],
    ) -> None:
        self._shippers = shippers
        self._files = files
        self._insecure = frozenset(insecure)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the text of one scrape."""
        return generate_latest(self._registry)

    def keep_file(self, path: str, stop: Stop) -> None:
        """Write the text to `path` every few seconds until stop; a thread's body."""
        while not stop.wait(FILE_SECONDS):
            self.write_file(path)

    def write_file(self, path: str) -> None:
        """Write the text of now to `path`; one that is gone or full is left alone."""
        with contextlib.suppress(OSError):
            write_atomically(Path(path), self.render(), mode=0o644)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric; called by the registry."""
        yield from self._of_backends()
        yield from self._of_files()
        build = GaugeMetricFamily("sidetail_build_info", "1, by version.", labels=["version"])
        build.add_metric([VERSION], 1)
        yield build

    def _of_backends(self) -> Iterable[Metric]:
        moments = [(each.name, each.snapshot(), each.backlog) for each in self._shippers]
        for name, what, value in _PER_BACKEND:
            family: Metric
            if name.endswith("_total"):
                counter = CounterMetricFamily(name, what, labels=["backend"])
                for backend, moment, _ in moments:
                    counter.add_metric([backend], value(moment))
                family = counter
            else:
                gauge = GaugeMetricFamily(name, what, labels=["backend"])
                for backend, moment, _ in moments:
                    gauge.add_metric([backend], value(moment))
                family = gauge
            yield family
        for name, what, label, values in _BY_REASON:
            reasons = CounterMetricFamily(name, what, labels=["backend", label])
            for backend, moment, _ in moments:
                for reason, count in sorted(values(moment).items()):
                    reasons.add_metric([backend, reason], count)
            yield reasons
        yield from self._lag([(name, backlog) for name, _, backlog in moments])
        yield _latency([(name, moment) for name, moment, _ in moments])
        insecure = GaugeMetricFamily(
            "sidetail_backend_insecure",
            "1 where the operator switched off the check of certificates.",
            labels=["backend"],
        )
        for name, _, _ in moments:
            insecure.add_metric([name], name in self._insecure)
        yield insecure

    @staticmethod
    def _lag(backlogs: list[tuple[str, Backlog]]) -> Iterable[Metric]:
        size = GaugeMetricFamily(
            "sidetail_lag_bytes", "Bytes of files not yet acknowledged.", labels=["backend"]
        )
        age = GaugeMetricFamily(
            "sidetail_oldest_unacknowledged_seconds",
            "Age of the oldest line that is not acknowledged; 0 for none.",
            labels=["backend"],
        )
        for name, backlog in backlogs:
            size.add_metric([name], backlog.backlog_bytes())
            since = backlog.oldest_unsettled_at()
            age.add_metric([name], 0 if since is None else max(0.0, time.monotonic() - since))
        return size, age

    def _of_files(self) -> Iterable[Metric]:
        figures = self._files()
        for name, what, number in (
            ("sidetail_files_followed", "Files known.", figures.tracked_files),
            (
                "sidetail_files_over_limit",
                "Files that match and are left out for limits.files, at the last scan.",
                figures.over_limit,
            ),
            ("sidetail_open_files", "Descriptors held on source files.", figures.open_files),
            (
                "sidetail_deleted_bytes",
                "Space that deleted files hold until they are sent.",
                figures.deleted_bytes,
            ),
            (
                "sidetail_polling",
                "1 without notification: changes wait for a scan.",
                figures.polling,
            ),
        ):
            yield GaugeMetricFamily(name, what, value=number)
        if figures.volume_used_bytes is not None:
            yield GaugeMetricFamily(
                "sidetail_volume_used_bytes",
                "Disk space used on the log volume, lately.",
                value=figures.volume_used_bytes,
            )
        holes = CounterMetricFamily("sidetail_hole_bytes_total", "NULs left out at heads of lines.")
        holes.add_metric([], figures.hole_bytes)
        yield holes
        for name, what, counts in (
            ("sidetail_files_skipped_total", "Names that are no source file.", figures.skipped),
            ("sidetail_files_lost_total", "Files gone before they were read.", figures.lost),
        ):
            family = CounterMetricFamily(name, what, labels=["reason"])
            for reason, count in sorted(counts.items()):
                family.add_metric([reason], count)
            yield family


_PER_BACKEND: tuple[tuple[str, str, Callable[[Snapshot], float]], ...] = (
    (
        "sidetail_lines_read_total",
        "Lines taken from files: acknowledged, in flight and dropped together.",
        lambda moment: moment.lines_read,
    ),
    (
        "sidetail_lines_acknowledged_total",
        "Lines that the backend has.",
        lambda moment: moment.lines_acknowledged,
    ),
    (
        "sidetail_lines_in_flight",
        "Lines in batches under way.",
        lambda moment: moment.lines_in_flight,
    ),
    ("sidetail_bytes_read_total", "Bytes of files read.", lambda moment: moment.bytes_read),
    (
        "sidetail_bytes_delivered_total",
        "Bytes of files whose lines are settled.",
        lambda moment: moment.bytes_delivered,
    ),
    ("sidetail_bytes_sent_total", "Bytes of request bodies.", lambda moment: moment.bytes_sent),
    (
        "sidetail_batches_delivered_total",
        "Batches that are settled.",
        lambda moment: moment.batches_delivered,
    ),
    (
        "sidetail_lines_truncated_total",
        "Lines over max_line_bytes that were cut.",
        lambda moment: moment.truncated_lines,
    ),
    (
        "sidetail_backend_failing",
        "1 while the last attempt came to nothing.",
        lambda moment: moment.failing,
    ),
)

_BY_REASON: tuple[tuple[str, str, str, Callable[[Snapshot], dict[str, int]]], ...] = (
    (
        "sidetail_lines_dropped_total",
        "Lines that the backend will never have.",
        "reason",
        lambda moment: moment.lines_dropped,
    ),
    (
        "sidetail_retries_total",
        "Attempts that came to nothing.",
        "reason",
        lambda moment: moment.retries,
    ),
)


def _latency(moments: list[tuple[str, Snapshot]]) -> Metric:
    family = HistogramMetricFamily(
        "sidetail_batch_seconds", "From a batch's first byte to its settling.", labels=["backend"]
    )
    for name, moment in moments:
        total = 0
        buckets: list[tuple[str, float]] = []
        bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
        for bound, count in zip(bounds, moment.latency_counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([name], buckets, moment.latency_seconds)
    return family
