"""SSH public keys that people add: which are taken, and under which fingerprint."""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from gantry.api.errors import BadRequestError

MIN_RSA_BITS = 2048
ACCEPTED = "ssh-ed25519, ecdsa-sha2-nistp256/384/521 or ssh-rsa of 2048 bits and more"


@dataclass(frozen=True, slots=True)
class SshKey:
    """One key: `line` is its type and its base64, without a comment."""

    line: str
    comment: str
    fingerprint: str


def parse(text: str) -> SshKey:
    """The key in one line of an OpenSSH `.pub` file (format: sshd(8), AUTHORIZED_KEYS).

    Raises:
        BadRequestError: no such line, a type that is not taken, too short, or damaged.
    """
    parts = text.strip().split(None, 2)
    if len(parts) < 2 or "\n" in text.strip() or "\r" in text.strip():
        raise BadRequestError(
            "the SSH key is not one line of `type base64 comment`: paste the content of a .pub file"
        )
    kind, body = parts[0], parts[1]
    try:
        key = load_ssh_public_key(f"{kind} {body}".encode())
        raw = base64.b64decode(body, validate=True)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadRequestError(
            f"the SSH key of type {kind[:40]!r} cannot be read: use {ACCEPTED}"
        ) from error
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise BadRequestError(
                f"the RSA key has {key.key_size} bits: use one of {MIN_RSA_BITS} and more, or "
                "ssh-ed25519"
            )
    elif not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey):
        raise BadRequestError(f"SSH keys of type {kind[:40]!r} are not taken: use {ACCEPTED}")
    digest = base64.b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    comment = "".join(c for c in (parts[2] if len(parts) > 2 else "") if c.isprintable())
    return SshKey(f"{kind} {body}", comment.strip(), f"SHA256:{digest}")
