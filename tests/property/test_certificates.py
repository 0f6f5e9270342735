"""Whatever happens to the Secret, the bundles and the replicas: afterwards it heals by itself."""

import base64
from datetime import timedelta

from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from certs.issue import service_names
from certs.keyring import KEYS, read_keyring
from certs.rotation import Terms
from tests.fakes.replicas import MUTATING, PLACE, SECRET, VALIDATING, Replica, World

PATHS = st.sampled_from([SECRET, MUTATING, VALIDATING])


class Weather(RuleBasedStateMachine):
    """Replicas come, go, and meet a cluster that people and accidents change."""

    replicas = Bundle("replicas")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Terms(ca_life=timedelta(days=60)))
        self.running: list[Replica] = []
        self.backups: list[dict[str, bytes]] = []

    @initialize(target=replicas)
    def first(self) -> Replica:
        return self.begin(timedelta(0))

    @rule(
        target=replicas, ahead=st.sampled_from([-55, 0, 0, 55]).map(lambda m: timedelta(minutes=m))
    )
    def start(self, ahead: timedelta) -> Replica:
        return self.begin(ahead)

    def begin(self, ahead: timedelta) -> Replica:
        replica = self.world.replica(ahead=ahead)
        self.running.append(replica)
        return replica

    @rule(replica=consumes(replicas))
    def kill(self, replica: Replica) -> None:
        self.running.remove(replica)

    @rule(replica=replicas)
    def turn(self, replica: Replica) -> None:
        assert 0 < replica.keeper.turn() < 60

    @rule(one=replicas, other=replicas, call=st.integers(0, 8))
    def turn_in_the_middle_of_another(self, one: Replica, other: Replica, call: int) -> None:
        calls = iter(range(10**6))

        def between() -> None:
            if next(calls) == call and one is not other:
                other.keeper.turn()

        one.kube.between = between
        one.keeper.turn()
        one.kube.between = lambda: None

    @rule(seconds=st.integers(1, 300) | st.integers(3600, 40 * 86_400))
    def wait(self, seconds: int) -> None:
        self.world.clock.move(timedelta(seconds=seconds))

    @rule(replica=replicas, path=PATHS, status=st.sampled_from([0, 401, 403, 500]))
    def refuse(self, replica: Replica, path: str, status: int) -> None:
        replica.kube.trouble = lambda _method, asked: status if path.startswith(asked) else None

    @rule(replica=replicas, status=st.sampled_from([0, 403, 422]))
    def refuse_writes(self, replica: Replica, status: int) -> None:
        replica.kube.trouble = lambda method, _path: status if method != "GET" else None

    @rule(replica=replicas)
    def let_work(self, replica: Replica) -> None:
        replica.kube.trouble = lambda _method, _path: None

    @rule()
    def delete_the_secret(self) -> None:
        if SECRET in self.world.cluster.objects:
            self.world.cluster.remove(SECRET)

    @rule(key=st.sampled_from(KEYS), other=st.sampled_from([*KEYS, ""]), cut=st.integers(0, 400))
    def damage_the_secret(self, key: str, other: str, cut: int) -> None:
        """Put a part of another key's value, or nothing, in the place of one."""
        if SECRET in self.world.cluster.objects:
            held = self.world.secret()
            self.put({**held, key: held.get(other, b"")[:cut] if cut else held.get(other, b"")})

    @rule()
    def take_a_backup(self) -> None:
        if SECRET in self.world.cluster.objects:
            self.backups.append(self.world.secret())

    @rule(which=st.integers(0, 5))
    def bring_a_backup_back(self, which: int) -> None:
        if which < len(self.backups) and SECRET in self.world.cluster.objects:
            self.put(self.backups[which])

    def put(self, data: dict[str, bytes]) -> None:
        stored = self.world.cluster.take(SECRET)
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.world.cluster.put(SECRET, {**stored, "data": encoded})

    @rule()
    def wipe_the_bundles(self) -> None:
        self.world.wipe_bundles()

    @invariant()
    def bundles_hold_cas_only(self) -> None:
        for bundle in self.world.bundles():
            for one in x509.load_pem_x509_certificates(bundle) if bundle else []:
                constraints = one.extensions.get_extension_for_class(x509.BasicConstraints)
                assert constraints.value.ca

    def teardown(self) -> None:
        """When the weather is over, all replicas serve one leaf that the API server believes."""
        world = self.world
        for replica in self.running:
            replica.kube.trouble = lambda _method, _path: None
        self.running.append(world.replica())
        for _ in range(30):  # budgets of repairs last ten minutes, a new CA waits two
            world.clock.move(timedelta(minutes=1))
            for replica in self.running:
                replica.keeper.turn()

        assert [replica.keeper.trouble for replica in self.running] == [None] * len(self.running)
        assert len({replica.pairs[-1] for replica in self.running}) == 1
        assert world.believes(self.running[0].pairs[-1])
        secret = read_keyring(world.secret(), service_names(PLACE.service, PLACE.namespace))
        assert secret.leaf is not None
        assert secret.leaf.pair == self.running[0].pairs[-1]
        assert set(world.bundles()) == {secret.bundle}


TestWeather = Weather.TestCase
TestWeather.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    database=None,  # a checkout may be read-only
    suppress_health_check=list(HealthCheck),
)
