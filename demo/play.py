"""The demo in order: a pod goes in, its lines come out. The table of contents."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from contract import annotations, names
from demo.admission import IMAGE, Webhook, added_lines, operator_config
from demo.collector import Collector, Record
from demo.kubelet import ROOT, Kubelet, parse_app
from demo.manifest import read_pod
from demo.sandbox import works
from demo.screen import DemoError, Screen
from demo.verdict import Row, judge

Json = dict[str, Any]

EXAMPLE = ROOT / "manifests" / "examples" / "orders.yaml"
_SHOWN_A_SECOND = 12
"""Records of one file that are printed in a second; the others are counted."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for."""

    pod: Path | None
    """None: the example."""
    app: str | None
    seconds: float
    """How long the app runs in each act."""
    output: Path
    mounts: bool
    """False: map paths, as where the machine allows no unprivileged mounts."""


def play(wishes: Wishes, screen: Screen) -> int:
    """Play the pod; return 0 if nothing was lost, 1 if something was.

    Raises:
        DemoError: it cannot be played; the text says what to do.
    """
    path = wishes.pod or EXAMPLE
    pod = read_pod(path)
    app = _app(wishes)
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        stored = _output_folder(wishes.output)
        collector = Collector(stored, _show_some(screen))
        stack.callback(collector.close)
        with screen.step("issue certificates (python -m certs issue)"):
            _issue_certificates(folder)
        with screen.step("start the webhook on loopback, over TLS"):
            webhook = Webhook(folder, operator_config(collector.url))
            stack.callback(webhook.close)
            webhook.wait_until_up()
            screen.note(f"https://127.0.0.1:{webhook.port}/mutate")
        with screen.step(f"admit {path.name}: what the API server would store"):
            injected = _admit(webhook, pod, screen)
        sandboxed = wishes.mounts and works()
        kubelet = Kubelet(injected, folder, image=IMAGE, app=app, sandboxed=sandboxed)
        stack.callback(kubelet.close)
        with screen.step("play the kubelet: volumes, init containers, sidecar, app"):
            screen.note(
                "mounts are real: a user and mount namespace for each container"
                if sandboxed
                else "this machine allows no unprivileged mounts: paths are mapped instead"
            )
            kubelet.start()
            _wait_for_news(collector, 0, screen)
            time.sleep(wishes.seconds)
        _acts(kubelet, collector, screen, wishes)
        with screen.step("end the pod: the app first, then the sidecar drains"):
            statuses = kubelet.end()
            for name, status in statuses.items():
                screen.note(f"{name} ended with status {status}")
        rows = judge(_log_folders(injected, kubelet), collector.records())
        return _say_verdict(rows, collector, stored, screen)


def _acts(kubelet: Kubelet, collector: Collector, screen: Screen, wishes: Wishes) -> None:
    """Hurt the pod in the middle: the sidecar, the log file, and the example's app."""
    if names.SIDECAR in kubelet.running:
        with screen.step(
            "kill the sidecar with SIGKILL; rename a log while it is down; restart it"
        ):
            kubelet.kill(names.SIDECAR, signal.SIGKILL)
            kubelet.running[names.SIDECAR].process.wait()
            for renamed in _rename_logs(kubelet):
                screen.note(f"renamed {renamed}")
            time.sleep(wishes.seconds / 3)
            before = collector.batches
            kubelet.restart(names.SIDECAR)
            _wait_for_news(collector, before, screen)
            time.sleep(wishes.seconds)
            screen.note(f"{collector.batches - before} batches since the restart")
    if wishes.app is None and wishes.pod is None:
        with screen.step("crash the app with SIGSEGV; its last line is what matters"):
            _crash(kubelet)
            status = kubelet.restart(kubelet.main)
            screen.note(f"the app ended with status {status}, and was started again")
            kubelet.wait_for_output(kubelet.main, 20)
            time.sleep(wishes.seconds / 2)


def _wait_for_news(collector: Collector, batches: int, screen: Screen) -> None:
    """Wait until a batch more than `batches` has come; an app may well write nothing."""
    deadline = time.monotonic() + 20
    while collector.batches <= batches:
        if time.monotonic() > deadline:
            screen.note("no record yet; does the app write to the paths of its annotations?")
            return
        time.sleep(0.02)


def _app(wishes: Wishes) -> list[str]:
    if wishes.app is not None:
        return parse_app(wishes.app)
    if wishes.pod is not None:
        return []
    return [sys.executable, "-m", "demo.orders", "--log-dir", "/var/log/orders"]


