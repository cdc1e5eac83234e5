"""Who may do what, by the tokens that the api signs: ES256 with an x5c chain."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gantry.deployment.certificates import KeyPair, issue, make_authority

from .blobs import pull_image, push_image
from .conftest import AUTH, Registry, Signer, Start

NAME = "v2/0123456789abcdef0123456789abcdef"
OTHER = "v2/fedcba9876543210fedcba9876543210"


def test_a_pushed_image_is_pulled(registry: Registry, signer: Signer) -> None:
    digest = push_image(registry.client, NAME, signer.token((NAME, "pull,push")))
    reader = signer.token((NAME, "pull"))
    assert pull_image(registry.client, NAME, reader, "latest") == 100_000
    assert pull_image(registry.client, NAME, reader, digest) == 100_000


def test_without_a_token_the_realm_is_named(registry: Registry) -> None:
    answer = registry.client.get(f"/v2/{NAME}/manifests/latest")
    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    assert f'realm="{AUTH.realm}"' in challenge
    assert f'service="{AUTH.service}"' in challenge
    assert f'scope="repository:{NAME}:pull"' in challenge


def test_a_reader_cannot_push(registry: Registry, signer: Signer) -> None:
    bearer = {"Authorization": f"Bearer {signer.token((NAME, 'pull'))}"}
    assert registry.client.post(f"/v2/{NAME}/blobs/uploads/", headers=bearer).status_code == 401


def test_another_repository_is_out_of_reach(registry: Registry, signer: Signer) -> None:
    push_image(registry.client, NAME, signer.token((NAME, "pull,push")))
    bearer = {"Authorization": f"Bearer {signer.token((OTHER, 'pull'))}"}
    assert registry.client.get(f"/v2/{NAME}/manifests/latest", headers=bearer).status_code == 401
    assert registry.client.get("/v2/_catalog", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "registry.other.example.org"},
        {"iss": "api.other.example.org"},
        {"exp": datetime(2026, 1, 1, tzinfo=UTC)},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
    ],
)
def test_a_token_of_another_fleet_or_time_is_refused(
    registry: Registry, signer: Signer, claims: dict[str, Any]
) -> None:
    bearer = {"Authorization": f"Bearer {signer.token((NAME, 'pull,push'), **claims)}"}
    assert registry.client.post(f"/v2/{NAME}/blobs/uploads/", headers=bearer).status_code == 401


def test_a_certificate_of_another_authority_is_refused(registry: Registry) -> None:
    stranger = Signer(issue(make_authority("Gantry fleet bots"), "tokens of api.bots.example.org"))
    bearer = {"Authorization": f"Bearer {stranger.token((NAME, 'pull,push'))}"}
    assert registry.client.post(f"/v2/{NAME}/blobs/uploads/", headers=bearer).status_code == 401


def test_even_the_same_authoritys_server_certificate_signs_no_tokens(
    registry: Registry, authority: KeyPair
) -> None:
    """The bundle is the token certificate and not the authority: the proxy's key opens nothing."""
    proxy = Signer(issue(authority, "bots.example.org", dns_names=["bots.example.org"]))
    bearer = {"Authorization": f"Bearer {proxy.token((NAME, 'pull,push'))}"}
    assert registry.client.post(f"/v2/{NAME}/blobs/uploads/", headers=bearer).status_code == 401


def test_it_writes_its_data_folder_only(start: Start) -> None:
    with start() as registry:
        identity = registry.container.exec_run(["id", "-u"]).output.decode().strip()
        assert identity == "10003"
        for path in ("/etc/gantry/registry.yml", "/etc/x", "/usr/bin/x"):
            assert registry.container.exec_run(["sh", "-c", f"echo x >> {path}"]).exit_code != 0
        assert registry.container.exec_run(["touch", "/var/lib/registry/x"]).exit_code == 0
