"""Secrets that the api must read again, encrypted as they are stored.

AES-256-GCM (NIST SP 800-38D) under a key that HKDF (RFC 5869) derives from the fleet's data key.
What a secret belongs to is authenticated with it: put into another row, it opens no more.
"""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PREFIX = "v1."
_NONCE_BYTES = 12


class UnreadableError(Exception):
    """It was encrypted under another key, for something else, or changed since."""


class Vault:
    """Seals and opens secrets of one purpose."""

    def __init__(self, data_key: str, purpose: str) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=f"gantry {purpose}".encode())
        self._cipher = AESGCM(derived.derive(data_key.encode()))

    def seal(self, secret: bytes, owner: str) -> str:
        """What is stored of a secret that belongs to `owner`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret, owner.encode())
        return _PREFIX + base64.b64encode(sealed).decode()

    def open(self, stored: str, owner: str) -> bytes:
        """The secret again.

        Raises:
            UnreadableError: not sealed under this key for this owner.
        """
        try:
            sealed = base64.b64decode(stored.removeprefix(_PREFIX), validate=True)
            nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, text, owner.encode())
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise UnreadableError("the stored secret does not open under this key") from error
