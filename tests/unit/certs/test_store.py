"""The Secret through the API: first writer wins, and what is not ours stays."""

import base64

import pytest

from certs.store import ConflictError, SecretStore
from runtime.kube import StatusError, UnreachableError
from tests.fakes.kube import FakeCluster, FakeKube

PATH = "/api/v1/namespaces/shop/secrets/pairs"


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube(FakeCluster())


@pytest.fixture
def store(kube: FakeKube) -> SecretStore:
    return SecretStore(kube, namespace="shop", name="pairs")


def test_a_secret_that_is_not_there_is_empty(store: SecretStore) -> None:
    assert store.read().data == {}


def test_what_is_written_is_read(store: SecretStore) -> None:
    store.write(store.read(), {"tls.crt": b"\x00\xff"})

    assert store.read().data == {"tls.crt": b"\x00\xff"}


def test_a_key_that_is_no_longer_wanted_goes(store: SecretStore) -> None:
    store.write(store.read(), {"tls.crt": b"1", "next-ca.crt": b"2"})
    store.write(store.read(), {"tls.crt": b"3"})

    assert store.read().data == {"tls.crt": b"3"}


def test_type_metadata_and_foreign_keys_of_a_secret_made_by_others_stay(
    store: SecretStore, kube: FakeKube
) -> None:
    made = {
        "type": "kubernetes.io/tls",
        "metadata": {"name": "pairs", "labels": {"team": "x"}, "annotations": {"a": "b"}},
        "data": {"tls.crt": "", "tls.key": "", "note": "aGk="},
        "futureField": {"x": 1},
    }
    kube.cluster.put(PATH, made)

    store.write(store.read(), {"tls.crt": b"new"})

    stored = kube.cluster.take(PATH)
    assert stored["type"] == "kubernetes.io/tls"
    assert stored["metadata"]["labels"] == {"team": "x"}
    assert stored["metadata"]["annotations"] == {"a": "b"}
    assert stored["futureField"] == {"x": 1}
    assert stored["data"] == {"tls.crt": base64.b64encode(b"new").decode(), "note": "aGk="}


def test_the_second_of_two_creators_is_told(store: SecretStore) -> None:
    nothing = store.read()
    store.write(nothing, {"tls.crt": b"first"})

    with pytest.raises(ConflictError):
        store.write(nothing, {"tls.crt": b"second"})
    assert store.read().data == {"tls.crt": b"first"}


def test_the_second_of_two_writers_is_told(store: SecretStore) -> None:
    store.write(store.read(), {"tls.crt": b"0"})
    seen = store.read()
    store.write(seen, {"tls.crt": b"first"})

    with pytest.raises(ConflictError):
        store.write(seen, {"tls.crt": b"second"})
    assert store.read().data == {"tls.crt": b"first"}


def test_a_secret_that_was_deleted_meanwhile_is_a_conflict(
    store: SecretStore, kube: FakeKube
) -> None:
    store.write(store.read(), {"tls.crt": b"0"})
    seen = store.read()
    kube.cluster.remove(PATH)

    with pytest.raises(ConflictError):
        store.write(seen, {"tls.crt": b"1"})


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500, 503])
def test_a_refused_creation_is_no_conflict(store: SecretStore, kube: FakeKube, status: int) -> None:
    nothing = store.read()
    kube.trouble = lambda method, _path: status if method == "POST" else None

    with pytest.raises(StatusError) as caught:
        store.write(nothing, {"tls.crt": b"1"})
    assert caught.value.status == status


def test_an_answer_that_never_came_is_raised(store: SecretStore, kube: FakeKube) -> None:
    kube.trouble = lambda _method, _path: 0

    with pytest.raises(UnreachableError):
        store.read()


@pytest.mark.parametrize("data", [None, [], "text", {"a": "%%%"}, {"a": None}, {"a": 7}])
def test_data_of_the_wrong_shape_is_no_data(
    store: SecretStore, kube: FakeKube, data: object
) -> None:
    kube.cluster.put(PATH, {"metadata": {"name": "pairs"}, "data": data})

    assert store.read().data == {}
