"""Secrets of an export, as the Pulumi CLI would open them."""

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gantry.deployment.engine.exporting import ROUNDS, Passphrase, deployment
from gantry.deployment.engine.state import Resource, State
from gantry.deployment.engine.values import EngineError, secret

STACK = Resource("urn:pulumi:s::p::pulumi:pulumi:Stack::p-s", "pulumi:pulumi:Stack", custom=False)
KIND = "docker:index/volume:Volume"
VOLUME = Resource(
    f"urn:pulumi:s::p::{KIND}::v", KIND, id="v", parent=STACK.urn, inputs={"name": secret("v")}
)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text("words\n")
    return file


def _open(salt: str, text: str) -> str:
    key = hashlib.pbkdf2_hmac("sha256", b"words", base64.b64decode(salt), ROUNDS)
    _, nonce, sealed = text.split(":")
    plain = AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(sealed), None)
    return plain.decode()


def test_salt_proves_the_passphrase(words: Path) -> None:
    version, salt, proof = Passphrase(words).salt.split(":", 2)
    assert version == "v1"
    assert _open(salt, proof) == "pulumi"


def test_deployment_names_providers_and_seals_secrets(words: Path, tmp_path: Path) -> None:
    state = State(tmp_path / "s.json", "s", words)
    state.put(VOLUME)
    state.put(STACK)
    made = deployment(state, "s", words, show_secrets=False)["deployment"]
    stack, provider, volume = made["resources"]
    assert stack["type"] == "pulumi:pulumi:Stack"
    assert provider["type"] == "pulumi:providers:docker"
    assert volume["provider"] == f"{provider['urn']}::{provider['id']}"
    salt = made["secrets_providers"]["state"]["salt"].split(":")[1]
    assert _open(salt, volume["inputs"]["name"]["ciphertext"]) == '"v"'
    shown = deployment(state, "s", words, show_secrets=True)["deployment"]["resources"][2]
    assert shown["inputs"]["name"]["plaintext"] == '"v"'


def test_nothing_to_export(words: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nothing to export"):
        deployment(State(tmp_path / "s.json", "s", words), "s", words, show_secrets=False)
