"""The count of missed pods follows an API server in memory; its workloads are told once."""

import threading
import tracemalloc

import pytest

from runtime.stop import Stop
from tests.fakes.kube_api import FakeKubeApi, refused, unreachable
from tests.sidecar_process import eventually
from webhook.cluster import ClusterFacts, Namespace
from webhook.events import Events
from webhook.metrics import Metrics
from webhook.missed_watch import (
    BY_LABEL,
    EVENT_REASON,
    MAX_NAMESPACES,
    RESCAN_SECONDS,
    MissedPods,
    scopes_of,
)

PODS = "/api/v1/pods"
SHOP = "/api/v1/namespaces/shop/pods"
ENABLED = Namespace(labels={"sidetail.dev/inject": "enabled"})
PATHS = {"sidetail.dev/paths": "/var/log/app.log"}


def pod(name, *, namespace="shop", annotations=PATHS, labels=None, owner=None, spec=None, **status):
    owners = owner and [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}",
         "controller": True}
    ]  # fmt: skip
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "annotations": annotations,
            "labels": labels,
            "ownerReferences": owners,
        },
        "spec": {"containers": [{"name": "app"}]} | (spec or {}),
        "status": status,
    }


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Watched:
    """One replica's count, beside an API server that may have others."""

    def __init__(self, api, *, instance="one"):
        self.api = api
        self.namespaces = {"shop": ENABLED, "plain": Namespace()}
        self.stop = Stop()
        self.metrics = Metrics()
        self.clock = Clock()
        events = Events(api, self.metrics, self.stop, instance=instance)
        self.missed = MissedPods(
            api,
            lambda: ClusterFacts(namespaces=self.namespaces),
            events,
            self.stop,
            clock=self.clock,
        )
        self.metrics.watch_missed(self.missed.counts, lambda: self.missed.is_watching)

    def begin(self):
        """Do what the thread does every few seconds, once, and wait until all is seen."""
        self.missed.turn()
        eventually(lambda: self.missed.is_watching, "the lists")
        eventually(
            lambda: all(self.api.is_watched(scope.path) for scope in self.missed._watches),
            "the watches",
        )
        return self

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels or None)

    def count(self, namespace="shop"):
        return self.value("sidetail_missed_pods", pod_namespace=namespace) or 0

    def end(self):
        self.stop.request()
        for watch in list(self.missed._watches.values()):
            watch.stop.request()


@pytest.fixture
def api():
    return FakeKubeApi()


@pytest.fixture
def watched(api):
    made = Watched(api)
    yield made
    made.end()
    eventually(
        lambda: not any(thread.name == "missed-pods" for thread in threading.enumerate()),
        "the end of the threads",
    )


def test_pods_that_were_missed_before_the_start_are_counted(api, watched):
    for number in range(3):
        api.put(PODS, pod(f"web-{number}", owner="web"))
    api.put(PODS, pod("by-label", namespace="plain", labels={"sidetail.dev/inject": "true"}))
    api.put(PODS, pod("no-label", namespace="plain"))
    api.put(PODS, pod("seen", annotations=PATHS | {"sidetail.dev/status": "{}"}))
    api.put(PODS, pod("asks-nothing", annotations=None))
    api.put(PODS, pod("done", phase="Succeeded"))
    watched.begin()

    assert watched.missed.counts() == {"shop": 3, "plain": 1}
    assert watched.count() == 3
    assert watched.value("sidetail_missed_pods_watched") == 1


def test_the_count_follows_what_comes_and_goes(api, watched):
    watched.begin()
    api.put(PODS, pod("one"))
    eventually(lambda: watched.count() == 1, "the first")
    api.put(PODS, pod("two", namespace="plain", labels={"sidetail.dev/inject": "true"}))
    eventually(lambda: watched.count("plain") == 1, "the one with a label of its own")
    api.put(PODS, pod("one", phase="Running"))
    api.put(PODS, pod("three"))
    eventually(lambda: watched.count() == 2, "the third, and the first just once")
    api.remove(PODS, "shop/three")
    api.put(PODS, pod("one", phase="Failed"))
    eventually(lambda: watched.count() == 0, "none")

    assert watched.missed.counts() == {"plain": 1}


def test_only_metadata_is_asked_for_and_one_whole_pod_of_each_workload(api, watched):
    for number in range(50):
        api.put(PODS, pod(f"web-{number}", owner="web"))
    watched.begin()
    whole = [call for call in api.calls if call.startswith("get ")]

    assert watched.count() == 50
    assert len(whole) == 1


def test_windows_pods_are_not_missed(api, watched):
    windows = {"nodeSelector": {"kubernetes.io/os": "windows"}}
    api.put(PODS, pod("w-1", owner="w", spec=windows))
    api.put(PODS, pod("w-2", owner="w", spec=windows))
    api.put(PODS, pod("l-1", owner="l"))
    watched.begin()

    assert watched.count() == 1


