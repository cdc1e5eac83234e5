from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from gantry.deployment.certificates import (
    KeyPair,
    days_left,
    end_of,
    issue,
    make_authority,
    make_ssh_key,
    renew_authority,
    ssh_key_from_private,
)

NAMES = ("bots.example.org", "*.bots.example.org", "*.devices.bots.example.org")


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return make_authority("Gantry fleet bots")


def certificate(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem.encode())


@pytest.mark.parametrize("name", ["api.bots.example.org", "bots.example.org"])
def test_a_strict_client_trusts_the_server(authority: KeyPair, name: str) -> None:
    leaf = certificate(issue(authority, NAMES[0], dns_names=NAMES))
    store = Store([certificate(authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(name))
    assert verifier.verify(leaf, [])


def test_another_authority_is_not_trusted(authority: KeyPair) -> None:
    leaf = certificate(issue(make_authority("Gantry fleet bots"), NAMES[0], dns_names=NAMES))
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(certificate(authority))


def test_keys_are_p256_and_belong_to_their_certificates(authority: KeyPair) -> None:
    for pair in (authority, issue(authority, "tokens")):
        key = load_pem_private_key(pair.key_pem.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == certificate(pair).public_key()


def test_an_authority_lasts_ten_years_and_signs_no_other(authority: KeyPair) -> None:
    assert days_left(authority.certificate_pem) == pytest.approx(3649, abs=0.1)
    constraints = certificate(authority).extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert constraints.critical


def test_leaves_last_no_longer_than_all_clients_accept(authority: KeyPair) -> None:
    leaf = certificate(issue(authority, "x", dns_names=NAMES))
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=825)


def test_a_renewed_authority_is_the_same_to_those_who_trust_the_old_one() -> None:
    then = datetime.now(UTC) - timedelta(days=3000)
    old = make_authority("Gantry fleet bots", now=then)
    new = renew_authority(old)
    assert new.key_pem == old.key_pem
    assert days_left(new.certificate_pem) == pytest.approx(3649, abs=0.1)
    assert days_left(old.certificate_pem) == pytest.approx(649, abs=0.1)
    before = issue(old, NAMES[0], dns_names=NAMES)
    after = issue(new, NAMES[0], dns_names=NAMES)
    for trusted in (old, new):
        store = Store([certificate(trusted)])
        for leaf in (before, after):
            verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName(NAMES[0]))
            assert verifier.verify(certificate(leaf), [])


def test_an_end_is_told_to_the_second(authority: KeyPair) -> None:
    assert datetime.fromisoformat(end_of(authority.certificate_pem)) == (
        certificate(authority).not_valid_after_utc
    )


def test_a_clock_that_is_behind_still_accepts(authority: KeyPair) -> None:
    leaf = certificate(issue(authority, "x", dns_names=NAMES))
    assert leaf.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)


def test_days_left_is_negative_after_the_end(authority: KeyPair) -> None:
    old = issue(authority, "x", days=2, now=datetime.now(UTC) - timedelta(days=3))
    assert days_left(old.certificate_pem) < 0


def test_a_long_host_name_is_whole_in_the_names(authority: KeyPair) -> None:
    long = f"{'a' * 60}.{'b' * 60}.example.org"
    leaf = certificate(issue(authority, long, dns_names=(long,)))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [long]


def test_an_ssh_key_is_found_again_from_its_private_half() -> None:
    pair = make_ssh_key()
    assert ssh_key_from_private(pair.private_pem) == pair
    private = load_ssh_private_key(pair.private_pem.encode(), password=None)
    assert private.public_key() == load_ssh_public_key(pair.public.encode())
    assert pair.public.startswith("ssh-ed25519 ")


def test_what_is_no_ssh_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"could not be decoded|Not OpenSSH"):
        ssh_key_from_private("nothing of the kind")
