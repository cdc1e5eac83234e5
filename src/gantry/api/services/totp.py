"""Codes by time (RFC 6238), as authenticators make them: SHA-1, six digits, thirty seconds."""

import hmac
import secrets
import time

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP_SECONDS = 30
DIGITS = 6
# Steps before and after the current one: clocks differ, and people type slowly (RFC 6238, 5.2).
WINDOW = 1
SECRET_BYTES = 20
ISSUER = "Gantry"


def new_secret() -> bytes:
    """160 random bits, the length that RFC 4226 recommends."""
    return secrets.token_bytes(SECRET_BYTES)


def _totp(secret: bytes) -> TOTP:
    # Authenticators know no other hash for sure; HMAC does not suffer from SHA-1's collisions.
    return TOTP(secret, DIGITS, SHA1(), STEP_SECONDS)  # noqa: S303


def setup_url(secret: bytes, account: str) -> str:
    """What an authenticator is given, as a QR code mostly (Google's Key URI format).

    The family's Python SDK reads `secret` only where it is not the first of the parameters.
    """
    return _totp(secret).get_provisioning_uri(account, ISSUER)


def code_at(secret: bytes, step: int) -> str:
    """The code of one time step."""
    return _totp(secret).generate(step * STEP_SECONDS).decode()


def matching_step(secret: bytes, code: str, after: int, now: float | None = None) -> int | None:
    """The time step that `code` is of, if it is in the window and later than `after`."""
    current = int((time.time() if now is None else now) // STEP_SECONDS)
    found = None
    # All are compared, in constant time each, whichever it is.
    for step in range(current - WINDOW, current + WINDOW + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()) and step > after:
            found = step
    return found
