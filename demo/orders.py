"""The order service that the demo runs: writes app.log and audit.json, prints to stdout.

It opens its files again when they were renamed, as logging frameworks do, and says a last word
when it is told to end.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

_TRACE = """java.lang.IllegalStateException: payment {order} was already captured
	at shop.orders.Payments.capture(Payments.java:88)
	at shop.orders.Checkout.finish(Checkout.java:141)
	at shop.orders.Worker.run(Worker.java:52)
Caused by: java.sql.SQLIntegrityConstraintViolationException: duplicate key 'payment_{order}'
	at org.postgresql.core.QueryExecutor.receive(QueryExecutor.java:2725)
	... 3 more
"""


class LogFile:
    """A file that is opened again after a rename, as a WatchedFileHandler does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()

    def write(self, text: str) -> None:
        """Append `text` to the file that now has the name."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        ours = os.fstat(self._file.fileno())
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self._file.close()
            self._file = self._open()
        self._file.write(text)
        self._file.flush()

    def _open(self) -> IO[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("a", encoding="utf-8")


def main() -> int:
    """Take orders until told to end."""
    parser = argparse.ArgumentParser(prog="python -m demo.orders", description=__doc__)
    parser.add_argument("--log-dir", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=40.0, help="orders a second")
    options = parser.parse_args()
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    app = LogFile(options.log_dir / "app.log")
    audit = LogFile(options.log_dir / "audit.json")
    chance = random.Random(7)  # noqa: S311 - a shop's luck, no secret
    print("orders is up", flush=True)
    order = 0
    while not ending:
        order += 1
        _take(order, chance, app, audit)
        time.sleep(1 / options.rate)
    app.write(f"{_now()} INFO  the last order was {order}\n")
    print(f"orders says good-bye after {order} orders", flush=True)
    return 0


def _take(order: int, chance: random.Random, app: LogFile, audit: LogFile) -> None:
    amount = round(chance.uniform(3, 400), 2)
    app.write(f"{_now()} INFO  order {order} placed, {amount} EUR\n")
    audit.write(
        json.dumps({"time": _now(), "level": "info", "order": order, "amount": amount}) + "\n"
    )
    if chance.random() < 0.06:
        app.write(f"{_now()} ERROR order {order} failed\n" + _TRACE.format(order=order))
    if order % 10 == 0:
        print(f"{order} orders so far, {amount:.2f} EUR the latest", flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main())
