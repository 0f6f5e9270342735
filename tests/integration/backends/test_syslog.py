"""Syslog over real sockets: what counts as there, and what comes again."""

import time
from pathlib import Path

from sidecar.backends.answers import Answer, Backend, Delivered, Retry
from tests.batches import batch, facts, open_backend
from tests.fakes.syslog import SyslogServer
from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene
from tests.sidecar_process import eventually

TEXT = b"".join(b"line %d\n" % number for number in range(2000))
LINES = [f"line {number}" for number in range(2000)]


def _attempt(backend: Backend, *texts: bytes, seconds: float = 20, times: int = 1) -> list[Answer]:
    sender = backend.sender()
    made = batch(backend, *((text, facts()) for text in texts))
    answers = [sender.attempt(made, seconds=seconds) for _ in range(times)]
    sender.close()
    return answers


def test_a_batch_counts_when_its_connection_outlives_it_by_a_second():
    with SyslogServer() as server:
        backend = open_backend("syslog", server.url)
        started_at = time.monotonic()

        answers = _attempt(backend, TEXT, times=2)

        took = time.monotonic() - started_at
        eventually(lambda: len(server.messages) == 4000)
    assert answers == [Delivered()] * 2
    assert took >= 2.0
    assert server.server.connections == 1
    assert server.texts == LINES * 2
    assert server.violations == []


def test_a_receiver_that_hangs_up_after_reading_gets_the_batch_again():
    with SyslogServer(hang_up_after=1000) as server:
        backend = open_backend("syslog", server.url)

        answers = _attempt(backend, TEXT, times=2)

        eventually(lambda: len(server.messages) == 3000)
    assert answers == [Retry("connection"), Delivered()]
    assert server.texts == LINES[:1000] + LINES


def test_a_receiver_that_reads_nothing_is_given_up_at_the_deadline():
    with SyslogServer(silent=True) as server:
        backend = open_backend("syslog", server.url)

        assert _attempt(backend, (b"x" * 3000 + b"\n") * 10_000, seconds=2) == [Retry("timeout")]


def test_a_stop_leaves_nothing_unread_behind():
    with SyslogServer() as server:
        backend = open_backend("syslog", server.url)

        assert _attempt(backend, *[TEXT] * 10) == [Delivered()]

        eventually(lambda: len(server.messages) == 20_000)
    assert server.violations == []


def test_a_message_longer_than_the_receiver_takes_does_not_hold_up_the_others():
    with SyslogServer(max_message_bytes=64 * 1024) as server:
        backend = open_backend("syslog", server.url)

        assert _attempt(backend, b"before\n", b"x" * 500_000 + b"\n", b"after\n") == [Delivered()]

        eventually(lambda: len(server.messages) == 3)
    before, cut, after = server.messages
    assert (before.text, after.text) == ("before", "after")
    assert int(cut.parameters["truncated"]) == 500_000 - len(cut.text)


def test_tls_with_a_client_certificate(trust: Trust, tmp_path: Path):
    secret = trust.client_secret(tmp_path / "s")
    with SyslogServer(tls=trust.server(asks_client=True)) as server:
        backend = open_backend("syslog", server.url, credentials_dir=secret)

        assert _attempt(backend, TEXT) == [Delivered()]

        eventually(lambda: len(server.messages) == 2000)
    assert server.violations == []


def test_a_receiver_with_a_strange_certificate_gets_nothing(
    trust: Trust, other_trust: Trust, tmp_path: Path
):
    secret = trust.secret(tmp_path / "s")
    with SyslogServer(tls=other_trust.server()) as server:
        backend = open_backend("syslog", server.url, credentials_dir=secret)

        assert _attempt(backend, b"a secret line\n") == [Retry("tls")]

    assert server.messages == []


def test_every_line_arrives_though_the_receiver_restarts(scene: Scene):
    messages = scene.write("a.log", 500)
    with SyslogServer(hang_up_after=100) as server:
        sidecar = scene.sidecar({"type": "syslog", "url": server.url}).start()
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 500
        )
        server.server.down()
        messages += scene.write("a.log", 500, first=500)
        eventually(lambda: sidecar.metric("sidetail_backend_failing") == 1)
        server.server.up()
        sidecar.wait_for_metric(
            lambda scrape: scrape.total("sidetail_lines_acknowledged_total") == 1000
        )
        assert sidecar.stop() == 0
        eventually(lambda: set(server.texts) == set(messages))
    assert server.texts[:100] == messages[:100]
    assert server.texts[100:] == messages
