"""Peers that are quiet, slow, many or large: W11, W12, W13, W20 and T18."""

import contextlib
import json
import shutil
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.sidecar_process import eventually
from tests.webhook_process import (
    JSON,
    POD,
    Webhook,
    at_once,
    call,
    raw_post,
    read_to_end,
    review_of,
    running,
    statuses,
)

MIB = 1024 * 1024
WHOLE = json.dumps(review_of()).encode()
HEAD = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
OPENING = raw_post(json.dumps(review_of(operation="DELETE", object=None)).encode())
EVENTS = "sidetail_webhook_connection_events_total"
HANGING = 5.0
"""Seconds: far above what an answer takes on a busy machine, far below the peers' deadlines
together. A server that is held up by one of them takes longer."""


def seconds_of_a_call(webhook: Webhook) -> float:
    began = time.monotonic()
    assert webhook.post(review_of()).response["allowed"] is True
    return time.monotonic() - began


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(65536) == b"" or is_closed(connection)
    except (BlockingIOError, InterruptedError):
        return False
    except OSError as error:
        # TLS says "not now" by an error of its own.
        return "did not complete" not in str(error)


def test_500_silent_and_500_stalled_and_100_half_closed_peers_hold_up_nobody(own_webhook):
    """W12 and T18, and that each of them is closed when its time is over."""
    webhook = own_webhook
    idle = [seconds_of_a_call(webhook) for _ in range(20)]
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(webhook.connect_tcp()) for _ in range(500)]
        with ThreadPoolExecutor(8) as pool:
            stalled = [
                stack.enter_context(connection)
                for connection in pool.map(lambda _: webhook.connect(), range(500))
            ]
        for number, connection in enumerate(stalled):
            # Some stop in the head, most in the body.
            cut = 30 if number % 5 == 0 else len(HEAD) + 60
            connection.sendall(raw_post(WHOLE)[:cut])
        half_closed = [stack.enter_context(webhook.connect_tcp()) for _ in range(100)]
        for connection in half_closed:
            connection.sendall(b"\x16\x03\x01")
            connection.shutdown(socket.SHUT_WR)
        beside = [seconds_of_a_call(webhook) for _ in range(40)]
        eventually(lambda: all(map(is_closed, half_closed)), "half-closed peers")
        eventually(lambda: all(map(is_closed, silent)), "silent peers")
        eventually(lambda: all(map(is_closed, stalled)), "stalled peers")

    # Not a gate on time: a server that one of them stops is off by orders of magnitude.
    assert sorted(beside)[36] < HANGING
    assert statistics.median(beside) < 20 * statistics.median(idle) + 0.5
    metrics = webhook.metrics()
    assert metrics.total(EVENTS, event="handshake_timed_out") >= 500
    assert metrics.total(EVENTS, event="request_timed_out") >= 500
    eventually(lambda: webhook.metrics().total("sidetail_webhook_connections") < 5, "no peers")


def test_quiet_peers_of_the_metrics_port_do_not_stop_the_probes(own_webhook):
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            address = ("127.0.0.1", own_webhook.metrics_port)
            peer = stack.enter_context(socket.create_connection(address, 10))
            peer.sendall(b"GET /livez HT")
        began = time.monotonic()

        assert own_webhook.probe("/livez").status == 200
        assert own_webhook.probe("/readyz").status == 200
        assert time.monotonic() - began < HANGING


def test_a_thousand_at_once_on_new_connections_are_all_answered(own_webhook):
    """W11: 1,000 calls, as many open at a time as this client's threads can have."""

    def act(index: int) -> int:
        return own_webhook.post(review_of(uid=f"at-once-{index}")).status

    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(act, range(1000)))

    assert found == [200] * 1000
    assert own_webhook.threads() < 20
    assert own_webhook.rss_bytes() < 150 * MIB


