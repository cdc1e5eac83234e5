"""Certificates about to end, renewed by the next `up` of the built-in engine."""

import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from gantry.deployment.certificates import (
    AUTHORITY_DAYS,
    LEAF_DAYS,
    KeyPair,
    days_left,
    issue,
    make_authority,
    renew_authority,
)
from gantry.deployment.resources.certificates import AUTHORITY_FILE, CERTIFICATE_BEGIN
from gantry.deployment.resources.kept import kept_in

from .conftest import Deployed, ops


@pytest.fixture
def fleet(deployed: Deployed) -> Deployed:
    deployed.configure(extra="certificates")
    deployed.engine.up()
    return deployed


def served(fleet: Deployed, name: str) -> str:
    """A file that the server's container was given."""
    stream, _ = fleet.client.get_archive(f"{fleet.stack}-server", f"/etc/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        content = archive.extractfile(name)
        assert content
        return content.read().decode()


def authority_of(fleet: Deployed) -> KeyPair:
    with kept_in(f"{fleet.stack}-kept") as kept:
        text = kept.read(AUTHORITY_FILE)
    assert text
    key, begin, rest = text.partition(CERTIFICATE_BEGIN)
    return KeyPair(key, begin + rest)


def made_earlier(fleet: Deployed, name: str, certificate_pem: str) -> None:
    """The state as it would be, had this certificate been made then."""
    state: dict[str, Any] = json.loads(fleet.state_text)
    (found,) = [each for each in state["resources"] if each["urn"].endswith(f"::{name}")]
    found["outputs"]["certificate_pem"] = certificate_pem
    fleet.engine.state_file.write_text(json.dumps(state))


def is_trusted(leaf_pem: str, authority_pem: str) -> bool:
    authority, leaf = (
        x509.load_pem_x509_certificate(each.encode()) for each in (authority_pem, leaf_pem)
    )
    verifier = PolicyBuilder().store(Store([authority]))
    return bool(verifier.build_server_verifier(x509.DNSName("vpn.bots")).verify(leaf, []))


@pytest.mark.parametrize("left", [200, 10, -5])
def test_a_certificate_about_to_end_is_renewed_and_its_server_made_anew(
    fleet: Deployed, left: int
) -> None:
    authority = authority_of(fleet)
    then = datetime.now(UTC) - timedelta(days=LEAF_DAYS - 1 - left)
    old = issue(authority, "vpn.bots", dns_names=["vpn.bots"], now=then)
    assert days_left(old.certificate_pem) == pytest.approx(left, abs=0.1)
    before = served(fleet, "tls.crt")
    made_earlier(fleet, "leaf", old.certificate_pem)

    foreseen = {"leaf": "update", "server": "replace"}
    assert ops(fleet.engine.preview()) == foreseen
    assert served(fleet, "tls.crt") == before
    assert ops(fleet.engine.up()) == foreseen
    now = served(fleet, "tls.crt")
    assert now not in (before, old.certificate_pem)
    assert days_left(now) == pytest.approx(LEAF_DAYS - 1, abs=0.1)
    assert is_trusted(now, authority.certificate_pem)
    assert not fleet.engine.up().changes


def test_a_certificate_with_time_left_stays(fleet: Deployed) -> None:
    then = datetime.now(UTC) - timedelta(days=LEAF_DAYS - 300)
    old = issue(authority_of(fleet), "vpn.bots", dns_names=["vpn.bots"], now=then)
    made_earlier(fleet, "leaf", old.certificate_pem)
    # It is the server that has another one than the state was made to say.
    assert ops(fleet.engine.up()) == {"server": "replace"}
    assert served(fleet, "tls.crt") == old.certificate_pem


def test_an_authority_is_renewed_with_its_key_years_before_its_end(fleet: Deployed) -> None:
    key = authority_of(fleet).key_pem
    then = datetime.now(UTC) - timedelta(days=AUTHORITY_DAYS - 1000)
    old = KeyPair(key, make_authority("bots", now=then).certificate_pem)
    old = renew_authority(old, now=then)
    with kept_in(f"{fleet.stack}-kept") as kept:
        kept.write(AUTHORITY_FILE, old.key_pem + old.certificate_pem)
    made_earlier(fleet, "authority", old.certificate_pem)

    assert ops(fleet.engine.up()) == {"authority": "update", "leaf": "update", "server": "replace"}
    now = authority_of(fleet)
    assert (now.key_pem, served(fleet, "ca.crt")) == (key, now.certificate_pem)
    assert days_left(now.certificate_pem) == pytest.approx(AUTHORITY_DAYS - 1, abs=0.1)
    # A device that has the old certificate trusts the new leaf, and so does one with the new.
    for trusted in (old, now):
        assert is_trusted(served(fleet, "tls.crt"), trusted.certificate_pem)
    assert not fleet.engine.up().changes