def test_a_namespace_that_gets_the_label_is_looked_at_and_one_that_loses_it_is_not(api, watched):
    api.put(PODS, pod("p", namespace="plain"))
    watched.begin()
    assert watched.missed.counts() == {}
    watched.namespaces["plain"] = ENABLED
    watched.begin()
    assert watched.count("plain") == 1
    watched.namespaces["plain"] = Namespace()
    watched.begin()

    assert watched.missed.counts() == {}
    eventually(lambda: not api.is_watched("/api/v1/namespaces/plain/pods"), "the end of its watch")


def test_annotations_that_a_namespace_gets_ask_for_the_pods_it_has(api, watched):
    api.put(PODS, pod("p", annotations=None))
    watched.begin()
    assert watched.count() == 0
    watched.namespaces["shop"] = Namespace(ENABLED.labels, {"sidetail.dev/stdout": "mirror"})
    watched.begin()

    assert watched.count() == 1


def test_many_labelled_namespaces_have_one_watch_and_the_others_pods_do_not_count(api, watched):
    for number in range(MAX_NAMESPACES + 5):
        watched.namespaces[f"ns-{number}"] = ENABLED
        api.put(PODS, pod("p", namespace=f"ns-{number}"))
    api.put(PODS, pod("p", namespace="plain"))
    api.put(PODS, pod("p", namespace="kube-system"))
    watched.begin()

    assert {scope.path for scope in watched.missed._watches} == {PODS}
    assert len(watched.missed._watches) == 2
    assert watched.missed.counts() == {f"ns-{number}": 1 for number in range(MAX_NAMESPACES + 5)}


def test_namespaces_that_come_and_go_do_not_list_all_pods_each_time(api, watched):
    for number in range(MAX_NAMESPACES + 5):
        watched.namespaces[f"ns-{number}"] = ENABLED
    watched.begin()
    lists = api.calls.count(f"list {PODS}")
    for number in range(10):
        watched.namespaces[f"preview-{number}"] = ENABLED
        watched.begin()
        api.put(PODS, pod("p", namespace=f"preview-{number}"))
    eventually(lambda: sum(watched.missed.counts().values()) == 10, "pods that came later")
    assert api.calls.count(f"list {PODS}") == lists
    watched.clock.now += RESCAN_SECONDS
    before = dict(watched.missed.counts())
    watched.missed.turn()

    assert watched.missed.counts() == before  # it does not drop while it is listed anew
    eventually(lambda: api.calls.count(f"list {PODS}") == lists + 1, "the second list")


def test_the_count_does_not_drop_where_one_watch_follows_many_or_many_one(api, watched):
    def pods_of(namespaces):
        return [scope.path for scope in scopes_of(namespaces) - {BY_LABEL}]

    for number in range(MAX_NAMESPACES):
        watched.namespaces[f"ns-{number}"] = ENABLED
        api.put(PODS, pod("p", namespace=f"ns-{number}"))
    del watched.namespaces["shop"]
    watched.begin()
    assert len(pods_of(watched.namespaces)) == MAX_NAMESPACES
    before = dict(watched.missed.counts())
    watched.namespaces["one-more"] = ENABLED
    api.failures += [unreachable()] * 3  # it takes its time
    watched.missed.turn()
    assert watched.missed.counts() == before
    watched.begin()
    del watched.namespaces["one-more"]
    watched.missed.turn()
    assert len(watched.missed._watches) == 2  # for a while, as there may soon be one more
    watched.clock.now += RESCAN_SECONDS
    watched.missed.turn()

    assert len(watched.missed._watches) == MAX_NAMESPACES + 1
    assert watched.missed.counts() == before


@pytest.mark.parametrize("error", [refused(410), None], ids=["gone", "at once"])
def test_what_is_too_old_to_go_on_from_is_listed_again(api, watched, error):
    api.put(PODS, pod("one"))
    watched.begin()
    api.collections[PODS]["shop/while-away"] = pod("while-away")
    api.end_watches(SHOP, error)

    eventually(lambda: watched.count() == 2, "both")


@pytest.mark.parametrize("error", [unreachable(), refused(500)])
def test_after_a_break_the_watch_goes_on_where_it_was(api, watched, error):
    api.put(PODS, pod("one"))
    watched.begin()
    api.put(PODS, pod("two"))
    eventually(lambda: watched.count() == 2, "the second")
    version = api.collections[PODS]["shop/two"]["metadata"]["resourceVersion"]
    api.end_watches(SHOP, error)
    eventually(lambda: f"watch {SHOP} {version}" in api.calls, "the next watch")

    assert api.calls.count(f"list {SHOP}") == 1
    assert watched.count() == 2


