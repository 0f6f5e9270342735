"""Forward over real sockets: acknowledgements, lost ones, the handshake, TLS."""

from pathlib import Path

import pytest

from sidecar.backends.answers import Answer, Backend, Delivered, Hold, Partly, Retry
from tests.batches import READ_AT, batch, facts, open_backend
from tests.fakes.forward import Chunk, ForwardServer, Reply
from tests.integration.backends.conftest import Trust
from tests.integration.backends.scene import Scene


def _attempt(backend: Backend, *texts: bytes, seconds: float = 20, times: int = 1) -> list[Answer]:
    sender = backend.sender()
    made = batch(backend, *((text, facts()) for text in texts))
    answers = [sender.attempt(made, seconds=seconds) for _ in range(times)]
    sender.close()
    return answers


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_chunk_is_delivered_when_the_server_says_so(compression: str):
    with ForwardServer() as server:
        backend = open_backend("forward", server.url, compression=compression, tag="app.logs")

        answers = _attempt(backend, b"a\nb\n", b"c\n", times=2)

    assert answers == [Delivered()] * 2
    assert server.violations == []
    assert server.server.connections == 1
    first, second = server.chunks
    assert first.tag == "app.logs"
    assert first.compressed == (compression == "gzip")
    assert [record["message"] for _, _, record in first.entries] == ["a", "b", "c"]
    assert [seconds * 10**9 + rest for seconds, rest, _ in first.entries] == [READ_AT] * 3
    assert first.id == second.id, "the same batch is the same chunk"


def test_each_tag_is_a_chunk_of_its_own():
    one, other = facts(), facts(file="b", attributes={"k8s.namespace.name": "other"})
    with ForwardServer() as server:
        backend = open_backend("forward", server.url, tag="k.{k8s.namespace.name}.{no.such}")
        sender = backend.sender()

        answer = sender.attempt(batch(backend, (b"a\n", one), (b"b\n", other)), seconds=20)
        sender.close()

    assert answer == Delivered()
    assert [(chunk.tag, len(chunk.entries)) for chunk in server.chunks] == [
        ("k.shop._", 1),
        ("k.other._", 1),
    ]


def test_what_was_acknowledged_before_the_connection_broke_is_not_sent_again():
    def reply(chunk: Chunk) -> Reply:
        return "reset" if chunk.tag == "other" else "ack"

    one, other = facts(), facts(file="b", attributes={"k8s.namespace.name": "other"})
    with ForwardServer(reply=reply) as server:
        backend = open_backend("forward", server.url, tag="{k8s.namespace.name}")
        sender = backend.sender()

        answer = sender.attempt(batch(backend, (b"a\n", one), (b"b\n", other)), seconds=20)
        sender.close()

    assert answer == Partly(retry=(1,), rejected=())


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("wrong-ack", "protocol"),
        ("garbage", "protocol"),
        ("flood", "protocol"),
        ("nothing", "timeout"),
        ("reset", "connection"),
        ("hang-up", "connection"),
    ],
)
def test_without_its_acknowledgement_a_chunk_is_sent_again(reply: Reply, reason: str):
    replies = iter([reply])
    with ForwardServer(reply=lambda _: next(replies, "ack")) as server:
        backend = open_backend("forward", server.url)

        answers = _attempt(backend, b"a\n", seconds=1.5, times=2)

    assert answers == [Retry(reason), Delivered()]
    assert server.server.connections == 2
    assert [chunk.id for chunk in server.offered] == [server.chunks[0].id] * 2


def test_nobody_listening_is_a_retry():
    with ForwardServer() as server:
        server.server.down()
        backend = open_backend("forward", server.url)

        assert _attempt(backend, b"a\n") == [Retry("connection")]


