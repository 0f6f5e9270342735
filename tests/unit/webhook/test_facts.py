import threading
from dataclasses import replace

import pytest

from runtime.stop import Stop
from tests.fakes.kube_api import FakeKubeApi, refused, unreachable
from tests.sidecar_process import eventually
from webhook.cluster import Namespace
from webhook.collection import REFUSED_SECONDS, Collection, Kind
from webhook.facts import _NODES, Facts, parse_minor

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
LIMIT_RANGES = "/api/v1/limitranges"


def namespace(name, labels=None, annotations=None):
    return {"metadata": {"name": name, "labels": labels, "annotations": annotations}}


def node(name, version="v1.31.2"):
    return {
        "metadata": {"name": name},
        "status": {"nodeInfo": {"kubeletVersion": version}, "images": [{"names": ["x"] * 50}]},
    }


def limit_range(name, in_namespace, limits):
    return {"metadata": {"name": name, "namespace": in_namespace}, "spec": {"limits": limits}}


@pytest.fixture
def api():
    fake = FakeKubeApi()
    fake.put(NAMESPACES, namespace("shop", {"sidetail.dev/inject": "enabled"}))
    fake.put(NODES, node("a"))
    fake.put(NODES, node("b", "v1.29.6-gke.1"))
    fake.put(LIMIT_RANGES, limit_range("one", "shop", [{"type": "Container"}]))
    return fake


@pytest.fixture
def stop():
    asked = Stop()
    yield asked
    asked.request()


@pytest.fixture
def facts(api, stop):
    kept = Facts(api, stop)
    kept.start()
    eventually(lambda: kept.is_complete, "the lists")
    eventually(lambda: all(map(api.is_watched, (NAMESPACES, NODES, LIMIT_RANGES))), "the watches")
    yield kept
    stop.request()
    eventually(
        lambda: not any(thread.name.startswith("facts-") for thread in threading.enumerate()),
        "the end of the threads",
    )


def test_what_is_there_is_known_after_the_lists(facts):
    current = facts.current()

    assert current.api_server_minor == 31
    assert current.oldest_kubelet_minor == 29
    assert current.kubelet_minor_by_node == {"a": 31, "b": 29}
    assert current.namespace("shop") == Namespace({"sidetail.dev/inject": "enabled"})
    assert current.limit_ranges == {"shop": ({"type": "Container"},)}


def test_before_the_lists_no_namespace_is_in_memory(api, stop):
    """As against "not watched at all": a pod's admission counts it."""
    current = Facts(api, stop).current()

    assert current.namespaces == {}
    assert current.api_server_minor is None
    assert current.oldest_kubelet_minor is None
    assert not current.has_no_nodes


def test_changes_are_followed(api, facts):
    api.put(NAMESPACES, namespace("new", annotations={"sidetail.dev/stdout": "mirror"}))
    eventually(lambda: facts.current().namespace("new"), "the new namespace")
    api.put(NAMESPACES, namespace("shop", {}))
    eventually(lambda: facts.current().namespace("shop") == Namespace(), "the changed one")
    api.remove(NAMESPACES, "new")
    eventually(lambda: facts.current().namespace("new") is None, "the removed one")

    assert facts.current().namespace("shop") == Namespace()


def test_the_oldest_kubelet_follows_the_nodes(api, facts):
    api.remove(NODES, "b")
    eventually(lambda: facts.current().oldest_kubelet_minor == 31, "the newer nodes")
    api.put(NODES, node("c", "v1.25.0"))
    eventually(lambda: facts.current().oldest_kubelet_minor == 25, "the older node")
    api.put(NODES, node("d", "unknown"))
    api.put(NODES, node("e", "v1.24.1"))
    eventually(lambda: facts.current().oldest_kubelet_minor == 24, "the oldest node")

    assert "d" not in facts.current().kubelet_minor_by_node


def test_a_cluster_without_nodes_is_known_to_have_none(api, facts):
    assert not facts.current().has_no_nodes
    api.remove(NODES, "a")
    api.remove(NODES, "b")
    eventually(lambda: facts.current().has_no_nodes, "none")
    assert facts.current().oldest_kubelet_minor is None
    api.put(NODES, node("c", "unknown"))
    eventually(lambda: not facts.current().has_no_nodes, "one, of whatever version")


def test_a_heartbeat_of_a_node_changes_nothing(api, facts):
    before = facts.current()
    api.put(NODES, node("a"))
    api.put(NAMESPACES, namespace("after"))
    eventually(lambda: facts.current().namespace("after"), "a later event")

    assert facts.current() is before or facts.current().kubelet_minor_by_node == {"a": 31, "b": 29}


def test_limit_ranges_of_a_namespace_are_taken_together(api, facts):
    api.put(LIMIT_RANGES, limit_range("two", "shop", [{"type": "Pod"}, {"type": "Container"}]))
    eventually(lambda: len(facts.current().limit_ranges["shop"]) == 3, "both")
    api.remove(LIMIT_RANGES, "shop/one")
    eventually(lambda: len(facts.current().limit_ranges["shop"]) == 2, "the second")
    api.remove(LIMIT_RANGES, "shop/two")
    eventually(lambda: "shop" not in facts.current().limit_ranges, "none")


