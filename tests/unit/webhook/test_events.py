import json
import time
from datetime import UTC, datetime

import pytest

from runtime.stop import Stop
from tests.fakes.kube_api import FakeKubeApi, refused, unreachable
from tests.webhook_process import review_of
from webhook.admission import Admission, Owner
from webhook.events import (
    MAX_MESSAGE,
    MAX_QUEUED,
    SAME_SECONDS,
    Events,
    Notice,
    event_of,
    notices_of,
)
from webhook.metrics import Metrics
from webhook.request import parse_review

OWNER = Owner("apps/v1", "ReplicaSet", "orders-56f4db6b86", "c170b64f")
BAD = {"path": "var/log", "reason": "bad-path", "message": "not absolute"}
WORSE = {"key": "sidetail.dev/keep", "reason": "bad-value", "message": "no regex"}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class ImpatientStop(Stop):
    """Waits for nothing, and notes how long it was asked to."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def wait(self, seconds):
        self.waited.append(seconds)
        return self.asked


@pytest.fixture
def api():
    return FakeKubeApi()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events(api, clock):
    return Events(api, Metrics(), ImpatientStop(), instance="webhook-1", clock=clock)


def review(**request):
    body = bytearray(json.dumps(review_of(**request)).encode())
    return parse_review(body, content_type="application/json")


def admission(*left_out, owner=OWNER):
    return Admission(outcome="partial", left_out=left_out or (BAD,), owner=owner)


def drain(events, count):
    for _ in range(count):
        events.turn()


def counted(events, result):
    return (
        events._metrics.registry.get_sample_value("sidetail_events_total", {"result": result}) or 0
    )


def test_an_event_is_about_the_owner_and_carries_code_and_path(api, events):
    events.tell(review(), admission())
    drain(events, 1)

    ((path, event),) = api.created
    assert path == "/api/v1/namespaces/shop/events"
    assert event["type"] == "Warning"
    assert event["involvedObject"] == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "orders-56f4db6b86",
        "namespace": "shop",
        "uid": "c170b64f",
    }
    assert "bad-path" in event["message"]
    assert "var/log" in event["message"]
    assert counted(events, "sent") == 1


def test_each_reason_is_one_event(api, events):
    events.tell(review(), admission(BAD, WORSE, BAD | {"path": "log"}))
    drain(events, 2)

    messages = [event["message"] for _, event in api.created]
    assert len(messages) == 2
    assert messages[0].startswith("bad-path: ")
    assert "var/log" in messages[0]
    assert "; log: " in messages[0]
    assert messages[1].startswith("bad-value: sidetail.dev/keep")


def test_a_pod_without_an_owner_gets_none(api, events):
    events.tell(review(), admission(owner=None))

    assert events._queue.empty()


def test_the_same_thing_is_said_once_in_ten_minutes(api, events, clock):
    for _ in range(3):
        events.tell(review(), admission())
    drain(events, 3)
    assert len(api.created) == 1
    assert counted(events, "repeated") == 2
    clock.now += SAME_SECONDS
    events.tell(review(), admission())
    drain(events, 1)

    assert len(api.created) == 2


def test_another_workload_is_told_too(api, events):
    events.tell(review(), admission())
    events.tell(review(), admission(owner=Owner("apps/v1", "ReplicaSet", "x", "another")))
    drain(events, 2)

    assert len(api.created) == 2


def test_a_full_queue_drops_and_counts_and_never_waits(events):
    began = time.monotonic()
    for number in range(MAX_QUEUED + 10):
        events.tell(review(), admission(BAD | {"path": f"log-{number}"}))

    assert counted(events, "dropped") == 10
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("error", [unreachable(), refused(429), refused(500), refused(503)])
def test_what_may_pass_is_tried_again(api, events, error):
    api.failures += [error, error]
    events.tell(review(), admission())
    drain(events, 1)

    assert len(api.created) == 1
    assert events._stop.waited == [1.0, 2.0]


def test_it_is_given_up_after_three_tries_and_said_once(api, events, caplog):
    api.failures += [unreachable()] * 6
    for number in range(2):
        events.tell(review(), admission(BAD | {"path": f"log-{number}"}))
    drain(events, 2)

    assert api.created == []
    assert counted(events, "failed") == 2
    assert len([line for line in caplog.records if "could not be made" in line.message]) == 1


@pytest.mark.parametrize("status", [403, 404, 409, 422])
def test_a_clear_no_is_not_tried_again(api, events, status):
    api.failures += [refused(status)]
    events.tell(review(), admission())
    drain(events, 1)

    assert len(api.calls) == 1
    assert counted(events, "failed") == 1


def test_what_failed_may_be_said_by_the_next_pod(api, events):
    api.failures += [refused(403)]
    for _ in range(2):
        events.tell(review(), admission())
    drain(events, 2)

    assert len(api.created) == 1


def test_a_message_is_printable_and_not_too_long():
    rows = [BAD | {"path": f"/x/\n\x1b{number}", "message": "m" * 400} for number in range(10)]
    (notice,) = notices_of("shop", OWNER, rows)

    assert len(notice.message) == MAX_MESSAGE
    assert notice.message.isprintable()


def test_half_a_surrogate_pair_does_no_harm(api, events):
    events.tell(review(), admission(BAD | {"path": "/\ud800"}))
    drain(events, 1)

    assert len(api.created) == 1


def test_the_name_is_one_that_kubernetes_takes():
    owner = Owner("apps/v1", "ReplicaSet", "o" * 253, "u")
    (notice,) = notices_of("shop", owner, [BAD])
    event = event_of(notice, instance="i", now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert len(event["metadata"]["name"]) <= 253
    assert event["firstTimestamp"] == "2026-01-02T03:04:05Z"


def test_what_all_replicas_have_to_say_has_one_name_and_is_said_by_the_first(api, events):
    shared = Notice("shop", OWNER, "LogsMissed", "web-1 was missed", is_shared=True)
    again = Notice("shop", OWNER, "LogsMissed", "web-2 was missed", is_shared=True)
    assert shared.event_name() == again.event_name()
    assert shared.event_name() != Notice("shop", OWNER, "Other", "x", is_shared=True).event_name()
    api.failures += [refused(409)]
    events.offer(shared)
    drain(events, 1)

    assert counted(events, "repeated") == 1
    assert counted(events, "failed") == 0
    assert event_of(shared, instance="i", now=datetime.now(UTC))["reason"] == "LogsMissed"


def test_the_worker_ends_when_it_is_told(api):
    from runtime.workers import Worker, repeat

    stop = Stop()
    events = Events(api, Metrics(), stop, instance="i")
    worker = Worker("events", lambda: repeat(events.turn, stop)).start()
    events.tell(review(), admission())
    stop.request()

    assert worker.join(20)
    assert not worker.alive
