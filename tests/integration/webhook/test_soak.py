"""The long forms of W1 and W3; `make soak` runs them."""

import contextlib
import json
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.sidecar_process import eventually
from tests.webhook_process import JSON, Webhook, call, new_leaf, raw_post, review_of, running

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

WHOLE = json.dumps(review_of()).encode()
ROTATION_SECONDS = 600.0


def test_03_ten_minutes_of_a_new_certificate_every_two_seconds(tmp_path):
    """50 new connections a second; not one handshake may fail."""
    failures: list[Exception] = []
    served: set[bytes] = set()
    done = threading.Event()
    with running(tmp_path) as webhook:
        before = webhook.rss_bytes()

        def keep_connecting() -> None:
            while not done.is_set():
                began = time.monotonic()
                try:
                    with webhook.connect() as connection:
                        served.add(connection.getpeercert(binary_form=True) or b"")
                        connection.sendall(raw_post(WHOLE))
                        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
                except Exception as error:
                    failures.append(error)
                time.sleep(max(0.0, began + 0.1 - time.monotonic()))

        threads = [threading.Thread(target=keep_connecting) for _ in range(5)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + ROTATION_SECONDS
        while time.monotonic() < until:
            webhook.put_pair(new_leaf())
            time.sleep(2)
        done.set()
        for thread in threads:
            thread.join(60)

        assert failures == []
        assert len(served) > ROTATION_SECONDS / 10
        assert webhook.rss_bytes() - before < 16 * 1024 * 1024


class Endpoints:
    """Replicas behind a Service: who is ready, as clients learn it, a second late."""

    def __init__(self) -> None:
        self.ready: list[Webhook] = []
        self._ended = threading.Event()

    def follow(self, replicas: list[Webhook]) -> threading.Thread:
        def look() -> None:
            while not self._ended.wait(1.0):
                self.ready = [replica for replica in list(replicas) if is_ready(replica)]

        thread = threading.Thread(target=look)
        thread.start()
        return thread

    def end(self) -> None:
        self._ended.set()


def is_ready(replica: Webhook) -> bool:
    try:
        return replica.probe("/readyz").status == 200
    except OSError:
        return False


class ApiServerClient(threading.Thread):
    """Keeps a connection for each endpoint it has used, and gives it up as it is told."""

    def __init__(self, endpoints: Endpoints, count: int) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._count = count
        self.failures: list[str] = []
        self.made = 0

    def run(self) -> None:
        clients: dict[int, object] = {}
        for _ in range(self._count):
            replica = random.choice(self._endpoints.ready)
            client = clients.get(id(replica)) or replica.client()
            clients[id(replica)] = client
            try:
                reply = call(client, "POST", "/mutate?timeout=5s", WHOLE, JSON)
                if reply.status != 200:
                    self.failures.append(f"status {reply.status}")
            except Exception as error:
                self.failures.append(repr(error))
                clients.pop(id(replica)).close()
            else:
                self.made += 1
                if reply.headers.get("connection") == "close":
                    clients.pop(id(replica)).close()
            time.sleep(0.01)
        for client in clients.values():
            client.close()


def test_01_ten_thousand_calls_during_rolling_restarts(tmp_path):
    endpoints = Endpoints()
    replicas: list[Webhook] = []
    with contextlib.ExitStack() as stack:

        def add(number: int) -> Webhook:
            folder = Path(tmp_path / str(number))
            folder.mkdir()
            replica = Webhook(folder)
            stack.callback(replica.end)
            replicas.append(replica.start())
            return replica

        add(0)
        add(1)
        watcher = endpoints.follow(replicas)
        eventually(lambda: len(endpoints.ready) == 2, "both")
        clients = [ApiServerClient(endpoints, 2500) for _ in range(4)]
        for client in clients:
            client.start()
        for number in range(2, 100):
            if not any(client.is_alive() for client in clients):
                break
            new = add(number)  # maxSurge: 1
            eventually(lambda new=new: new in endpoints.ready, "the new replica")
            old = replicas[0]
            old.signal(signal.SIGTERM)
            assert old.wait() == 0
            replicas.remove(old)
        for client in clients:
            client.join(600)
        endpoints.end()
        watcher.join(30)

    assert [failure for client in clients for failure in client.failures] == []
    assert sum(client.made for client in clients) == 10_000
    assert number >= 4
