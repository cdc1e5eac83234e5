"""The providers themselves, against a real Docker Engine where they use one."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound

from gantry.deployment import volumes
from gantry.deployment.certificates import KeyPair, days_left, issue, make_authority
from gantry.deployment.resources.certificates import (
    AUTHORITY_FILE,
    AUTHORITY_RENEW_DAYS,
    RENEW_DAYS,
    CertificateAuthorityProvider,
    CertificateProvider,
)
from gantry.deployment.resources.kept import KeptError, KeptSecrets, kept_in
from gantry.deployment.resources.secrets import RandomSecretProvider
from gantry.deployment.resources.ssh_host_key import SshHostKeyProvider


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def volume(client: docker.DockerClient) -> Iterator[str]:
    made = client.volumes.create(f"infra-test-{uuid.uuid4().hex[:8]}")
    yield str(made.name)
    made.remove()


def outs(provider: Any, props: dict[str, Any]) -> dict[str, Any]:
    made = provider.create(props).outs
    assert isinstance(made, dict)
    return made


def test_kept_secrets_are_read_back(client: docker.DockerClient, volume: str) -> None:
    kept = KeptSecrets(client, volume)
    assert kept.read("a") is None
    kept.write("a", "first")
    kept.write("b", "ünïcode\n")
    kept.write("a", "second")
    assert (kept.read("a"), kept.read("b")) == ("second", "ünïcode\n")


def test_keeping_leaves_nothing_but_the_volume(client: docker.DockerClient, volume: str) -> None:
    with kept_in(volume) as kept:
        kept.write("a", "secret")
    holders = client.containers.list(all=True, filters={"volume": volume})
    labelled = client.images.list(filters={"label": f"gantry.volume={volume}"}, all=True)
    assert (holders, labelled) == ([], [])


HOLDER = """
import sys, docker
from gantry.deployment import volumes
with volumes.opened(docker.from_env(), sys.argv[1]) as container:
    print(container.id, flush=True)
    sys.stdin.read()
"""


def test_who_was_killed_with_a_volume_open_is_not_in_its_way(client: docker.DockerClient) -> None:
    name = str(client.volumes.create(f"infra-test-{uuid.uuid4().hex[:8]}").name)
    command = [sys.executable, "-c", HOLDER, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        left = holder.stdout.readline().decode().strip()
        holder.kill()
    with pytest.raises(APIError, match="in use"):
        client.volumes.get(name).remove()
    volumes.remove(client, name)
    with pytest.raises(NotFound):
        client.containers.get(left)
    with pytest.raises(NotFound):
        client.volumes.get(name)
    assert client.images.list(filters={"label": f"{volumes.LABEL}={name}"}, all=True) == []


def test_an_engine_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(KeptError, match="no Docker engine answers"), kept_in("x"):
        pass


@pytest.mark.parametrize(
    ("provider", "props", "secret"),
    [
        (CertificateAuthorityProvider(), {"common_name": "Gantry fleet bots"}, "key_pem"),
        (SshHostKeyProvider(), {}, "private_pem"),
        (RandomSecretProvider(), {"bytes": 32, "keep_as": "admin-password"}, "value"),
    ],
)
def test_what_is_kept_is_adopted_after_the_state_is_gone(
    volume: str, provider: Any, props: dict[str, Any], secret: str
) -> None:
    before = outs(provider, {**props, "volume": volume})
    assert len(before[secret]) >= 43
    assert outs(provider, {**props, "volume": volume}) == before
    # The state keeps the inputs too: the Pulumi CLI shows and compares them.
    assert before["volume"] == volume


def test_other_secrets_are_new_each_time() -> None:
    made = {outs(RandomSecretProvider(), {"bytes": 32})["value"] for _ in range(3)}
    assert len(made) == 3


@pytest.fixture
def issued(volume: str) -> dict[str, Any]:
    authority = outs(CertificateAuthorityProvider(), {"common_name": "bots", "volume": volume})
    props = {
        "common_name": "bots.example.org",
        "dns_names": ["bots.example.org"],
        "authority_key_pem": authority["key_pem"],
        "authority_certificate_pem": authority["certificate_pem"],
    }
    return outs(CertificateProvider(), props)


def test_a_certificate_stays_while_nothing_changes(issued: dict[str, Any]) -> None:
    assert CertificateProvider().diff("x", issued, dict(issued)).changes is False


def test_a_certificate_with_other_names_is_issued_anew_in_place(issued: dict[str, Any]) -> None:
    news = {**issued, "dns_names": ["other.example.org"]}
    diff = CertificateProvider().diff("x", issued, news)
    assert diff.changes is True
    assert not diff.replaces
    updated = CertificateProvider().update("x", issued, news).outs
    assert updated
    assert updated["certificate_pem"] != issued["certificate_pem"]


def test_an_authority_is_renewed_in_time_and_kept(volume: str) -> None:
    provider, props = CertificateAuthorityProvider(), {"common_name": "bots", "volume": volume}
    then = datetime.now(UTC) - timedelta(days=3650 - AUTHORITY_RENEW_DAYS + 1)
    old = make_authority("bots", now=then)
    with kept_in(volume) as kept:
        kept.write(AUTHORITY_FILE, old.key_pem + old.certificate_pem)
    olds = {**props, "key_pem": old.key_pem, "certificate_pem": old.certificate_pem}
    assert provider.diff("bots", olds, props).changes is True
    renewed = provider.update("bots", olds, props).outs
    assert renewed
    assert renewed["key_pem"] == old.key_pem
    assert days_left(renewed["certificate_pem"]) == pytest.approx(3649, abs=0.1)
    # The next `up` leaves it alone, with or without a state.
    assert provider.diff("bots", renewed, props).changes is False
    assert outs(provider, props) == renewed


def test_a_certificate_is_issued_anew_before_it_expires(issued: dict[str, Any]) -> None:
    authority = KeyPair(issued["authority_key_pem"], issued["authority_certificate_pem"])
    for left, expected in ((RENEW_DAYS - 1, True), (RENEW_DAYS + 3, False)):
        now = datetime.now(UTC) - timedelta(days=825 - left - 1)
        old = issue(authority, "bots.example.org", dns_names=["bots.example.org"], now=now)
        olds = {**issued, "certificate_pem": old.certificate_pem}
        assert CertificateProvider().diff("x", olds, issued).changes is expected
