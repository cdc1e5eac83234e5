"""Property values as the Pulumi SDK sends them, and how they rest in the state file.

In memory a value is plain JSON. A secret is a mapping with Pulumi's secret signature, an unknown
one (the output of a resource that does not exist yet) is Pulumi's UNKNOWN text.
Format: https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/properties.go
"""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime import rpc

SIGNATURE: str = rpc._special_sig_key
SECRET: str = rpc._special_secret_sig
UNKNOWN: str = rpc.UNKNOWN
MASK = "[secret]"

Properties = dict[str, Any]


class EngineError(Exception):
    """What went wrong, with what value, and what to do, as lines for a person."""


class UnknownStackError(EngineError):
    """There is no such stack, or nothing of it is deployed."""


def from_struct(struct: struct_pb2.Struct) -> Properties:
    """Plain values of a protobuf Struct; whole numbers become int, null properties are left out."""
    return {k: _from_value(v) for k, v in struct.fields.items() if not v.HasField("null_value")}


def _from_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(item) for item in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return None if kind in (None, "null_value") else getattr(value, kind)


def to_struct(properties: Properties) -> struct_pb2.Struct:
    """The reverse of from_struct."""
    return json_format.ParseDict(properties, struct_pb2.Struct())


def is_secret(value: Any) -> bool:
    """Whether the value itself bears the secret signature."""
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def secret(value: Any) -> Any:
    """Mark a value as secret, once."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": reveal(value)}


def _walk(value: Any, change: Any) -> Any:
    """Rebuild a value; `change` answers (True, new) where it replaces a part."""
    done, new = change(value)
    if done:
        return new
    if isinstance(value, dict):
        return {key: _walk(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, change) for item in value]
    return value


def reveal(value: Any) -> Any:
    """The value without its secret marks, at any depth."""
    return _walk(value, lambda v: (True, reveal(v["value"])) if is_secret(v) else (False, None))


def mask(value: Any) -> Any:
    """The value with every secret replaced by a mask: fit for a terminal."""
    return _walk(value, lambda v: (is_secret(v), MASK))


def holds_secret(value: Any) -> bool:
    """Whether there is a secret at any depth."""
    return bool(mask(value) != value)


def holds_unknown(value: Any) -> bool:
    """Whether there is an unknown value at any depth."""
    if isinstance(value, dict):
        return any(holds_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(holds_unknown(item) for item in value)
    return bool(value == UNKNOWN)


def with_secrets_of(outputs: Properties, inputs: Properties, also: tuple[str, ...]) -> Properties:
    """Outputs in which every property that was a secret input, or is named in `also`, is secret."""
    names = {key for key, value in inputs.items() if holds_secret(value)} | set(also)
    return {key: secret(value) if key in names else value for key, value in outputs.items()}


def rewrite_secrets(value: Any, conceal: Callable[[str], dict[str, str]]) -> Any:
    """The value with each secret as its mark and whatever `conceal` makes of its JSON text."""

    def change(part: Any) -> tuple[bool, Any]:
        if not is_secret(part):
            return False, None
        return True, {SIGNATURE: SECRET} | conceal(json.dumps(reveal(part)))

    return _walk(value, change)


class Vault:
    """Encrypts the secrets in a state with a key made from the operator's passphrase."""

    def __init__(self, passphrase_file: Path, salt: bytes) -> None:
        """
        Raises:
            EngineError: there is no passphrase file.
        """
        try:
            passphrase = passphrase_file.read_text().strip()
        except OSError as error:
            raise EngineError(
                f"no passphrase in {passphrase_file} ({error.strerror}): run `make setup`, "
                "or put the one there that the state was written with"
            ) from error
        self._file = passphrase_file
        key = hashlib.scrypt(
            passphrase.encode(), salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32
        )
        self._fernet = Fernet(base64.urlsafe_b64encode(key))
        self._sealed: dict[str, str] = {}

    def seal(self, value: Any) -> Any:
        """The value with ciphertext in place of every secret."""

        def conceal(text: str) -> dict[str, str]:
            if text not in self._sealed:
                self._sealed[text] = self._fernet.encrypt(text.encode()).decode()
            return {"ciphertext": self._sealed[text]}

        return rewrite_secrets(value, conceal)

    def unseal(self, value: Any) -> Any:
        """The reverse of seal.

        Raises:
            EngineError: the passphrase is not the one that the state was written with.
        """

        def disclose(part: Any) -> tuple[bool, Any]:
            if not is_secret(part):
                return False, None
            try:
                text = self._fernet.decrypt(part["ciphertext"].encode()).decode()
            except InvalidToken as error:
                raise EngineError(
                    f"the passphrase in {self._file} does not open the state's secrets: "
                    "put the one there that the state was written with"
                ) from error
            self._sealed[text] = part["ciphertext"]
            return True, {SIGNATURE: SECRET, "value": json.loads(text)}

        return _walk(value, disclose)
