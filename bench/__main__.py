"""`make bench`, or `python -m bench [NAME…]`: throughput, quiet, webhook, and the like."""

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from bench.report import Report

NAMES = ("throughput", "formats", "quiet", "webhook")
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all; keep what they say in bench/results."""
    report = Report()
    report.say(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"CPython {platform.python_version()}; medians; shared machine: take the ratios"
    )
    for name in names or NAMES:
        importlib.import_module(f"bench.{name}").run(report)
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    (RESULTS / f"{stamp}.md").write_text("\n".join(report.text) + "\n", encoding="utf-8")
    (RESULTS / f"{stamp}.json").write_text(json.dumps(report.figures, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
