"""The bundle in the webhook configurations: only ours, only caBundle."""

import copy

import pytest

from certs.ca_bundle import CaBundle, ChangedError
from runtime.kube import StatusError
from tests.fakes.kube import FakeCluster, FakeKube, webhook_configuration
from tests.fakes.replicas import MUTATING, VALIDATING


@pytest.fixture
def kube() -> FakeKube:
    cluster = FakeCluster()
    cluster.put(
        MUTATING,
        webhook_configuration(
            "MutatingWebhookConfiguration",
            ["a.sidetail.dev", "somebody.example", "b.sidetail.dev"],
            rules=[{"operations": ["CREATE"]}],
            futureField=[1, {"x": None}],
        ),
    )
    cluster.put(
        VALIDATING, webhook_configuration("ValidatingWebhookConfiguration", ["c.sidetail.dev"])
    )
    return FakeKube(cluster)


@pytest.fixture
def ca_bundle(kube: FakeKube) -> CaBundle:
    return CaBundle(kube, "sidetail")


def test_each_entry_of_ours_gets_the_bundle_and_others_none(
    ca_bundle: CaBundle, kube: FakeKube
) -> None:
    ca_bundle.write(ca_bundle.look()[0], b"PEM")

    entries = kube.cluster.take(MUTATING)["webhooks"]
    assert [entry["clientConfig"].get("caBundle") for entry in entries] == ["UEVN", None, "UEVN"]


def test_every_other_field_is_as_it_was(ca_bundle: CaBundle, kube: FakeKube) -> None:
    before = kube.cluster.take(MUTATING)
    ca_bundle.write(ca_bundle.look()[0], b"PEM")

    after = copy.deepcopy(kube.cluster.take(MUTATING))
    for entry in after["webhooks"]:
        entry["clientConfig"].pop("caBundle", None)
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
    assert after == before


def test_what_was_written_is_seen(ca_bundle: CaBundle) -> None:
    mutating, validating = ca_bundle.look()
    ca_bundle.write(mutating, b"one two")

    again = ca_bundle.look()[0]
    assert again.holds(b"one two")
    assert not again.holds(b"one")
    assert again.knows(b"one")
    assert not validating.knows(b"one")


def test_a_configuration_that_changed_since_it_was_looked_at_is_not_written(
    ca_bundle: CaBundle, kube: FakeKube
) -> None:
    seen = ca_bundle.look()[0]
    turned = kube.cluster.take(MUTATING)
    turned["webhooks"].reverse()
    kube.cluster.put(MUTATING, turned)

    with pytest.raises(ChangedError):
        ca_bundle.write(seen, b"PEM")
    assert all(not entry.bundle for entry in ca_bundle.look()[0].entries)


def test_a_configuration_that_went_away_since_is_looked_for_again(
    ca_bundle: CaBundle, kube: FakeKube
) -> None:
    seen = ca_bundle.look()[0]
    kube.cluster.remove(MUTATING)

    with pytest.raises(ChangedError):
        ca_bundle.write(seen, b"PEM")


@pytest.mark.parametrize("status", [403, 409, 422])
def test_a_refusal_of_an_unchanged_configuration_is_raised_as_one(
    ca_bundle: CaBundle, kube: FakeKube, status: int
) -> None:
    seen = ca_bundle.look()[0]
    kube.trouble = lambda method, _path: status if method == "PATCH" else None

    with pytest.raises(StatusError):
        ca_bundle.write(seen, b"PEM")


def test_one_that_is_missing_and_one_that_cannot_be_read_are_told_apart(
    ca_bundle: CaBundle, kube: FakeKube
) -> None:
    kube.cluster.remove(MUTATING)
    kube.trouble = lambda _method, path: 403 if path == VALIDATING else None
    missing, unreadable = ca_bundle.look()

    assert missing.missing
    assert not unreadable.missing
    assert unreadable.error is not None
    assert not unreadable.knows(b"")
    assert not unreadable.holds(b"")


@pytest.mark.parametrize("value", ["%%%", "AAA", 7, None, ["x"]])
def test_a_bundle_that_cannot_be_decoded_is_one_that_is_not_right(
    ca_bundle: CaBundle, kube: FakeKube, value: object
) -> None:
    stored = kube.cluster.take(VALIDATING)
    stored["webhooks"][0]["clientConfig"]["caBundle"] = value
    kube.cluster.put(VALIDATING, stored)

    assert not ca_bundle.look()[1].holds(b"PEM")


@pytest.mark.parametrize("webhooks", [None, [], "text"])
def test_a_configuration_without_entries_has_nothing_to_be_repaired(
    ca_bundle: CaBundle, kube: FakeKube, webhooks: object
) -> None:
    kube.cluster.put(VALIDATING, {"metadata": {"name": "sidetail"}, "webhooks": webhooks})

    assert ca_bundle.look()[1].holds(b"PEM")
