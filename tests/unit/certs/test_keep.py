"""A replica's turns: what it heals, repairs, adopts and leaves alone."""

import base64
import threading
from datetime import timedelta

import pytest

from certs.issue import issue_ca, issue_leaf, service_names
from certs.rotation import Terms
from tests.fakes.kube import FakeKube, webhook_configuration
from tests.fakes.replicas import (
    MUTATING,
    PLACE,
    SECRET,
    START,
    VALIDATING,
    Replica,
    SeededRandomness,
    World,
)

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def running(world: World) -> Replica:
    replica = world.replica()
    replica.keeper.turn()
    return replica


def serves(world: World, replica: Replica) -> bool:
    """Return whether the API server believes what this replica serves."""
    return bool(replica.pairs) and world.believes(replica.pairs[-1])


def in_order(world: World, replica: Replica) -> bool:
    """Return whether a fresh replica finds nothing to do, and serves what this one does."""
    fresh = world.replica()
    fresh.keeper.turn()
    return (
        serves(world, replica) and fresh.pairs[-1:] == replica.pairs[-1:] and not fresh.kube.writes
    )


def test_the_first_replica_writes_three_times_and_serves(world: World) -> None:
    replica = world.replica()
    replica.keeper.turn()

    assert [method for method, _ in replica.kube.writes] == ["POST", "PATCH", "PATCH"]
    assert in_order(world, replica)


def test_a_second_replica_adopts_and_writes_nothing(world: World, running: Replica) -> None:
    second = world.replica()
    second.keeper.turn()

    assert second.kube.writes == []
    assert second.pairs == running.pairs


def test_a_turn_in_which_nothing_is_due_writes_nothing(world: World, running: Replica) -> None:
    written = list(running.kube.writes)
    for _ in range(5):
        world.clock.move(10 * SECOND)
        running.keeper.turn()

    assert running.kube.writes == written
    assert len(running.pairs) == 1


def test_the_next_turn_comes_after_about_ten_seconds(running: Replica) -> None:
    assert 9 <= running.keeper.turn() <= 11


def test_a_ca_bundle_that_was_wiped_is_repaired_at_the_next_turn(
    world: World, running: Replica
) -> None:
    running.keeper.turn()
    world.wipe_bundles()
    world.clock.move(11 * SECOND)
    running.keeper.turn()

    assert serves(world, running)
    assert running.metric("sidetail_ca_bundle_repairs_total") == 2