def _issue_certificates(folder: Path) -> None:
    command = [sys.executable, "-m", "certs", "issue", "--dir", str(folder), "--dns", "127.0.0.1"]
    issued = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if issued.returncode != 0:
        raise DemoError(f"no certificates: {issued.stderr.strip()}")


def _admit(webhook: Webhook, pod: Json, screen: Screen) -> Json:
    injected, warnings = webhook.admit(pod)
    for line in added_lines(pod, injected):
        if line.startswith("+"):
            screen.added(f"     {line}")
        else:
            screen.note(line)
    for warning in warnings:
        screen.note(f"warning: {warning}")
    written = (injected["metadata"].get("annotations") or {}).get(annotations.STATUS)
    if written is None:
        raise DemoError(
            f"nothing was added: give the pod an annotation such as {annotations.PATHS}: "
            "/var/log/app/*.log (docs/annotations.md)"
        )
    left_out = json.loads(written)["left_out"]
    if left_out:
        first = left_out[0]
        asked = first.get("path") or first.get("key")
        raise DemoError(f"{asked}: {first['message']} (docs/reasons.md#{first['reason']})")
    return injected


def _rename_logs(kubelet: Kubelet) -> Iterator[str]:
    """Rename the newest log file of each sub-path, as a rotation does; mirrored stdout aside."""
    logs = kubelet.volume(names.LOGS_VOLUME)
    for folder in sorted(path for path in logs.glob("*/*") if path.is_dir()):
        if folder.name == names.STDOUT_SLUG:
            continue
        files = [path for path in folder.rglob("*.log") if path.is_file()]
        if files:
            newest = max(files, key=lambda path: path.stat().st_mtime)
            newest.rename(newest.with_name(newest.name + ".1"))
            yield f"{newest.name} to {newest.name}.1"


def _crash(kubelet: Kubelet) -> None:
    """Send SIGSEGV to the app itself, which is the mirror's child where stdout is mirrored."""
    process = kubelet.running[kubelet.main].process
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = children.read_text().split() if children.exists() else []
    victim = int(found[0]) if found else process.pid
    os.kill(victim, signal.SIGSEGV)


def _log_folders(pod: Json, kubelet: Kubelet) -> list[tuple[str, Path]]:
    """Return (what to show, the folder on this machine) for every planned path."""
    status = (pod["metadata"].get("annotations") or {}).get(annotations.STATUS)
    plan = json.loads(status)["plan"] if status else []
    folders: dict[Path, str] = {}
    for entry in plan:
        if entry["volume"] is None:
            continue
        folder = kubelet.volume(entry["volume"]) / entry["subPath"]
        shown = "stdout" if entry["stream"] == "stdout" else str(Path(entry["path"]).parent)
        folders.setdefault(folder, f"{entry['container']}:{shown}")
    return [(shown, folder) for folder, shown in folders.items()]


def _say_verdict(rows: list[Row], collector: Collector, stored: Path, screen: Screen) -> int:
    screen.line()
    head = ("file", "lines written", "lines received", "lost", "duplicates")
    body = [(row.name, row.written, row.received, row.lost, row.repeated) for row in rows]
    screen.table([head, *body])
    lost = sum(row.lost for row in rows)
    screen.line()
    screen.line(f"the records lie in {stored} ({len(collector.records())} records)")
    if lost or not rows:
        screen.line(f"{lost} lines lost" if rows else "no line was written, so nothing is shown")
        return 1
    screen.line(f"nothing lost, in {screen.seconds:.0f} s")
    return 0


def _show_some(screen: Screen) -> Callable[[Record], None]:
    """Return what shows a record: some of each file in each second, and how many others."""
    turn: dict[str, tuple[int, int]] = {}

    def show(record: Record) -> None:
        name = str(record.get("log.file.path"))
        second = int(time.monotonic())
        began, shown = turn.get(name, (second, 0))
        if began != second:
            if shown > _SHOWN_A_SECOND:
                screen.record(name, f"… and {shown - _SHOWN_A_SECOND} more")
            began, shown = second, 0
        if shown < _SHOWN_A_SECOND:
            screen.record(name, str(record["message"]))
        turn[name] = began, shown + 1

    return show


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a folder that is gone afterwards, whatever containers wrote into it."""
    folder = Path(tempfile.mkdtemp(prefix="sidetail-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _output_folder(parent: Path) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        folder = parent / (stamp if number == 0 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise DemoError(
                f"cannot write to {parent}: {error.strerror}; give OUTPUT=folder"
            ) from None
        return folder
    raise DemoError(f"{parent} is full of older runs: remove some")
