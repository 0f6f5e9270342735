"""What of a Secret's data is trusted."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.issue import Pair, issue_ca, issue_leaf, service_names
from certs.keyring import Keyring, authority_of, leaf_of, read_keyring, retire, secret_data
from tests.fakes.replicas import START, SeededRandomness

NAMES = service_names("sidetail-webhook", "sidetail-system")
RANDOM = SeededRandomness()
CA = authority_of(issue_ca(now=START, random=RANDOM))
LEAF = leaf_of(issue_leaf(CA.pair, NAMES, now=START, random=RANDOM), CA)
NEXT = authority_of(issue_ca(now=START, random=RANDOM))
OLD = authority_of(issue_ca(now=START, random=RANDOM))
OLD_LEAF = leaf_of(issue_leaf(OLD.pair, NAMES, now=START, random=RANDOM), OLD)
WHOLE = Keyring(authority=CA, leaf=LEAF, coming=NEXT, retired=(retire(OLD_LEAF),))
DATA = secret_data(WHOLE)


def test_what_is_written_is_read_back() -> None:
    assert read_keyring(DATA, NAMES) == WHOLE


def test_an_empty_secret_is_an_empty_keyring() -> None:
    assert read_keyring({}, NAMES) == Keyring()


@pytest.mark.parametrize(
    ("lost", "left"),
    [
        ("tls.crt", replace(WHOLE, leaf=None)),
        ("tls.key", replace(WHOLE, leaf=None)),
        ("next-ca.crt", replace(WHOLE, coming=None)),
        ("next-ca.key", replace(WHOLE, coming=None)),
        ("previous.crt", replace(WHOLE, retired=())),
        ("ca.crt", replace(WHOLE, authority=None, leaf=None)),
        ("ca.key", replace(WHOLE, authority=None, retired=(retire(LEAF), *WHOLE.retired))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("instead", [None, b"", b"garbage", b"\0\xff" * 700])
def test_a_key_that_is_lost_or_garbage_is_a_hole_and_the_rest_stands(
    lost: str, left: Keyring, instead: bytes | None
) -> None:
    data = dict(DATA)
    if instead is None:
        del data[lost]
    else:
        data[lost] = instead

    assert read_keyring(data, NAMES) == left


def test_a_ca_without_its_key_stays_in_the_bundle_while_its_leaf_is_served() -> None:
    found = read_keyring({key: DATA[key] for key in ("tls.crt", "tls.key", "ca.crt")}, NAMES)

    assert found.leaf == LEAF
    assert found.bundle == CA.pair.certificate


@pytest.mark.parametrize("other", ["tls", "next-ca"])
def test_a_key_of_another_certificate_is_no_key(other: str) -> None:
    assert read_keyring({**DATA, "ca.key": DATA[f"{other}.key"]}, NAMES).authority is None


def test_a_leaf_that_no_ca_of_the_keyring_signed_is_a_hole() -> None:
    stranger = authority_of(issue_ca(now=START, random=RANDOM))
    leaf = issue_leaf(stranger.pair, NAMES, now=START, random=RANDOM)

    found = read_keyring({**DATA, "tls.crt": leaf.certificate, "tls.key": leaf.key}, NAMES)
    assert found.leaf is None


def test_a_leaf_of_a_ca_with_the_same_name_and_another_key_is_a_hole() -> None:
    twin = authority_of(issue_ca(now=START, random=SeededRandomness()))
    assert twin.pair.certificate != CA.pair.certificate
    leaf = issue_leaf(twin.pair, NAMES, now=START, random=RANDOM)

    found = read_keyring({**DATA, "tls.crt": leaf.certificate, "tls.key": leaf.key}, NAMES)
    assert found.leaf is None


def test_a_leaf_for_other_names_is_a_hole_after_a_rename() -> None:
    assert read_keyring(DATA, service_names("sidetail-webhook", "logging")).leaf is None


def test_a_ca_in_the_place_of_the_leaf_is_a_hole() -> None:
    found = read_keyring({**DATA, "tls.crt": DATA["ca.crt"], "tls.key": DATA["ca.key"]}, NAMES)

    assert found.leaf is None


def test_a_leaf_in_the_place_of_a_ca_is_a_hole_and_never_in_the_bundle() -> None:
    found = read_keyring({**DATA, "ca.crt": DATA["tls.crt"], "ca.key": DATA["tls.key"]}, NAMES)

    assert found.authority is None
    assert DATA["tls.crt"] not in found.bundle


def test_the_bundle_holds_cas_only_and_each_once() -> None:
    bundle = x509.load_pem_x509_certificates(WHOLE.bundle)

    assert len(bundle) == 3
    assert all(
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in bundle
    )
    assert replace(WHOLE, coming=CA).bundle.count(CA.pair.certificate) == 1


def test_text_around_a_certificate_is_not_carried_into_the_bundle() -> None:
    noted = b"made by hand\n" + DATA["ca.crt"] + b"\n# the end\n" + DATA["next-ca.crt"]

    assert read_keyring({**DATA, "ca.crt": noted}, NAMES) == WHOLE


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "ed25519"],
)
def test_a_pair_with_a_key_that_is_not_elliptic_is_a_hole(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=1))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

    data = {"ca.crt": certificate.public_bytes(serialization.Encoding.PEM), "ca.key": pem}
    assert read_keyring(data, NAMES) == Keyring()


def test_an_encrypted_key_is_a_hole() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    assert read_keyring({**DATA, "ca.key": pem}, NAMES).authority is None


def test_a_retired_ca_ends_with_the_latest_of_its_leaves() -> None:
    later = issue_leaf(OLD.pair, NAMES, now=START + timedelta(days=3), random=RANDOM)
    data = {**DATA, "previous.crt": DATA["previous.crt"] + later.certificate}

    found = read_keyring(data, NAMES)
    assert [one.ends for one in found.retired] == [leaf_of(later, OLD).ends]


def test_no_damage_to_any_byte_raises_or_makes_up_a_certificate() -> None:
    dice = random.Random(7)
    genuine = {CA.pair, NEXT.pair, LEAF.pair}
    for _ in range(1500):
        key = dice.choice(list(DATA))
        damaged = bytearray(DATA[key])
        match dice.randrange(3):
            case 0:
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
            case 1:
                del damaged[dice.randrange(len(damaged)) :]
            case _:
                at = dice.randrange(len(damaged))
                damaged[at:at] = dice.randbytes(dice.randrange(1, 80))

        found = read_keyring({**DATA, key: bytes(damaged)}, NAMES)

        # A pair that is still there was damaged where it says nothing (line ends, text around it):
        # its certificate is the one that was written, and it belongs to the key.
        for one in (found.authority, found.coming, found.leaf):
            if one is not None:
                assert one.pair.certificate in {pair.certificate for pair in genuine}
        assert x509.load_pem_x509_certificates(found.bundle) if found.bundle else True


def test_a_secret_as_big_as_the_api_server_allows_is_read() -> None:
    garbage = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 16_000

    assert read_keyring({**DATA, "previous.crt": garbage}, NAMES) == replace(WHOLE, retired=())


def test_a_pair_is_told_apart_by_its_key_too() -> None:
    assert Pair(b"a", b"b") != Pair(b"a", b"c")
