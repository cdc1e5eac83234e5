"""Values and their secrets, between the SDK, memory and the file."""

from pathlib import Path

import pytest

from gantry.deployment.engine.values import (
    MASK,
    UNKNOWN,
    EngineError,
    Vault,
    from_struct,
    holds_secret,
    holds_unknown,
    mask,
    reveal,
    secret,
    to_struct,
    with_secrets_of,
)


def test_struct_and_back() -> None:
    value = {"n": 3, "f": 1.5, "s": "x", "b": True, "l": [1, {"k": "v"}], "m": {"x": "y"}}
    assert from_struct(to_struct(value)) == value
    assert from_struct(to_struct({"gone": None, "stays": 1})) == {"stays": 1}


def test_secrets_at_any_depth() -> None:
    value = {"a": [secret({"b": secret("x")})]}
    assert reveal(value) == {"a": [{"b": "x"}]}
    assert mask(value) == {"a": [MASK]}
    assert holds_secret(value)
    assert not holds_secret(reveal(value))
    assert secret(secret(1)) == secret(1)


def test_unknowns_at_any_depth() -> None:
    assert holds_unknown({"a": [{"b": UNKNOWN}]})
    assert holds_unknown({"a": secret(UNKNOWN)})
    assert not holds_unknown({"a": "b"})


def test_outputs_inherit_secrecy() -> None:
    outputs = with_secrets_of({"a": 1, "b": 2, "c": 3}, {"a": [secret(1)]}, ("b",))
    assert outputs == {"a": secret(1), "b": secret(2), "c": 3}


def test_vault_seals_what_is_secret_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("one")
    vault = Vault(file, b"salt")
    value = {"open": 1, "closed": secret({"deep": "hush"})}
    sealed = vault.seal(value)
    assert sealed["open"] == 1
    assert "hush" not in str(sealed)
    assert vault.seal(value) == sealed
    assert Vault(file, b"salt").unseal(sealed) == value
    file.write_text("two")
    with pytest.raises(EngineError, match="does not open the state's secrets"):
        Vault(file, b"salt").unseal(sealed)


def test_no_passphrase_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no passphrase in .*: run `make setup`"):
        Vault(tmp_path / "none", b"salt")
