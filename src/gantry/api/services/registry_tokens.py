"""Tokens for the registry and the delta server.

They are the distribution project's (https://distribution.github.io/distribution/spec/auth/jwt/),
ES256 with `x5c`.
"""

import base64
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, ServiceActor, UserActor
from gantry.api.errors import BadRequestError
from gantry.api.queries import releases
from gantry.api.services import registry_pushes

LIFETIME = timedelta(hours=4)
PULL, PUSH, DELETE = "pull", "push", "delete"
_SCOPE = re.compile(
    r"^repository(?:\([a-z0-9-]+\))?:(?P<name>[a-z0-9][a-z0-9._/-]*):(?P<actions>[a-z*,]*)$"
)
_SUPERVISOR = re.compile(r"^gantry/[a-z0-9]+-supervisor$")


@dataclass(frozen=True, slots=True)
class Access:
    """What one token allows on one repository."""

    name: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class TokenSigner:
    """Signs tokens with the fleet's key; registry and delta server trust its certificate."""

    issuer: str
    key_pem: str
    certificate_pem: str

    def sign(
        self,
        subject: str,
        audience: str,
        access: Iterable[Access],
        lifetime: timedelta = LIFETIME,
    ) -> dict[str, Any]:
        """The answer of the token endpoint: token, times, all as the specification has it.

        `audience` is the service that the token is for: no other takes it.
        """
        certificate = load_pem_x509_certificate(self.certificate_pem.encode())
        now = datetime.now(UTC)
        token = jwt.encode(
            {
                "iss": self.issuer,
                "sub": subject,
                "aud": audience,
                "iat": now,
                # Clocks differ a little between machines.
                "nbf": now - timedelta(seconds=30),
                "exp": now + lifetime,
                "jti": secrets.token_hex(16),
                "access": [
                    {"type": "repository", "name": each.name, "actions": list(each.actions)}
                    for each in access
                ],
            },
            self.key_pem,
            algorithm="ES256",
            headers={"x5c": [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]},
        )
        return {
            "token": token,
            "access_token": token,
            "expires_in": int(lifetime.total_seconds()),
            "issued_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }


def parse_scopes(scopes: Iterable[str]) -> list[Access]:
    """What is asked for. Other types than repositories are left out: nobody is granted them.

    Raises:
        BadRequestError: a scope for a repository that is not `repository:NAME:ACTIONS`.
    """
    asked: list[Access] = []
    for scope in (part for value in scopes for part in value.split()):
        if not scope.startswith("repository"):
            continue
        match = _SCOPE.fullmatch(scope)
        if match is None:
            raise BadRequestError(
                f"the scope {scope[:100]!r} is not of the form repository:NAME:pull,push"
            )
        asked.append(Access(match["name"], tuple(match["actions"].split(","))))
    return asked


def grant(
    session: Session, actor: Actor | ServiceActor | None, asked: Iterable[Access]
) -> list[Access]:
    """The part of what is asked that `actor` may have."""
    granted = []
    for each in asked:
        allowed = _allowed(session, actor, each.name)
        actions = tuple(action for action in (PULL, PUSH, DELETE) if action in each.actions)
        actions = tuple(action for action in actions if action in allowed)
        if actions:
            granted.append(Access(each.name, actions))
    return granted


def lifetime(session: Session, granted: Iterable[Access]) -> timedelta:
    """How long a token of this holds. One to push, for who holds no lease of a push, is one.

    Raises:
        HeldBackError: no push begins just now.
    """
    pushes = [each.name for each in granted if PUSH in each.actions]
    ends = [registry_pushes.by_token(session, name) for name in pushes]
    return min((each for each in ends if each is not None), default=LIFETIME)


def for_deltas(granted: Iterable[Access]) -> list[Access]:
    """Of what is granted, what is for the delta server: there nothing can be pushed."""
    left = [
        Access(each.name, tuple(action for action in each.actions if action != PUSH))
        for each in granted
    ]
    return [each for each in left if each.actions]


def _allowed(session: Session, actor: Actor | ServiceActor | None, name: str) -> tuple[str, ...]:
    match actor:
        case ServiceActor(name="builder"):
            return (PULL, PUSH)
        case ServiceActor(name="collector"):
            return (PULL, DELETE)
        case ServiceActor(name="deltas"):
            return (PULL,)
        case ProvisioningActor() if _SUPERVISOR.fullmatch(name):
            return (PULL,)
        case DeviceActor() | UserActor() if name.startswith("gantry/"):
            return (PULL,)
        case DeviceActor(application_id=application_id):
            return (PULL,) if releases.has_repository(session, application_id, name) else ()
        case UserActor(user_id=user_id):
            return (PULL,) if releases.owns_repository(session, user_id, name) else ()
        case _:
            return ()
