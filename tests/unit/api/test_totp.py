"""Codes by time, and how their secrets are stored."""

from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from gantry.api.services import totp
from gantry.api.services.vault import UnreadableError, Vault

# RFC 6238, appendix B: time and the last six digits of the eight, for SHA-1.
SECRET = b"12345678901234567890"
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("moment", "code"), VECTORS)
def test_codes_are_those_of_the_rfc(moment: int, code: str) -> None:
    assert totp.code_at(SECRET, moment // 30) == code
    assert totp.matching_step(SECRET, code, after=0, now=moment) == moment // 30


@pytest.mark.parametrize(
    ("steps", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_clocks_may_differ_by_one_step(steps: int, fits: bool) -> None:
    moment = 1111111109
    code = totp.code_at(SECRET, moment // 30 + steps)
    found = totp.matching_step(SECRET, code, after=0, now=moment)
    assert found == (moment // 30 + steps if fits else None)


def test_a_step_that_was_used_and_those_before_it_fit_no_more() -> None:
    moment, step = 1111111109, 1111111109 // 30
    code = totp.code_at(SECRET, step)
    assert totp.matching_step(SECRET, code, after=step - 1, now=moment) == step
    assert totp.matching_step(SECRET, code, after=step, now=moment) is None
    assert totp.matching_step(SECRET, code, after=step + 1, now=moment) is None


@pytest.mark.parametrize("code", ["", "00000", "0000000", "٢٨٧٠٨٢"])
def test_what_is_no_code_fits_nothing(code: str) -> None:
    assert totp.matching_step(SECRET, code, after=0, now=59) is None


def test_the_url_says_all_that_an_authenticator_needs() -> None:
    parts = urlsplit(totp.setup_url(SECRET, "admin@devbots.gantry.internal"))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/Gantry:admin@devbots.gantry.internal"
    assert parse_qs(parts.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"],
        "issuer": ["Gantry"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }
    # The family's Python SDK reads it so, without cutting the URL first.
    assert parse_qs(parts.geturl())["secret"] == ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"]


def test_secrets_are_random_and_long() -> None:
    assert len({totp.new_secret() for _ in range(100)}) == 100
    assert len(totp.new_secret()) == 20


def test_a_sealed_secret_opens_under_its_key_for_its_owner_alone() -> None:
    vault = Vault("k" * 32, "second factors")
    sealed = vault.seal(SECRET, "5")
    assert vault.open(sealed, "5") == SECRET
    assert vault.seal(SECRET, "5") != sealed
    assert "1234567890" not in sealed
    for other, owner in (
        (Vault("l" * 32, "second factors"), "5"),
        (Vault("k" * 32, "others"), "5"),
        (vault, "6"),
    ):
        with pytest.raises(UnreadableError):
            other.open(sealed, owner)
    for broken in ("", "v1.", "v1.!", sealed[:-8], sealed[:-4] + "AAAA"):
        with pytest.raises(UnreadableError):
            vault.open(broken, "5")
