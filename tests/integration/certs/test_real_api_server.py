"""The certificates against a real API server, which is also the one who has to believe them."""

import base64
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from certs.issue import Pair
from certs.keep import Keeper, Place, Ways, keep_certificates
from certs.metrics import CertificateMetrics
from certs.rotation import Terms
from runtime.kube import Json, KubeApi, KubeError, StatusError
from runtime.kube_access import Access
from runtime.stop import Stop
from runtime.workers import Worker, repeat
from tests.fakes.replicas import verifies
from tests.kube import ApiServer, api_server, wait_for
from webhook.framing import HttpRequest, HttpResponse
from webhook.listening import open_listening
from webhook.server import Server
from webhook.tls import Certificates

__all__ = ["api_server"]

pytestmark = pytest.mark.kube

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Installed:
    """A namespace with nothing in it, and webhook configurations that point at its Service."""

    server: ApiServer
    place: Place

    @property
    def host(self) -> str:
        return f"{self.place.service}.{self.place.namespace}.svc"

    @property
    def secret_path(self) -> str:
        return f"/api/v1/namespaces/{self.place.namespace}/secrets/{self.place.secret}"

    def paths(self) -> list[str]:
        return [
            f"{ADMISSION}/{kind}webhookconfigurations/{self.place.configurations}"
            for kind in ("mutating", "validating")
        ]

    def secret(self) -> dict[str, bytes]:
        try:
            data = self.server.api.get(self.secret_path).get("data") or {}
        except StatusError:
            return {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def set_secret(self, data: Mapping[str, bytes] | None) -> None:
        """Change the Secret's data as a person would; None takes all of it away."""
        encoded = (
            None
            if data is None
            else {key: base64.b64encode(value).decode() for key, value in data.items()}
        )
        self.server.kubectl(
            "patch", "secret", self.place.secret, "-n", self.place.namespace, "--type=merge",
            "-p", json.dumps({"data": encoded}),
        )  # fmt: skip

    def bundles(self) -> list[bytes]:
        return [
            base64.b64decode(entry["clientConfig"].get("caBundle", ""))
            for path in self.paths()
            for entry in self.server.api.get(path)["webhooks"]
        ]

    def wipe_bundles(self) -> None:
        for path in self.paths():
            count = len(self.server.api.get(path)["webhooks"])
            self.server.api.patch(
                path,
                [
                    {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": ""}
                    for index in range(count)
                ],
            )

    def believes(self, pair: Pair) -> bool:
        when = Ways().clock.now()
        return all(
            verifies(pair, bundle, when, f"{self.place.service}.{self.place.namespace}.svc")
            for bundle in self.bundles()
        )


@pytest.fixture
def installed(api_server: ApiServer) -> Iterator[Installed]:
    name = f"certs-{uuid.uuid4().hex[:8]}"
    place = Place(namespace=name, configurations=name)
    made = Installed(api_server, place)
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(place)))
    try:
        yield made
    finally:
        api_server.kubectl(
            "delete", "mutatingwebhookconfiguration,validatingwebhookconfiguration", name
        )
        api_server.kubectl("delete", "namespace", name, "--wait=false")


def manifest(place: Place) -> Json:
    def configuration(kind: str, names: Sequence[str], **more: str) -> Json:
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": place.configurations},
            "webhooks": [
                {
                    "name": name,
                    "clientConfig": {
                        "service": {
                            "name": place.service, "namespace": place.namespace, "path": "/mutate"
                        }
                    },
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": place.namespace}
                    },
                    "rules": [
                        {
                            "operations": ["CREATE"],
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "resources": ["configmaps"],
                            "scope": "Namespaced",
                        }
                    ],
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "timeoutSeconds": 10,
                    "admissionReviewVersions": ["v1"],
                    **more,
                }
                for name in names
            ],
        }  # fmt: skip

    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": place.service, "namespace": place.namespace},
                "spec": {"ports": [{"port": 443}], "selector": {"app": "webhook"}},
            },
            configuration(
                "MutatingWebhookConfiguration",
                ["one.sidetail.dev", "two.sidetail.dev"],
                reinvocationPolicy="Never",
            ),
            configuration("ValidatingWebhookConfiguration", ["three.sidetail.dev"]),
        ],
    }


