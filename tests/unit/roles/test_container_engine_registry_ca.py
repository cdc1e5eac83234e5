"""The hook that lets the engine trust the fleet's certificate authority."""

import base64
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOOK = Path(__file__).parents[3] / "roles/container_engine/files/registry_ca.py"
REGISTRY = "registry.devbots.gantry.internal:8443"


@pytest.fixture(scope="module")
def pem() -> bytes:
    """A certificate of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def config(pem: bytes) -> dict[str, Any]:
    return {
        "apiEndpoint": "https://api.devbots.gantry.internal:8443",
        "balenaRootCA": base64.b64encode(pem).decode(),
    }


def run(folder: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The hook as gantry-config starts it."""
    given = folder / "config.json"
    given.write_text(json.dumps(config))
    environment = os.environ | {
        "GANTRY_CONFIG": str(given),
        "GANTRY_CERTIFICATES": str(folder / "certs.d"),
    }
    return subprocess.run(
        [sys.executable, str(HOOK)], env=environment, capture_output=True, text=True, check=False
    )


def files(folder: Path) -> list[str]:
    """What is in certs.d."""
    found = (folder / "certs.d").rglob("*")
    return sorted(str(each.relative_to(folder / "certs.d")) for each in found if each.is_file())


def test_the_authority_is_where_the_engine_looks_for_it(
    tmp_path: Path, config: dict[str, Any], pem: bytes
) -> None:
    done = run(tmp_path, config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the engine trusts the fleet's authority for {REGISTRY}\n"
    path = tmp_path / "certs.d" / REGISTRY / "ca.crt"
    assert path.read_bytes() == pem
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_second_run_says_and_changes_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    run(tmp_path, config)
    before = (tmp_path / "certs.d" / REGISTRY / "ca.crt").stat().st_ino
    done = run(tmp_path, config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "certs.d" / REGISTRY / "ca.crt").stat().st_ino == before


def test_a_registry_that_is_named_goes_before_that_beside_the_api(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    run(tmp_path, {**config, "registryEndpoint": "https://images.example:5000/"})
    assert files(tmp_path) == [".gantry", "images.example:5000/ca.crt"]


def test_another_fleet_takes_the_place_of_the_old_one(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    run(tmp_path, config)
    done = run(tmp_path, {**config, "apiEndpoint": "https://api.testingbots.gantry.internal"})
    assert done.stdout.splitlines() == [
        "the engine trusts the fleet's authority for registry.testingbots.gantry.internal",
        f"the engine no longer trusts the authority of {REGISTRY}",
    ]
    assert files(tmp_path) == [".gantry", "registry.testingbots.gantry.internal/ca.crt"]


def test_without_an_authority_only_public_ones_are_trusted(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    run(tmp_path, config)
    done = run(tmp_path, {})
    assert done.stdout == f"the engine no longer trusts the authority of {REGISTRY}\n"
    assert files(tmp_path) == [".gantry"]
    assert run(tmp_path, {}).stdout == ""


def test_what_others_put_there_stays(tmp_path: Path, config: dict[str, Any]) -> None:
    other = tmp_path / "certs.d/registry.example/ca.crt"
    mine = tmp_path / "certs.d" / REGISTRY / "client.cert"
    for each in (other, mine):
        each.parent.mkdir(parents=True)
        each.write_text("of somebody else")
    run(tmp_path, config)
    run(tmp_path, {})
    assert files(tmp_path) == [".gantry", f"{REGISTRY}/client.cert", "registry.example/ca.crt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"balenaRootCA": "no base64!"}, "balenaRootCA is not base64 of a certificate"),
        ({"balenaRootCA": base64.b64encode(b"text").decode()}, "balenaRootCA is not base64"),
        ({"apiEndpoint": "https:///"}, "apiEndpoint has no host name in it"),
        ({"registryEndpoint": "../../shadow"}, "registryEndpoint has no host name in it"),
        ({"registryEndpoint": "https://user:word@host"}, "registryEndpoint has no host name"),
    ],
)
def test_a_bad_key_is_told_in_a_line_and_what_is_trusted_stays(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, str], words: str
) -> None:
    run(tmp_path, config)
    done = run(tmp_path, config | changes)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(words)
    assert len(done.stderr.splitlines()) == 1
    assert files(tmp_path) == [".gantry", f"{REGISTRY}/ca.crt"]