@pytest.mark.parametrize("error", [None, unreachable(), refused(500), refused(403)])
def test_after_the_end_of_a_watch_it_goes_on_where_it_was(api, facts, error):
    api.bookmark(NAMESPACES)
    api.put(NAMESPACES, namespace("x"))
    eventually(lambda: facts.current().namespace("x"), "the last event")
    version = api.collections[NAMESPACES]["x"]["metadata"]["resourceVersion"]
    lists = api.calls.count(f"list {NAMESPACES}")
    api.end_watches(NAMESPACES, error)
    eventually(lambda: f"watch {NAMESPACES} {version}" in api.calls, "the next watch")

    assert api.calls.count(f"list {NAMESPACES}") == lists


def test_a_watch_that_ends_at_once_is_not_trusted(api, facts):
    """An API server that cannot encode an event ends the watch instead, without a word."""
    api.collections[NAMESPACES]["never-told"] = namespace("never-told")
    api.end_watches(NAMESPACES)
    eventually(lambda: facts.current().namespace("never-told"), "the second list")


def test_a_watch_that_went_on_for_minutes_is_simply_begun_again(api, stop):
    times = iter([0.0, 300.0])
    collection = Collection(
        api, _NODES, on_change=lambda _: None, stop=stop, clock=lambda: next(times)
    )
    ending = threading.Timer(0.3, lambda: api.end_watches(NODES))
    ending.start()

    assert collection.turn() == 0
    assert api.calls.count(f"list {NODES}") == 1
    ending.join()


def test_what_is_too_old_is_listed_again(api, facts):
    api.collections[NAMESPACES]["while-away"] = namespace("while-away")
    del api.collections[NAMESPACES]["shop"]
    api.end_watches(NAMESPACES, refused(410))
    eventually(lambda: facts.current().namespace("while-away"), "the second list")

    assert facts.current().namespace("shop") is None


def test_while_the_api_server_is_away_what_was_known_stays(api, facts):
    api.failures += [unreachable()] * 3
    api.end_watches(NAMESPACES, unreachable())
    eventually(lambda: not api.failures, "the failures")

    assert facts.current().namespace("shop") is not None


def test_a_start_without_the_api_server_is_made_up_for(api, stop):
    api.failures += [unreachable()] * 8
    facts = Facts(api, stop)
    facts.start()

    assert not facts.is_complete
    eventually(lambda: facts.is_complete, "the lists")
    assert facts.current().namespace("shop") is not None


def test_a_failure_is_said_once_and_so_is_its_end(api, stop, caplog):
    collection = Collection(api, _NODES, on_change=lambda _: None, stop=stop)
    api.failures += [refused(403)] * 5
    waits = [collection.turn() for _ in range(5)]

    assert len([line for line in caplog.records if "cannot be watched" in line.message]) == 1
    assert 0 < waits[0] <= 1
    assert waits[4] >= 8
    assert all(wait <= 30 for wait in waits)


def test_what_may_be_left_out_is_missed_once_and_tried_again_seldom(api, stop, caplog):
    kind = replace(_NODES, is_optional=True)
    collection = Collection(api, kind, on_change=lambda _: None, stop=stop)
    api.failures += [refused(403)] * 3
    waits = [collection.turn() for _ in range(3)]

    assert len([line for line in caplog.records if "does without" in line.message]) == 1
    assert waits == [REFUSED_SECONDS] * 3
    assert not collection.is_complete


def test_what_was_known_goes_with_the_right_to_it_and_comes_back_with_it(api, stop):
    collection = Collection(
        api, replace(_NODES, is_optional=True), on_change=lambda _: None, stop=stop
    )
    collection._list()
    assert set(collection.kept) == {"a", "b"}
    api.failures += [refused(403)]
    collection.turn()
    assert collection.kept == {}
    api.remove(NODES, "b")
    worker = threading.Thread(target=collection.turn)
    worker.start()
    eventually(lambda: set(collection.kept) == {"a"}, "the list")
    stop.request()
    worker.join(20)


def test_of_what_is_not_wanted_nothing_is_kept(api, stop):
    kind = Kind(NAMESPACES, lambda item: item["metadata"]["labels"] and "labelled")
    collection = Collection(api, kind, on_change=lambda _: None, stop=stop)
    api.put(NAMESPACES, namespace("plain"))
    collection._list()
    assert collection.kept == {"shop": "labelled"}
    collection._apply("MODIFIED", namespace("shop"))

    assert collection.kept == {}


def test_nodes_are_asked_for_in_small_pages(api, facts):
    assert _NODES.page <= 50


@pytest.mark.parametrize(
    ("version", "minor"),
    [
        ("v1.29.3", 29),
        ("v1.30.0-rc.1", 30),
        ("1.31+", 31),
        ("v1.28.9-eks-036c24b", 28),
        ("v1.32.1+k3s1", 32),
        ("v2.1.0", None),
        ("v1.x", None),
        ("", None),
        (None, None),
        (1.29, None),
        ("v1.99999", None),
        ("v1.٣", None),
    ],
)
def test_the_minor_version_of_what_vendors_write(version, minor):
    assert parse_minor(version) == minor
