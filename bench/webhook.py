"""The figures of the webhook: `python -m bench webhook`. Prints what it measured; gates nothing.

One real process, called over TLS as an API server calls it. "Per core" is per second of the
server's own CPU time, which other work on the machine changes little; latencies are wall time.
"""

import asyncio
import contextlib
import copy
import json
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import Report
from tests.webhook_process import POD, Webhook, client_context, raw_post, review_of, running

MIB = 1024 * 1024
Row = tuple[str, str, str]
"""What was measured, the figure, the bar (docs/webhook.md)."""


def typical_pod() -> dict[str, Any]:
    """A pod of a Deployment as the API server sends it: owner, service-account mount, env."""
    pod = copy.deepcopy(POD)
    pod["metadata"]["annotations"]["sidetail.dev/stdout"] = "mirror"
    pod["metadata"]["labels"] |= {"app.kubernetes.io/name": "orders", "pod-template-hash": "56f4d"}
    pod["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "orders-56f4d",
            "uid": "c170b64f-26b3-4813-9d54-54b56ed57dbf",
            "controller": True,
        }
    ]
    container = pod["spec"]["containers"][0]
    container["env"] = [{"name": f"SETTING_{n}", "value": f"value {n}"} for n in range(20)]
    container["volumeMounts"] = [
        {
            "name": "kube-api-access",
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            "readOnly": True,
        }
    ]
    container["resources"] = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    pod["spec"]["volumes"] = [{"name": "kube-api-access", "projected": {"sources": []}}]
    return pod


def large_pod() -> dict[str, Any]:
    """A pod with 1,000 variables in 2.3 MiB."""
    pod = copy.deepcopy(POD)
    pod["spec"]["containers"][0]["env"] = [
        {"name": f"VARIABLE_{n:04}", "value": "v" * 2300} for n in range(1000)
    ]
    return pod


TYPICAL = raw_post(json.dumps(review_of(typical_pod())).encode(), path="/mutate?timeout=5s")


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of the CPU so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Caller:
    """One connection that is kept."""

    def __init__(self, webhook: Webhook, context: ssl.SSLContext) -> None:
        self._webhook = webhook
        self._context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, sent: bytes) -> float:
        """Make one call; return the seconds it took, a handshake included where there was one."""
        began = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._webhook.port, ssl=self._context, server_hostname="localhost"
            )
        reader, writer = self._streams
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"got {head[:60]!r}, expected 200")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        return time.perf_counter() - began

    def close(self) -> None:
        """Close without goodbye."""
        if self._streams is not None:
            self._streams[1].transport.abort()


def quantile(seconds: list[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def shown(seconds: list[float]) -> str:
    """Return the usual three figures."""
    p50, p99, worst = quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds)
    return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {worst * 1e3:.1f} ms"


async def keep_alive(webhook: Webhook, *, calls: int = 3000, connections: int = 4) -> Row:
    """Calls without pause on a few connections: how many a second of the server's CPU."""
    context = client_context()
    callers = [Caller(webhook, context) for _ in range(connections)]
    for caller in callers:
        await caller.call(TYPICAL)
    rates = []
    for _ in range(3):
        before, began = cpu_seconds(webhook.pid), time.perf_counter()

        async def many(caller: Caller) -> None:
            for _ in range(calls // connections):
                await caller.call(TYPICAL)

        await asyncio.gather(*map(many, callers))
        used = cpu_seconds(webhook.pid) - before
        rates.append((calls / used, calls / (time.perf_counter() - began)))
    for caller in callers:
        caller.close()
    per_core = statistics.median(rate for rate, _ in rates)
    wall = statistics.median(rate for _, rate in rates)
    figure = f"{per_core:.0f} a second per core ({wall:.0f} a second beside the client)"
    return "keep-alive", figure, "≥ 500 a second per core"


async def steady(webhook: Webhook, *, rate: int = 100, seconds: float = 15.0) -> Row:
    """An even load on kept connections; a call's time counts from when it was due."""
    context = client_context()
    callers = [Caller(webhook, context) for _ in range(20)]
    for caller in callers:
        await caller.call(TYPICAL)
    free: asyncio.Queue[Caller] = asyncio.Queue()
    for caller in callers:
        free.put_nowait(caller)
    taken: list[float] = []

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        caller = await free.get()
        await caller.call(TYPICAL)
        taken.append(time.perf_counter() - due)
        free.put_nowait(caller)

    start = time.perf_counter() + 0.5
    await asyncio.gather(*(one(start + n / rate) for n in range(int(rate * seconds))))
    for caller in callers:
        caller.close()
    return f"{rate} a second", shown(taken), "p99 ≤ 15 ms"


async def at_once(webhook: Webhook, *, count: int = 1000) -> Row:
    """A thousand calls in the same moment, each with a TLS connection of its own."""
    context = client_context()
    callers = [Caller(webhook, context) for _ in range(count)]
    before = cpu_seconds(webhook.pid)
    results = await asyncio.gather(*(c.call(TYPICAL) for c in callers), return_exceptions=True)
    for caller in callers:
        caller.close()
    taken = [result for result in results if isinstance(result, float)]
    used = cpu_seconds(webhook.pid) - before
    figure = f"{len(taken)} of {count} answered: {shown(taken)}; {used:.1f} s of the server's CPU"
    return "1,000 at once, new connections", figure, "all answered, p99 ≤ 5 s"


async def large(webhook: Webhook) -> Row:
    """A pod of 2.3 MiB on a kept connection."""
    sent = raw_post(json.dumps(review_of(large_pod())).encode())
    caller = Caller(webhook, client_context())
    taken = [await caller.call(sent) for _ in range(10)]
    caller.close()
    return f"a pod of {len(sent) / 1e6:.1f} MB", shown(taken), "≤ 300 ms"


async def beside_quiet_peers(webhook: Webhook) -> list[Row]:
    """New connections, alone and beside 500 silent peers and 500 stalled bodies."""
    context = client_context()

    async def series() -> list[float]:
        taken = []
        for _ in range(200):
            caller = Caller(webhook, context)
            taken.append(await caller.call(TYPICAL))
            caller.close()
        return taken

    idle = await series()
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(webhook.connect_tcp())
        for _ in range(500):
            stack.enter_context(webhook.connect()).sendall(TYPICAL[:700])
        beside = await series()
    ratio = quantile(beside, 0.99) / quantile(idle, 0.99)
    return [
        ("new connections, idle", shown(idle), ""),
        ("beside 500 silent and 500 stalled peers", shown(beside), ""),
        ("their p99s", f"{ratio:.1f} × idle", "≤ 5 × idle"),
    ]


@contextlib.contextmanager
def fresh() -> Iterator[Webhook]:
    """A webhook of its own."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as webhook:
        yield webhook


async def measure() -> list[Row]:
    """Measure everything, in turn."""
    with fresh() as webhook:
        webhook.post(review_of())
        idle = webhook.rss_bytes()
        rows = [await keep_alive(webhook), await steady(webhook), await large(webhook)]
        webhook.forget_peak()
        rows.append(await at_once(webhook))
        peak = webhook.peak_bytes()
    with fresh() as webhook:
        rows += await beside_quiet_peers(webhook)
    memory = f"idle {idle / MIB:.0f} MiB, peak with 1,000 at once {peak / MIB:.0f} MiB"
    return [*rows, ("resident memory", memory, "≤ 96 MiB")]


def run(report: Report) -> None:
    """Measure all of it."""
    rows = asyncio.run(measure())
    report.table("The webhook", ("what", "measured", "bar"), rows)