class CountingKube(KubeApi):
    """The real door, with a count of the writes that were asked for."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.writes = 0

    def create(self, path: str, body: Json, params: Mapping[str, str] | None = None) -> Json:
        self.writes += 1
        return super().create(path, body, params)

    def replace(self, path: str, body: Json) -> Json:
        self.writes += 1
        return super().replace(path, body)

    def patch(self, path: str, operations: Sequence[Json]) -> Json:
        self.writes += 1
        return super().patch(path, operations)


@dataclass
class Replica:
    """One keeper with a door of its own."""

    kube: CountingKube
    keeper: Keeper
    pairs: list[Pair] = field(default_factory=list)


def replica(installed: Installed, ways: Ways | None = None) -> Replica:
    kube = CountingKube(installed.server.api._access)
    pairs: list[Pair] = []

    def take(certificate: bytes, key: bytes) -> None:
        pairs.append(Pair(certificate, key))

    metrics = CertificateMetrics(CollectorRegistry())
    keeper = Keeper(kube, installed.place, on_pair=take, metrics=metrics, ways=ways)
    return Replica(kube, keeper, pairs)


@pytest.mark.parametrize("count", [2, 5])
def test_replicas_that_start_at_once_agree_on_one_ca(installed: Installed, count: int) -> None:
    for _ in range(3):
        replicas = [replica(installed) for _ in range(count)]
        start = threading.Barrier(count)

        def run(one: Replica, start: threading.Barrier = start) -> None:
            start.wait(30)
            one.keeper.turn()

        threads = [threading.Thread(target=run, args=(one,)) for one in replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert [one.keeper.trouble for one in replicas] == [None] * count
        assert len({one.pairs[-1] for one in replicas}) == 1
        assert installed.believes(replicas[0].pairs[-1])
        assert max(one.kube.writes for one in replicas) <= 3
        installed.wipe_bundles()
        installed.server.kubectl(
            "delete", "secret", installed.place.secret, "-n", installed.place.namespace
        )


@pytest.mark.parametrize("memory", ["remembers", "was restarted"])
def test_a_secret_deleted_emptied_halved_or_filled_with_garbage_heals(
    installed: Installed, memory: str
) -> None:
    one = replica(installed)
    one.keeper.turn()
    whole = installed.secret()

    def delete() -> None:
        installed.server.kubectl(
            "delete", "secret", installed.place.secret, "-n", installed.place.namespace
        )

    harms = [
        delete,
        lambda: installed.set_secret(None),
        lambda: installed.set_secret(dict.fromkeys(whole, b"\x00garbage")),
        lambda: installed.set_secret({key: value[:300] for key, value in whole.items()}),
        lambda: installed.set_secret({"tls.key": b""}),
    ]
    for harm in harms:
        harm()
        healer = one if memory == "remembers" else replica(installed)
        healer.keeper.turn()

        assert healer.keeper.trouble is None
        assert installed.believes(healer.pairs[-1])
        assert installed.secret()["tls.crt"] == healer.pairs[-1].certificate
        one = healer
    if memory == "remembers":
        assert installed.secret()["ca.crt"] == whole["ca.crt"]


def test_a_bundle_that_is_wiped_by_hand_is_repaired_within_thirty_seconds(
    installed: Installed,
) -> None:
    stop, pairs = Stop(), []

    def take(certificate: bytes, key: bytes) -> None:
        pairs.append(Pair(certificate, key))

    def body() -> None:
        metrics = CertificateMetrics(CollectorRegistry())
        api = installed.server.api
        keep_certificates(api, installed.place, on_pair=take, metrics=metrics, stop=stop)

    worker = Worker("certificates", body).start()
    try:
        wait_for(lambda: bool(pairs) and installed.believes(pairs[-1]))
        before = [installed.server.api.get(path) for path in installed.paths()]
        installed.wipe_bundles()
        wiped_at = time.monotonic()
        wait_for(lambda: installed.believes(pairs[-1]), 60)

        assert time.monotonic() - wiped_at <= 30
        after = [installed.server.api.get(path) for path in installed.paths()]
        assert [one["webhooks"] for one in after] == [one["webhooks"] for one in before]
    finally:
        stop.request()
        assert worker.join(30)
    assert worker.error is None


def test_applying_the_manifest_again_leaves_the_bundle_alone(installed: Installed) -> None:
    one = replica(installed)
    one.keeper.turn()
    installed.server.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(installed.place)))

    assert installed.believes(one.pairs[-1])


FAST = Terms(
    ca_life=timedelta(seconds=18), leaf_life=timedelta(seconds=5), announced=timedelta(seconds=2)
)


@dataclass
class Serving:
    """A replica: certificates that are kept, and the webhook's own server that serves them."""

    certificates: Certificates
    server: Server
    port: int


