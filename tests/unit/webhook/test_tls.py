import os
import re
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from certs.issue import issue_leaf
from tests.webhook_process import CA, RANDOM, client_context, new_leaf
from webhook.tls import MAX_SESSIONS, Certificates

LEAF = new_leaf()
OTHER = new_leaf()


def shake_hands(certificates, client=None):
    """Return both sides after a handshake in memory: the client's, the server's."""
    assert certificates.context is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificates.context.wrap_bio(to_server, to_client, server_side=True)
    side = (client or client_context()).wrap_bio(to_client, to_server, server_hostname="localhost")
    alternate(side.do_handshake, server.do_handshake)
    assert side.version() is not None
    return side, server


def alternate(*acts):
    """Let each side go on until both are done."""
    waiting = list(acts)
    for _ in range(6):
        for act in waiting[:]:
            with suppress(ssl.SSLWantReadError):
                act()
                waiting.remove(act)
    assert waiting == []


def served(certificates) -> bytes:
    return shake_hands(certificates)[0].getpeercert(binary_form=True)


@pytest.fixture
def certificates():
    holder = Certificates()
    assert holder.offer(LEAF.certificate, LEAF.key) is None
    return holder


def der(pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


def test_nothing_is_served_before_the_first_good_pair():
    holder = Certificates()

    assert holder.context is None
    assert not holder.is_valid_at(0)


def test_a_good_pair_is_served_at_once(certificates):
    assert served(certificates) == der(LEAF)
    certificates.offer(OTHER.certificate, OTHER.key)
    assert served(certificates) == der(OTHER)


def test_its_end_is_known(certificates):
    assert certificates.not_after is not None
    assert certificates.is_valid_at(certificates.not_after - 1)
    assert not certificates.is_valid_at(certificates.not_after)


def test_the_same_pair_again_changes_nothing(certificates):
    before = certificates.context

    assert certificates.offer(LEAF.certificate, LEAF.key) is None
    assert certificates.context is before


def not_yet_valid():
    return issue_leaf(CA, ("localhost",), now=datetime.now(UTC) + timedelta(hours=3), random=RANDOM)


def encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


BAD_PAIRS = {
    "empty": lambda: (b"", b""),
    "no-key": lambda: (OTHER.certificate, b""),
    "no-certificate": lambda: (b"", OTHER.key),
    "garbage": lambda: (b"\x00\xff" * 500, b"\xfe" * 500),
    "torn-certificate": lambda: (OTHER.certificate[: len(OTHER.certificate) // 2], OTHER.key),
    "torn-key": lambda: (OTHER.certificate, OTHER.key[: len(OTHER.key) // 2]),
    "mismatched": lambda: (OTHER.certificate, LEAF.key),
    "swapped": lambda: (OTHER.key, OTHER.certificate),
    "expired": lambda: (lambda pair: (pair.certificate, pair.key))(
        new_leaf(life=timedelta(days=-1))
    ),
    "not-yet-valid": lambda: (lambda pair: (pair.certificate, pair.key))(not_yet_valid()),
    "encrypted-key": lambda: (OTHER.certificate, encrypted(OTHER.key)),
    "not-ascii": lambda: ("ä".encode("latin-1") + OTHER.certificate, OTHER.key),
}


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_a_bad_pair_leaves_the_good_one_in_force_and_is_counted(certificates, name):
    before = certificates.context
    certificate, key = BAD_PAIRS[name]()

    assert certificates.offer(certificate, key)
    assert certificates.context is before
    assert certificates.load_failures == 1
    assert served(certificates) == der(LEAF)
    assert certificates.offer(OTHER.certificate, OTHER.key) is None


@pytest.mark.parametrize("name", BAD_PAIRS)
def test_an_error_never_shows_a_key(certificates, name):
    certificate, key = BAD_PAIRS[name]()

    assert not re.search(
        r"PRIVATE|[A-Za-z0-9+/]{30}", certificates.offer(certificate, key) or "PRIVATE"
    )


def test_a_pair_cut_at_any_byte_is_refused(certificates):
    for cut in range(0, len(OTHER.key) - 30, 7):
        assert certificates.offer(OTHER.certificate, OTHER.key[:cut])
    for cut in range(0, len(OTHER.certificate) - 30, 17):
        assert certificates.offer(OTHER.certificate[:cut], OTHER.key)
    assert served(certificates) == der(LEAF)


def test_a_chain_is_served_whole():
    holder = Certificates()

    assert holder.offer(LEAF.certificate + CA.certificate, LEAF.key) is None
    assert served(holder) == der(LEAF)


def test_an_offer_leaves_no_file_and_no_descriptor_behind(certificates):
    before = sorted(os.listdir("/proc/self/fd"))
    for name in BAD_PAIRS:
        certificates.offer(*BAD_PAIRS[name]())
    certificates.offer(OTHER.certificate, OTHER.key)

    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(certificates, version):
    client = client_context()
    client.minimum_version = client.maximum_version = version

    assert shake_hands(certificates, client)[0].version() == version.name.replace("_", ".")


def test_the_server_speaks_nothing_older_than_tls_1_2(certificates):
    assert certificates.context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None), (["http/1.0"], None)],
)
def test_http_2_is_never_agreed_on(certificates, offered, agreed):
    client = client_context()
    if offered:
        client.set_alpn_protocols(offered)

    assert shake_hands(certificates, client)[0].selected_alpn_protocol() == agreed


def test_sessions_of_strangers_are_forgotten_once_they_are_many(certificates):
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    before = certificates.context
    for _ in range(MAX_SESSIONS + 1):
        side, server = shake_hands(certificates, client)
        alternate(side.unwrap, server.unwrap)  # what is not said goodbye to is forgotten anyway
    assert before.session_stats()["number"] > MAX_SESSIONS
    certificates.trim()

    assert certificates.context is not before
    assert certificates.context.session_stats()["number"] == 0
    assert served(certificates) == der(LEAF)


def test_few_sessions_are_kept(certificates):
    before = certificates.context
    certificates.trim()

    assert certificates.context is before


def test_trimming_before_there_is_a_pair_does_nothing():
    holder = Certificates()
    holder.trim()

    assert holder.context is None
