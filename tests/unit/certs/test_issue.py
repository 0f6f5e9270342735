"""What a CA and a leaf of ours say."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.issue import CA_LIFE, LEAF_LIFE, Pair, issue_ca, issue_leaf, service_names
from tests.fakes.replicas import SeededRandomness

NOW = datetime(2026, 5, 1, 12, 30, 15, 999_999, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NAMES = service_names("sidetail-webhook", "sidetail-system")


@pytest.fixture
def ca() -> Pair:
    return issue_ca(now=NOW, random=SeededRandomness())


@pytest.fixture
def leaf(ca: Pair) -> Pair:
    return issue_leaf(ca, NAMES, now=NOW, random=SeededRandomness(1))


def parsed(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_a_ca_may_sign_leaves_and_no_further_ca(ca: Pair) -> None:
    constraints = parsed(ca).extensions.get_extension_for_class(x509.BasicConstraints)
    usage = parsed(ca).extensions.get_extension_for_class(x509.KeyUsage)

    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert constraints.critical
    assert usage.critical


def test_a_leaf_is_for_servers_only_and_no_ca(leaf: Pair) -> None:
    extensions = parsed(leaf).extensions

    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_leaf_holds_the_four_names_of_its_service(leaf: Pair) -> None:
    held = parsed(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert held.get_values_for_type(x509.DNSName) == [
        "sidetail-webhook",
        "sidetail-webhook.sidetail-system",
        "sidetail-webhook.sidetail-system.svc",
        "sidetail-webhook.sidetail-system.svc.cluster.local",
    ]


def test_an_ip_address_is_held_as_one(ca: Pair) -> None:
    leaf = issue_leaf(ca, ["localhost", "127.0.0.1", "::1"], now=NOW, random=SeededRandomness())

    held = parsed(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in held.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert held.get_values_for_type(x509.DNSName) == ["localhost"]


@pytest.mark.parametrize("life", [timedelta(seconds=2), LEAF_LIFE, CA_LIFE], ids=str)
def test_a_certificate_begins_an_hour_early_and_lives_as_long_as_asked(life: timedelta) -> None:
    ca = parsed(issue_ca(now=NOW, random=SeededRandomness(), life=life))

    assert ca.not_valid_before_utc == NOW.replace(microsecond=0) - timedelta(hours=1)
    assert abs(ca.not_valid_after_utc - (NOW + life)) < SECOND


def test_a_leaf_never_outlives_its_ca() -> None:
    ca = issue_ca(now=NOW, random=SeededRandomness(), life=timedelta(days=2))
    leaf = issue_leaf(ca, NAMES, now=NOW + timedelta(days=1), random=SeededRandomness())

    assert parsed(leaf).not_valid_after_utc == parsed(ca).not_valid_after_utc


def test_a_leaf_never_begins_before_its_ca(ca: Pair) -> None:
    leaf = issue_leaf(ca, NAMES, now=NOW - timedelta(minutes=30), random=SeededRandomness())

    assert parsed(leaf).not_valid_before_utc == parsed(ca).not_valid_before_utc


def test_a_leaf_verifies_against_its_ca_and_no_other(ca: Pair, leaf: Pair) -> None:
    parsed(leaf).verify_directly_issued_by(parsed(ca))

    other = issue_ca(now=NOW, random=SeededRandomness(9))
    with pytest.raises(ValueError, match="Issuer"):
        parsed(leaf).verify_directly_issued_by(parsed(other))


def test_two_cas_have_different_names_so_that_one_bundle_can_hold_both(ca: Pair) -> None:
    other = issue_ca(now=NOW, random=SeededRandomness(9))

    assert parsed(ca).subject != parsed(other).subject


def test_keys_are_on_p_256_and_stand_unencrypted_as_pkcs_8(ca: Pair, leaf: Pair) -> None:
    for pair in (ca, leaf):
        key = serialization.load_pem_private_key(pair.key, password=None)

        assert pair.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert key.public_key() == parsed(pair).public_key()


def test_a_pair_shown_by_accident_does_not_show_its_key(leaf: Pair) -> None:
    assert b"PRIVATE" not in repr(leaf).encode()


def test_a_ca_with_a_key_that_is_none_is_refused(ca: Pair) -> None:
    with pytest.raises(ValueError, match="PEM"):
        issue_leaf(
            Pair(certificate=ca.certificate, key=b"garbage"),
            NAMES,
            now=NOW,
            random=SeededRandomness(),
        )