@contextmanager
def serving(installed: Installed, terms: Terms) -> Iterator[Serving]:
    """Run one replica as the webhook does, with certificates that live as `terms` say."""
    stop, certificates = Stop(), Certificates()
    server = Server()
    listening = open_listening("127.0.0.1", 0)
    server.serve(listening, admit_everything, certificates=certificates)

    keeper = Keeper(
        installed.server.api,
        installed.place,
        on_pair=certificates.offer,
        metrics=CertificateMetrics(CollectorRegistry()),
        ways=Ways(terms=terms, poll_seconds=0.5),
    )
    workers = [
        Worker("certificates", lambda: repeat(keeper.turn, stop)).start(),
        Worker("server", lambda: server.run(stop)).start(),
    ]
    try:
        wait_for(lambda: certificates.context is not None)
        yield Serving(certificates, server, listening.getsockname()[1])
    finally:
        stop.request()
        stop.request()
        assert all(worker.join(60) for worker in workers)
    assert all(worker.error is None for worker in workers)


def admit_everything(request: HttpRequest) -> HttpResponse:
    """Answer an AdmissionReview, on a connection that is not used again."""
    uid = json.loads(request.body)["request"]["uid"]
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": True},
    }
    headers = (("Content-Type", "application/json"), ("Connection", "close"))
    return HttpResponse(200, json.dumps(review).encode(), headers)


@pytest.mark.parametrize(
    "rotations", [2, pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_rotation_every_few_seconds_under_load_fails_no_call(
    installed: Installed, rotations: int
) -> None:
    with serving(installed, FAST) as one, serving(installed, FAST) as other:
        installed.server.route(f"{installed.host}:443", [one.port, other.port])
        wait_for(lambda: all(installed.bundles()))
        wait_for(lambda: create(installed) is None)  # the API server has seen the bundle
        failures: list[str] = []
        leaves: set[bytes] = set()
        cas: set[bytes] = set()
        calls = 0
        while len(cas) <= rotations:
            failures += [failure for failure in [create(installed)] if failure is not None]
            calls += 1
            secret = installed.secret()
            leaves.add(secret["tls.crt"])
            cas.add(secret["ca.crt"])
            time.sleep(0.05)
        accepted = [serving.server.counts["accepted"] for serving in (one, other)]

    assert failures == []
    assert calls > 30 * rotations
    assert len(leaves) > 2 * rotations
    assert min(accepted) > calls  # three webhooks, two replicas, each call a new connection


def create(installed: Installed) -> str | None:
    """Create an object that three webhooks have to admit; return why it failed, None if not."""
    name = f"x-{uuid.uuid4().hex}"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    try:
        installed.server.api.create(
            f"/api/v1/namespaces/{installed.place.namespace}/configmaps", body, {"dryRun": "All"}
        )
    except KubeError as error:
        return str(error)
    return None