def test_a_thousand_connections_that_ask_in_the_same_moment_are_all_answered(own_webhook):
    """W11 from one thread: all handshakes first, then all requests, then all answers."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(1000):
            connections.append(stack.enter_context(own_webhook.connect()))
            # One that asks nothing after its handshake would be closed after ten seconds.
            connections[-1].sendall(OPENING)
            assert connections[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
        for connection in connections:
            connection.sendall(raw_post(WHOLE, extra="Connection: close\r\n"))
        found = [statuses(read_to_end(connection)) for connection in connections]

    assert found == [[200]] * 1000
    assert own_webhook.rss_bytes() < 150 * MIB


def test_a_body_costs_little_more_memory_than_itself(own_webhook):
    """W13: resident memory grows by three times the body at most."""
    own_webhook.post(review_of())
    for size in (3 * MIB, 69 * MIB // 10):
        own_webhook.forget_peak()
        before = own_webhook.rss_bytes()
        review = review_of(operation="UPDATE", oldObject={"padding": "x" * (size - len(WHOLE))})

        assert own_webhook.post(review).status == 200
        assert own_webhook.peak_bytes() - before < 3 * size + 2 * MIB


def test_many_large_bodies_at_once_are_shed_before_they_fill_the_memory(own_webhook):
    large = json.dumps(review_of(operation="UPDATE", oldObject={"padding": "x" * 6 * MIB})).encode()

    def act(_: int) -> list[int]:
        with own_webhook.connect() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(raw_post(large, extra="Connection: close\r\n"))
            return statuses(read_to_end(connection))

    own_webhook.forget_peak()
    before = own_webhook.rss_bytes()
    found = at_once(60, act)

    # A client that goes on sending for more than two seconds after its 503 may lose it.
    assert {tuple(one) for one in found} <= {(200,), (503,), ()}, found
    assert [200] in found
    assert own_webhook.peak_bytes() - before < 140 * MIB
    assert own_webhook.post(review_of()).status == 200


def test_20_a_hundred_bodies_of_100_kb_at_once_fit_into_64_mib(own_webhook):
    pod = json.loads(json.dumps(POD))
    pod["metadata"]["annotations"]["note"] = "x" * 100_000

    own_webhook.forget_peak()
    found = at_once(100, lambda _: own_webhook.post(review_of(pod)).status)

    assert set(found) <= {200, 503}
    assert 200 in found
    assert own_webhook.peak_bytes() < 64 * MIB


def test_small_requests_go_on_beside_large_ones(own_webhook):
    pod = json.loads(json.dumps(POD))
    pod["spec"]["containers"][0]["env"] = [
        {"name": f"V{number}", "value": "v" * 2000} for number in range(1000)
    ]
    large = json.dumps(review_of(pod)).encode()
    small: list[float] = []
    with (
        contextlib.closing(own_webhook.client()) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        futures = [pool.submit(own_webhook.call, "POST", "/mutate", large, JSON) for _ in range(9)]
        while not all(future.done() for future in futures):
            began = time.monotonic()
            assert call(client, "POST", "/mutate", WHOLE, JSON).status == 200
            small.append(time.monotonic() - began)

    assert [future.result().status for future in futures] == [200] * 9
    assert max(small) < HANGING


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="nothing here sets a small limit")
def test_with_few_descriptors_the_longest_silent_peer_gives_way(tmp_path):
    wrapper = ("prlimit", "--nofile=200:200", "--")
    with contextlib.ExitStack() as stack, running(tmp_path, wrapper=wrapper) as webhook:
        first = stack.enter_context(webhook.connect_tcp())
        time.sleep(0.3)
        later = [stack.enter_context(webhook.connect_tcp()) for _ in range(130)]
        eventually(lambda: is_closed(first), "the first peer")
        seconds_of_a_call(webhook)

        assert not is_closed(later[-1])
        assert webhook.metrics().total(EVENTS, event="evicted") >= 1
        assert webhook.metrics().total(EVENTS, event="no_descriptors") == 0


def test_at_the_cap_the_one_that_is_silent_longest_is_closed(own_webhook):
    """4,096 connections stand; with the next one the one that has been silent longest goes."""
    with contextlib.ExitStack() as stack:
        active = stack.enter_context(own_webhook.connect())
        peers = []
        # More than the cap, should the first ones have come to the end of their time by then.
        while own_webhook.metrics().total(EVENTS, event="evicted") == 0 and len(peers) < 15_000:
            peers += [stack.enter_context(own_webhook.connect_tcp()) for _ in range(600)]
            active.sendall(raw_post(WHOLE))  # whoever speaks is not silent
            assert active.recv(65536).startswith(b"HTTP/1.1 200")
        active.sendall(raw_post(WHOLE))

        assert active.recv(65536).startswith(b"HTTP/1.1 200")
        assert own_webhook.metrics().total(EVENTS, event="evicted") > 0
        assert is_closed(peers[0])
        assert not is_closed(peers[-1])
        assert own_webhook.metrics().total("sidetail_webhook_connections") <= 4096


def test_20_calls_that_were_given_up_by_their_callers_are_not_computed(own_webhook):
    """W20: what waited longer than its caller does is answered 503 at once."""
    with own_webhook.connect() as connection:
        # One second's patience, and a body that takes longer to come.
        connection.sendall(
            b"POST /mutate?timeout=1s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(WHOLE)
        )
        time.sleep(1.5)
        connection.sendall(WHOLE)
        answer = read_to_end(connection)

    assert statuses(answer) == [503]
    assert b"\r\nRetry-After: 1\r\n" in answer
