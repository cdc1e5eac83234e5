"""Keys and passwords: made, hashed, compared."""

import hashlib
import hmac
import re
import secrets
import threading
import uuid as uuid_module

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gantry.api.errors import BadRequestError

# OWASP's first recommendation for Argon2id: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Each computation takes its memory: many at once would take all of the machine's.
_SLOTS = threading.BoundedSemaphore(2)

KEY_PATTERN = re.compile(r"^[A-Za-z0-9._-]{32,255}$")


def new_key() -> str:
    """An API key: 32 characters of 192 random bits, safe in URLs and file names."""
    return secrets.token_urlsafe(24)


def new_uuid() -> str:
    """A uuid as the family writes it: 32 hexadecimal digits."""
    return uuid_module.uuid4().hex


def hash_key(key: str) -> str:
    """What is stored of a key. Keys are random and long: one SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def check_password(password: str) -> None:
    """Raise BadRequestError for a password that is too short."""
    if len(password) < 8:
        raise BadRequestError("the password is too short: use 8 characters and more")


def hash_password(password: str) -> str:
    """What is stored of a password (Argon2id, with its parameters and salt)."""
    with _SLOTS:
        return _HASHER.hash(password)


def password_matches(stored: str | None, password: str) -> bool:
    """Whether `password` belongs to `stored`; takes as long where there is no such account."""
    with _SLOTS:
        try:
            return _HASHER.verify(stored or _nobody(), password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(stored: str) -> bool:
    """Whether a stored hash was made with other parameters than those in use."""
    return _HASHER.check_needs_rehash(stored)


def _nobody() -> str:
    """A hash that no password belongs to, with the parameters in use."""
    salt = "c29tZXNhbHRzb21lc2FsdA"
    return f"$argon2id$v=19$m={19 * 1024},t=2,p=1${salt}$" + "A" * 43