@pytest.mark.parametrize("binary_nonce", [False, True], ids=["str", "bin"])
@pytest.mark.parametrize("users", [{}, {"ada": "pw"}], ids=["key", "key-and-user"])
def test_the_handshake_is_made_once_for_a_connection(
    tmp_path: Path, users: dict[str, str], binary_nonce: bool
):
    for name, text in {"token": "shared", "username": "ada", "password": "pw"}.items():
        (tmp_path / name).write_text(text + "\n")
    with ForwardServer(shared_key="shared", users=users, binary_nonce=binary_nonce) as server:
        backend = open_backend("forward", server.url, credentials_dir=str(tmp_path))

        answers = _attempt(backend, b"a\n", times=3)

    assert answers == [Delivered()] * 3
    assert (server.server.connections, server.refused, server.violations) == (1, 0, [])


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({"token": "wrong"}, {}, Hold("credentials_refused")),
        (
            {"token": "shared", "username": "ada"},
            {"users": {"ada": "pw"}},
            Hold("credentials_refused"),
        ),
        ({"token": "shared"}, {"lie_about_key": True}, Hold("server_does_not_know_the_key")),
        ({"password": "only"}, {}, Hold("server_wants_a_shared_key")),
    ],
    ids=["wrong-key", "wrong-password", "server-without-key", "no-key"],
)
def test_no_line_goes_to_a_server_that_does_not_share_the_key(
    tmp_path: Path, files: dict[str, str], options: dict[str, object], expected: Answer
):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with ForwardServer(shared_key="shared", **options) as server:  # type: ignore[arg-type] # a test's shorthand
        backend = open_backend("forward", server.url, credentials_dir=str(tmp_path))

        assert _attempt(backend, b"a secret line\n") == [expected]

    assert server.offered == []
    if "token" in files:
        assert server.bytes_after_refusal == 0


def test_a_key_that_was_mended_is_used_without_a_restart(tmp_path: Path):
    (tmp_path / "token").write_text("wrong")
    with ForwardServer(shared_key="shared") as server:
        backend = open_backend("forward", server.url, credentials_dir=str(tmp_path))
        sender = backend.sender()
        made = batch(backend, (b"a\n", facts()))
        assert sender.attempt(made, seconds=20) == Hold("credentials_refused")
        (tmp_path / "token").write_text("shared")

        assert sender.attempt(made, seconds=20) == Delivered()
        sender.close()


def test_a_server_without_a_greeting_is_given_up_at_the_deadline(tmp_path: Path):
    (tmp_path / "token").write_text("shared")
    with ForwardServer() as server:
        backend = open_backend("forward", server.url, credentials_dir=str(tmp_path))

        assert _attempt(backend, b"a\n", seconds=0.5) == [Retry("timeout")]

    assert server.offered == []


def test_tls_with_a_client_certificate(trust: Trust, tmp_path: Path):
    secret = trust.client_secret(tmp_path / "s")
    with ForwardServer(tls=trust.server(asks_client=True)) as server:
        backend = open_backend("forward", server.url, credentials_dir=secret)

        assert _attempt(backend, b"a\n") == [Delivered()]


def test_a_server_with_a_strange_certificate_gets_nothing(
    trust: Trust, other_trust: Trust, tmp_path: Path
):
    secret = trust.secret(tmp_path / "s")
    with ForwardServer(tls=other_trust.server()) as server:
        backend = open_backend("forward", server.url, credentials_dir=secret)

        assert _attempt(backend, b"a secret line\n") == [Retry("tls")]

    assert server.offered == []


def test_every_line_arrives_though_acknowledgements_are_lost(scene: Scene):
    messages = [message for name in "ab" for message in scene.write(f"{name}.log", 1000)]
    turn = iter(range(10**9))
    replies: tuple[Reply, ...] = ("reset", "ack", "hang-up", "ack")

    def reply(_: Chunk) -> Reply:
        return replies[next(turn) % 4]

    with ForwardServer(reply=reply) as server:
        scene.ship({"type": "forward", "url": server.url}, limits={"batch_bytes": "60KiB"})

    arrived = [record["message"] for record in server.records]
    assert sorted(arrived) == sorted(messages)
    assert len(server.offered) > len(server.chunks)
    assert server.violations == []
