"""From the built-in engine's state to a deployment that `pulumi stack import` takes.

Format: version 3 of https://www.pulumi.com/docs/iac/concepts/state-and-backends/; secrets as the
CLI's passphrase provider writes them
(https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/config/crypt.go).
"""

import base64
import hashlib
import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gantry.deployment.engine.dynamic import PREFIX
from gantry.deployment.engine.plan import order
from gantry.deployment.engine.state import Resource, State
from gantry.deployment.engine.values import EngineError, UnknownStackError, rewrite_secrets

SCHEMA_VERSIONS = {"Container": "2", "Network": "1", "Volume": "1"}
"""What the docker provider takes the outputs to be written by."""

ROUNDS = 1_000_000


class Passphrase:
    """The CLI's own encryption, with the same passphrase: AES-256-GCM, key by PBKDF2."""

    def __init__(self, file: Path) -> None:
        salt = os.urandom(8)
        key = hashlib.pbkdf2_hmac("sha256", file.read_text().strip().encode(), salt, ROUNDS)
        self._cipher = AESGCM(key)
        self.salt = f"v1:{base64.b64encode(salt).decode()}:{self.encrypt('pulumi')}"

    def encrypt(self, text: str) -> str:
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, text.encode(), None)
        return f"v1:{base64.b64encode(nonce).decode()}:{base64.b64encode(sealed).decode()}"


def deployment(state: State, stack: str, passphrase: Path, show_secrets: bool) -> dict[str, Any]:
    """
    Raises:
        UnknownStackError: nothing is deployed.
        EngineError: a step was interrupted.
    """
    resources = order(state.everything())
    if not resources:
        raise UnknownStackError(f"stack {stack} is not deployed: there is nothing to export")
    if state.pending:
        raise EngineError(f"a step of stack {stack} was interrupted: run `gantry up {stack}` first")
    crypter = Passphrase(passphrase)
    defaults: dict[str, Resource] = {}
    named = [_with_provider(resource, resources[0], defaults) for resource in resources]

    def conceal(text: str) -> dict[str, str]:
        return {"plaintext": text} if show_secrets else {"ciphertext": crypter.encrypt(text)}

    everything = [*named[:1], *defaults.values(), *named[1:]]
    return {
        "version": 3,
        "deployment": {
            "manifest": {"time": datetime.now(UTC).isoformat(), "magic": "", "version": ""},
            "secrets_providers": {"type": "passphrase", "state": {"salt": crypter.salt}},
            "resources": [rewrite_secrets(entry.to_json(), conceal) for entry in everything],
        },
    }


def _with_provider(resource: Resource, stack: Resource, defaults: dict[str, Resource]) -> Resource:
    """Name the provider, which the CLI does for every resource, and its schema's version."""
    if not resource.custom:
        return resource
    outputs = resource.outputs
    if schema := SCHEMA_VERSIONS.get(resource.type.rsplit(":", 1)[1]):
        outputs = outputs | {"id": resource.id, "__meta": f'{{"schema_version":"{schema}"}}'}
    package = "pulumi-python" if resource.type.startswith(PREFIX) else "docker"
    if package not in defaults:
        found = version("pulumi-docker") if package == "docker" else ""
        name = "default_" + found.replace(".", "_") if found else "default"
        prefix = "::".join(stack.urn.split("::")[:2])
        kind = f"pulumi:providers:{package}"
        inputs = {"version": found} if found else {}
        urn = f"{prefix}::{kind}::{name}"
        defaults[package] = Resource(urn, kind, True, str(uuid.uuid4()), inputs, inputs)
    provider = defaults[package]
    return replace(resource, outputs=outputs, provider=f"{provider.urn}::{provider.id}")