def test_without_the_right_it_is_said_once_and_nothing_else_happens(api, watched, caplog):
    api.refusal = lambda _verb, path: refused(403) if path.endswith("/pods") else None
    watched.missed.turn()
    watches = list(watched.missed._watches.values())
    eventually(
        lambda: len([line for line in caplog.records if "may not watch" in line.message]) == 2,
        "a line for each of the two",
    )
    for watch in watches:
        assert watch.collection.turn() >= 60

    assert len([line for line in caplog.records if "may not watch" in line.message]) == 2
    assert watched.value("sidetail_missed_pods_watched") == 0
    assert watched.missed.counts() == {}


def drain(watched, count):
    for _ in range(count):
        watched.missed._events.turn()


def test_a_workload_is_told_once(api, watched):
    for number in range(5):
        api.put(PODS, pod(f"web-{number}", owner="web"))
    api.put(PODS, pod("alone"))
    watched.begin()
    for number in range(5):
        api.put(PODS, pod(f"web-{number}", owner="web", phase="Running"))
    api.put(PODS, pod("web-5", owner="web"))
    eventually(lambda: watched.count() == 7, "all")
    drain(watched, 3)

    told = {event["involvedObject"]["uid"]: event for _, event in api.created}
    assert len(api.created) == 2
    assert set(told) == {"uid-web", "uid-of-alone"}
    assert told["uid-web"]["reason"] == EVENT_REASON
    assert told["uid-web"]["type"] == "Warning"
    assert told["uid-of-alone"]["involvedObject"]["kind"] == "Pod"
    assert "rollout restart" in told["uid-web"]["message"]


def test_of_two_replicas_one_says_it(api):
    names = set()

    def create(path, body):
        name = body["metadata"]["name"]
        if name in names:
            raise refused(409)
        names.add(name)
        return body

    api.on_create = create
    api.put(PODS, pod("web-0", owner="web"))
    api.put(PODS, pod("web-1", owner="web"))
    replicas = [Watched(api, instance=name).begin() for name in ("one", "two")]
    for replica in replicas:
        drain(replica, 1)
        replica.end()

    assert len(api.created) == 1
    assert [one.value("sidetail_events_total", result="sent") for one in replicas] == [1, None]
    assert replicas[1].value("sidetail_events_total", result="repeated") == 1
    assert all(one.count() == 2 for one in replicas)


def test_what_found_no_room_in_the_queue_is_said_later(api, watched):
    for number in range(1010):
        api.put(PODS, pod(f"p-{number}"))
    watched.begin()
    assert watched.count() == 1010
    dropped = watched.value("sidetail_events_total", result="dropped")
    assert dropped == 10
    watched.missed._events._queue.queue.clear()
    api.end_watches(SHOP, refused(410))
    eventually(lambda: watched.missed._events._queue.qsize() == 10, "those that were dropped")


def test_tens_of_thousands_of_pods_take_little_memory(api, watched):
    """What is kept is a name for each pod that was missed, and nothing for the others."""
    seen = PATHS | {"sidetail.dev/status": "{}"}
    for number in range(20_000):
        api.collections.setdefault(PODS, {})[f"shop/p-{number}"] = pod(
            f"p-{number}", owner="web", annotations=PATHS if number % 2 else seen
        )
    tracemalloc.start()
    watched.begin()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert watched.count() == 10_000
    assert kept < 8 * 1024 * 1024


def test_before_the_namespaces_are_known_nothing_is_watched(api, watched):
    watched.namespaces.clear()

    assert watched.missed.turn() <= 1
    assert watched.missed._watches == {}
    assert watched.value("sidetail_missed_pods_watched") == 0


def test_the_threads_end_when_they_are_told(api):
    replica = Watched(api)
    replica.missed.start()
    eventually(lambda: replica.missed.is_watching, "the lists")
    replica.stop.request()

    eventually(
        lambda: not any(thread.name.startswith("missed") for thread in threading.enumerate()),
        "the end of the threads",
    )


def test_no_pod_is_in_two_scopes_and_system_namespaces_are_in_none():
    namespaces = {"a": ENABLED, "b": ENABLED, "kube-system": ENABLED, "c": Namespace()}
    scopes = scopes_of(namespaces)

    assert {scope.path for scope in scopes} == {
        PODS, "/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods",
    }  # fmt: skip
    assert BY_LABEL.selectors["labelSelector"] == "sidetail.dev/inject=true"
    assert "metadata.namespace!=kube-system" in BY_LABEL.selectors["fieldSelector"]
    for scope in scopes - {BY_LABEL}:
        assert scope.selectors["labelSelector"] == "sidetail.dev/inject notin (true,false)"
        assert "metadata.namespace" not in scope.selectors["fieldSelector"]
