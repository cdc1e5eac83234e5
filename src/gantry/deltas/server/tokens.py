"""Bearer tokens, as the registry takes them (the distribution project's token specification).

The api signs them (ES256) and puts its certificate into the header (`x5c`). The registry is given
that one certificate as its root, and so is this server: any other is nobody's.
"""

import base64
import binascii
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificate

from gantry.deltas.server.errors import ForbiddenError, UnauthorizedError

LEEWAY_SECONDS = 60
MAX_TOKEN_BYTES = 64 * 1024
PULL = "pull"
# The api lets it the collector alone.
DELETE = "delete"


class Tokens:
    """Who may have which images."""

    def __init__(self, certificate_pem: str, *, issuer: str, service: str, realm: str) -> None:
        """Raises ValueError: no certificate of an EC key."""
        self._certificate: Certificate = load_pem_x509_certificate(certificate_pem.encode())
        key = self._certificate.public_key()
        if not isinstance(key, EllipticCurvePublicKey):
            raise ValueError("the token certificate is not of an EC key")
        self._key = key
        self._der = self._certificate.public_bytes(Encoding.DER)
        self._issuer = issuer
        self._service = service
        self._realm = realm

    def check(
        self,
        authorization: str | None,
        repositories: Collection[str],
        *others: str,
        action: str = PULL,
    ) -> None:
        """Returns when this header's token allows the action on all of these.

        It must be meant for this server, or for one of `others`.

        Raises:
            UnauthorizedError: no token, or none that holds; with the challenge to get one.
            ForbiddenError: it holds, and does not allow one of them.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            sentence = "this needs a token: `Authorization: Bearer …`"
            raise self._refuse(sentence, repositories, action)
        try:
            claims = self._claims(token.strip(), others)
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError) as error:
            sentence = f"the token is not valid ({_why(error)}): get another one"
            raise self._refuse(sentence, repositories, action, "invalid_token") from error
        allowed = set(_allowed(claims.get("access"), action))
        for name in repositories:
            if name not in allowed:
                raise ForbiddenError(f"the token does not allow to {action} {name[:200]}")

    def _claims(self, token: str, others: Sequence[str]) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError(f"it has {len(token)} bytes")
        chain = jwt.get_unverified_header(token).get("x5c")
        if not isinstance(chain, list) or not chain or not self._is_ours(chain[0]):
            raise ValueError("it is not signed under the fleet's token certificate")
        now = datetime.now(UTC)
        valid = self._certificate
        if not valid.not_valid_before_utc <= now <= valid.not_valid_after_utc:
            raise ValueError("the fleet's token certificate has ended: `gantry up` makes another")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key,
            algorithms=["ES256"],
            audience=[self._service, *others],
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "nbf", "iss", "aud"]},
        )
        return claims

    def _is_ours(self, encoded: object) -> bool:
        try:
            return base64.b64decode(str(encoded), validate=True) == self._der
        except binascii.Error:
            return False

    def _refuse(
        self, sentence: str, repositories: Collection[str], action: str, error: str | None = None
    ) -> UnauthorizedError:
        challenge = f'Bearer realm="{self._realm}",service="{self._service}"'
        if scope := " ".join(f"repository:{name}:{action}" for name in sorted(repositories)):
            challenge += f',scope="{scope}"'
        if error:
            challenge += f',error="{error}"'
        return UnauthorizedError(sentence, challenge=challenge)


def _allowed(access: object, action: str) -> Iterable[str]:
    """Names of the repositories for which an `access` claim has this action."""
    for each in access if isinstance(access, list) else ():
        if isinstance(each, dict) and each.get("type") == "repository":
            actions = each.get("actions")
            if isinstance(actions, list) and action in actions:
                yield str(each.get("name"))


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