def test_a_ca_bundle_with_a_foreign_ca_beside_ours_is_repaired(
    world: World, running: Replica
) -> None:
    stored = world.cluster.take(MUTATING)
    foreign = issue_ca(now=START, random=SeededRandomness(5)).certificate
    ours = base64.b64decode(stored["webhooks"][0]["clientConfig"]["caBundle"])
    stored["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(foreign + ours).decode()
    world.cluster.put(MUTATING, stored)
    running.keeper.turn()

    assert all(foreign not in bundle for bundle in world.bundles())


def test_a_configuration_that_is_applied_afresh_is_filled_in(
    world: World, running: Replica
) -> None:
    world.cluster.remove(MUTATING)
    running.keeper.turn()
    world.cluster.put(
        MUTATING, webhook_configuration("MutatingWebhookConfiguration", ["z.sidetail.dev"])
    )
    running.keeper.turn()

    assert serves(world, running)
    assert running.keeper.trouble is None


def test_a_repair_changes_nothing_but_the_bundle(world: World, running: Replica) -> None:
    before = world.cluster.take(MUTATING)
    world.wipe_bundles()
    running.keeper.turn()

    after = world.cluster.take(MUTATING)
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
    assert after == before


def test_whoever_fights_over_the_bundle_is_fought_five_times_in_ten_minutes(
    world: World, running: Replica
) -> None:
    def fight(turns: int) -> int:
        before = len(running.kube.writes)
        for _ in range(turns):
            stored = world.cluster.take(VALIDATING)
            stored["webhooks"][0]["clientConfig"]["caBundle"] = ""
            world.cluster.put(VALIDATING, stored)
            running.keeper.turn()
        return len(running.kube.writes) - before

    running.keeper.turn()
    assert fight(40) == 5
    assert running.keeper.trouble == "somebody keeps changing the CA bundle; waiting"
    assert running.metric("sidetail_ca_bundle_in_sync") == 0

    world.clock.move(timedelta(minutes=10))
    running.keeper.turn()
    assert serves(world, running)
    assert running.keeper.trouble is None


@pytest.mark.parametrize(
    "harm",
    [
        {"tls_crt": None, "tls_key": None, "ca_crt": None, "ca_key": None},
        {"tls_crt": b"", "tls_key": b"", "ca_crt": b"", "ca_key": b""},
        {"tls_crt": b"garbage", "tls_key": b"garbage", "ca_crt": b"garbage", "ca_key": b"garbage"},
        {"ca_key": None},
        {"ca_crt": b"\x00"},
        {"tls_key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
        {"tls_crt": None},
    ],
    ids=["emptied", "empty", "garbage", "no-ca-key", "no-ca", "no-key", "no-leaf"],
)
@pytest.mark.parametrize("memory", ["remembers", "was restarted"])
def test_a_damaged_secret_heals_by_itself(
    world: World, running: Replica, harm: dict[str, bytes | None], memory: str
) -> None:
    world.set_secret(**harm)
    healer = running if memory == "remembers" else world.replica()
    healer.keeper.turn()
    for _ in range(20):  # a CA whose key is lost is followed by another after two minutes
        world.clock.move(10 * SECOND)
        healer.keeper.turn()

        assert serves(world, healer)
    assert in_order(world, healer)


def test_a_deleted_secret_is_restored_from_memory_and_no_connection_notices(
    world: World, running: Replica
) -> None:
    before = world.secret()
    world.cluster.remove(SECRET)
    running.keeper.turn()

    assert world.secret() == before
    assert len(running.pairs) == 1


def test_the_loss_of_the_cas_key_alone_costs_nobody_a_failed_call(
    world: World, running: Replica
) -> None:
    world.set_secret(ca_key=None)
    fresh = world.replica()
    for _ in range(30):
        seen_a_minute_ago = world.bundles()
        world.clock.move(10 * SECOND)
        fresh.keeper.turn()

        assert all(world.believes(fresh.pairs[-1], bundle) for bundle in seen_a_minute_ago)
    assert len(fresh.pairs) == 2
    assert in_order(world, fresh)


def test_an_expired_leaf_and_an_expired_ca_heal_at_the_first_turn(world: World) -> None:
    world.replica().keeper.turn()
    for gone in (timedelta(days=30), timedelta(days=4000)):
        world.clock.move(gone)
        late = world.replica()
        late.keeper.turn()

        assert in_order(world, late)


def test_a_secret_that_was_made_for_another_service_heals_at_the_first_turn(world: World) -> None:
    random = SeededRandomness(3)
    ca = issue_ca(now=START, random=random)
    leaf = issue_leaf(ca, service_names("other", "elsewhere"), now=START, random=random)
    encoded = {
        "ca.crt": ca.certificate,
        "ca.key": ca.key,
        "tls.crt": leaf.certificate,
        "tls.key": leaf.key,
    }
    world.cluster.put(
        SECRET,
        {
            "metadata": {"name": PLACE.secret},
            "data": {key: base64.b64encode(value).decode() for key, value in encoded.items()},
        },
    )
    replica = world.replica()
    replica.keeper.turn()

    assert in_order(world, replica)
    assert world.secret()["ca.crt"] == ca.certificate


def test_whoever_wipes_the_secret_for_ever_is_fought_five_times_in_ten_minutes(
    world: World, running: Replica
) -> None:
    world.clock.move(timedelta(minutes=11))  # the start itself counts as well
    written = len(running.kube.writes)
    for _ in range(40):
        world.set_secret(tls_crt=None, tls_key=None, ca_crt=None, ca_key=None)
        running.keeper.turn()

    assert len(running.kube.writes) - written == 5
    assert serves(world, running)
    assert running.keeper.trouble is not None


@pytest.mark.parametrize("status", [0, 401, 403, 500, 503])
def test_an_api_server_that_is_away_for_an_hour_changes_nothing_that_is_served(
    world: World, running: Replica, status: int
) -> None:
    running.kube.trouble = lambda _method, _path: status
    waits = []
    for _ in range(360):
        world.clock.move(10 * SECOND)
        waits.append(running.keeper.turn())

    assert len(running.pairs) == 1
    assert running.keeper.trouble is not None
    assert max(waits) <= 30
    assert waits[0] < 2


def test_a_trouble_is_said_once_a_minute_and_its_end_once(
    world: World, running: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "certs")
    running.kube.trouble = lambda _method, _path: 503
    for _ in range(12):
        world.clock.move(10 * SECOND)
        running.keeper.turn()
    running.kube.trouble = lambda _method, _path: None
    running.keeper.turn()
    running.keeper.turn()

    said = [record.getMessage() for record in caplog.records]
    assert said.count("the Secret cannot be read or written") == 2
    assert said.count("the certificates are in order again") == 1


def test_no_log_line_and_no_trouble_holds_a_key(
    world: World, running: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for harm in ({"ca_key": None}, {"tls_key": b"garbage"}, {"ca_crt": b"", "tls_crt": b""}):
        world.set_secret(**harm)
        running.keeper.turn()

    text = caplog.text + str([vars(record) for record in caplog.records])
    assert "PRIVATE" not in text
    assert all(pair.key.decode()[40:80] not in text for pair in running.pairs)


def test_an_api_server_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    replica = world.replica()
    replica.kube.trouble = lambda _method, _path: 0
    replica.keeper.turn()
    assert replica.pairs == []

    replica.kube.trouble = lambda _method, _path: None
    replica.keeper.turn()
    assert in_order(world, replica)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_secret_that_is_out_of_reach_for_weeks_ends_no_service(
    world: World, running: Replica, method: str
) -> None:
    running.kube.trouble = lambda asked, path: 403 if asked == method and path == SECRET else None
    for _ in range(24 * 30):
        world.clock.move(timedelta(hours=1))
        running.keeper.turn()

        assert serves(world, running)
    assert len(running.pairs) < 10
    assert running.metric("sidetail_cert_not_after") == pytest.approx(
        (world.clock.now() + 7 * DAY).timestamp(), abs=7 * 86_400
    )

    running.kube.trouble = lambda _method, _path: None
    running.keeper.turn()
    assert in_order(world, running)


def test_a_bundle_that_cannot_be_written_holds_up_no_renewal_of_the_leaf(
    world: World, running: Replica
) -> None:
    world.wipe_bundles()
    running.kube.trouble = lambda method, _path: 403 if method == "PATCH" else None
    world.clock.move(6 * DAY)
    running.keeper.turn()

    assert len(running.pairs) == 2
    assert running.metric("sidetail_ca_bundle_in_sync") == 0
    assert running.metric("sidetail_certificate_rotation_failures_total", what="bundle") == 2


def test_no_ca_signs_that_some_api_server_may_not_have_seen(world: World) -> None:
    world.terms = Terms(ca_life=timedelta(days=30))
    replica = world.replica()
    replica.keeper.turn()
    replica.kube.trouble = lambda method, path: (
        403 if method == "PATCH" and path == VALIDATING else None
    )
    ca = world.secret()["ca.crt"]
    for _ in range(26 * 24):
        world.clock.move(timedelta(hours=1))
        replica.keeper.turn()
        assert world.secret()["ca.crt"] == ca
    assert "next-ca.crt" in world.secret()

    replica.kube.trouble = lambda _method, _path: None
    for _ in range(14):
        world.clock.move(10 * SECOND)
        replica.keeper.turn()
        assert serves(world, replica)
    assert world.secret()["ca.crt"] != ca


def test_two_minutes_begin_again_when_the_coming_ca_was_out_of_the_bundle(world: World) -> None:
    replica = rotating(world)
    replica.keeper.turn()
    ca = world.secret()["ca.crt"]
    world.clock.move(100 * SECOND)
    replica.keeper.turn()
    stored = world.cluster.take(MUTATING)
    stored["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(ca).decode()
    world.cluster.put(MUTATING, stored)
    replica.keeper.turn()

    world.clock.move(100 * SECOND)
    replica.keeper.turn()
    assert world.secret()["ca.crt"] == ca

    world.clock.move(20 * SECOND)
    replica.keeper.turn()
    assert world.secret()["ca.crt"] != ca


def test_two_minutes_begin_again_when_the_api_server_was_away(world: World) -> None:
    replica = rotating(world)
    ca = world.secret()["ca.crt"]
    world.clock.move(100 * SECOND)
    replica.kube.trouble = lambda _method, _path: 0
    replica.keeper.turn()
    replica.kube.trouble = lambda _method, _path: None

    world.clock.move(30 * SECOND)
    replica.keeper.turn()
    assert world.secret()["ca.crt"] == ca


def rotating(world: World) -> Replica:
    """Return a replica in whose world a new CA has just been announced."""
    world.replica().keeper.turn()
    replica = world.replica()
    world.clock.move(timedelta(days=2500))
    replica.keeper.turn()
    world.clock.move(timedelta(days=200))
    replica.keeper.turn()
    assert "next-ca.crt" in world.secret()
    return replica


def test_only_what_changed_is_handed_over(world: World, running: Replica) -> None:
    for _ in range(100):
        world.clock.move(timedelta(hours=6))
        running.keeper.turn()

    assert len(running.pairs) == len({pair.certificate for pair in running.pairs})
    assert len(running.pairs) in range(5, 8)


def test_a_pair_that_the_server_refuses_is_offered_again(world: World) -> None:
    replica = world.replica()
    world.refuses = "the disk is full"
    replica.keeper.turn()
    assert replica.keeper.trouble == "the serving certificate cannot be used: the disk is full"
    assert replica.metric("sidetail_cert_not_after") == 0

    world.refuses = None
    replica.keeper.turn()
    assert in_order(world, replica)


def test_the_metrics_say_when_things_end(world: World, running: Replica) -> None:
    assert running.metric("sidetail_cert_not_after") == (START + 7 * DAY).timestamp()
    assert running.metric("sidetail_ca_not_after") == (START + 3652 * DAY).timestamp()
    assert running.metric("sidetail_ca_bundle_in_sync") == 1


def test_a_replica_with_nothing_yet_shows_zeros_that_an_alarm_can_see(world: World) -> None:
    replica = world.replica()

    for name in ("cert_not_after", "ca_not_after", "ca_bundle_in_sync"):
        assert replica.metric(f"sidetail_{name}") == 0


@pytest.mark.parametrize("ahead", [timedelta(minutes=55), -timedelta(minutes=55)], ids=str)
def test_an_api_server_whose_clock_is_55_minutes_off_believes_every_leaf(
    world: World, ahead: timedelta
) -> None:
    replica = world.replica(ahead=ahead)
    for _ in range(40):
        replica.keeper.turn()

        assert serves(world, replica)
        world.clock.move(timedelta(hours=12))


def test_replicas_whose_clocks_differ_by_hours_agree_on_one_leaf(world: World) -> None:
    fast, slow = world.replica(ahead=timedelta(hours=3)), world.replica()
    for _ in range(10):
        fast.keeper.turn()
        slow.keeper.turn()
        world.clock.move(10 * SECOND)

    assert fast.pairs[-1] == slow.pairs[-1]
    assert serves(world, slow)
    assert len(fast.kube.writes) + len(slow.kube.writes) <= 12


def test_replicas_whose_clocks_differ_by_years_do_not_write_for_ever(world: World) -> None:
    lost, right = world.replica(ahead=timedelta(days=9000)), world.replica()
    for _ in range(60):
        right.keeper.turn()
        lost.keeper.turn()
        world.clock.move(10 * SECOND)

    assert len(right.kube.writes) < 30
    assert len(lost.kube.writes) < 30


@pytest.mark.parametrize("call", range(12))
def test_two_replicas_that_start_at_once_agree_whoever_is_late(world: World, call: int) -> None:
    one, other = world.replica(), world.replica()
    run_in_between(one.kube, call, other)
    one.keeper.turn()
    other.keeper.turn()

    assert one.pairs == other.pairs
    assert serves(world, one)
    assert len(one.pairs) == 1
    assert len(one.kube.writes) <= 3
    assert len(other.kube.writes) <= 3


def run_in_between(kube: FakeKube, call: int, other: Replica) -> None:
    """Give `other` a whole turn just before the call of that number."""
    calls = iter(range(10**9))

    def between() -> None:
        if next(calls) == call:
            other.keeper.turn()

    kube.between = between


@pytest.mark.parametrize("times", [30, pytest.param(1000, marks=pytest.mark.soak)])
def test_five_replicas_that_start_at_once_agree_on_one_ca_every_time(times: int) -> None:
    for _ in range(times):
        world = World()
        replicas = [world.replica() for _ in range(5)]
        start = threading.Barrier(len(replicas))

        def run(replica: Replica, start: threading.Barrier = start) -> None:
            start.wait(30)
            replica.keeper.turn()

        threads = [threading.Thread(target=run, args=(replica,)) for replica in replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert len({replica.pairs[-1] for replica in replicas}) == 1
        assert all(serves(world, replica) for replica in replicas)
        assert all(len(replica.kube.writes) <= 3 for replica in replicas)
        assert all(replica.keeper.trouble is None for replica in replicas)


def test_a_slow_replica_never_takes_back_what_another_added_to_the_bundle(world: World) -> None:
    fast = rotating(world)
    slow = world.replica()
    slow.keeper.turn()
    seen: list[list[bytes]] = []
    for call in range(3):
        run_in_between(slow.kube, call, fast)
        for _ in range(3):
            world.clock.move(60 * SECOND)
            slow.keeper.turn()
            seen.append(world.bundles())

    assert all(
        world.believes(fast.pairs[-1], bundle) for bundles in seen[-3:] for bundle in bundles
    )


class Killed(BaseException):
    """The process dies here."""


def live_through_a_rotation(world: World, replica: Replica) -> None:
    """Announce, promote, retire; an API server that lags a minute believes each leaf."""
    for minutes in [1] * 6 + [60 * 24] * 12:
        a_minute_ago = world.bundles()
        world.clock.move(timedelta(minutes=minutes))
        replica.keeper.turn()

        assert all(world.believes(replica.pairs[-1], bundle) for bundle in set(a_minute_ago))


def world_before_a_rotation() -> World:
    world = World()
    world.replica().keeper.turn()
    world.clock.move(timedelta(days=2677))
    world.replica().keeper.turn()
    return world


def calls_of_a_rotation() -> int:
    world = world_before_a_rotation()
    replica = world.replica()
    calls: list[None] = []
    replica.kube.between = lambda: calls.append(None)
    live_through_a_rotation(world, replica)
    return len(calls)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("eighth", range(8))
def test_a_replica_killed_at_any_call_of_a_rotation_leaves_a_state_to_go_on_from(
    eighth: int, moment: str
) -> None:
    calls = range(eighth, calls_of_a_rotation() - 3, 8)
    assert len(calls) > 5
    for call in calls:
        world = world_before_a_rotation()
        doomed, ca = world.replica(), world.secret()["ca.crt"]
        kill_at(doomed.kube, call, moment)
        with pytest.raises(Killed):
            live_through_a_rotation(world, doomed)

        heir = world.replica()
        heir.keeper.turn()
        live_through_a_rotation(world, heir)

        assert world.secret()["ca.crt"] != ca
        assert "next-ca.crt" not in world.secret()
        assert set(world.bundles()) == {world.secret()["ca.crt"]}


def kill_at(kube: FakeKube, call: int, moment: str) -> None:
    """Let the process die just before the call of that number, or when it has had its effect."""
    calls = iter(range(10**9))

    def die() -> None:
        if next(calls) == call:
            raise Killed

    if moment == "before":
        kube.between = die
    else:
        kube.done = die


def test_ten_years_pass_without_a_leaf_that_an_api_server_would_not_believe() -> None:
    """From day 0 to year 10 and a half; API servers see a bundle a turn late."""
    world = World()
    replica = world.replica()
    replica.keeper.turn()
    cas, bundles = set(), set(world.bundles())
    while world.clock.now() < START + timedelta(days=3835):
        world.clock.move(timedelta(hours=40))
        replica.keeper.turn()

        assert all(world.believes(replica.pairs[-1], bundle) for bundle in bundles)
        bundles = set(world.bundles())
        cas.add(world.secret()["ca.crt"])

    assert len(cas) == 2
    assert len(replica.pairs) > 600
    assert bundles == {world.secret()["ca.crt"]}
    assert replica.keeper.trouble is None


def test_a_handed_over_pair_is_the_secret_s_own(world: World, running: Replica) -> None:
    secret = world.secret()

    assert running.pairs[-1].certificate == secret["tls.crt"]
    assert running.pairs[-1].key == secret["tls.key"]
