"""Logging in, session tokens, and telling who a request comes from."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor
from gantry.api.database import Database
from gantry.api.errors import TooManyRequestsError, UnauthorizedError
from gantry.api.models import ApiKey, KeyRole, User
from gantry.api.queries import accounts
from gantry.api.services.secrets import hash_key, password_matches

log = logging.getLogger(__name__)

# The family's rule: ten tries, then an hour.
LOGIN_TRIES = 10
LOGIN_BLOCK = timedelta(hours=1)
SESSION_TIME = timedelta(days=7)

_ALGORITHM = "HS256"


@dataclass(frozen=True)
class Sessions:
    """Makes and reads session tokens, signed with the fleet's own secret."""

    secret: str
    issuer: str

    def token(self, user: User) -> str:
        """A JWT for seven days, under the claims that the family's clients read."""
        now = datetime.now(UTC)
        return jwt.encode(
            {
                "iss": self.issuer,
                "id": user.id,
                "actor": user.actor,
                "username": user.username,
                "email": user.email,
                "epoch": user.session_epoch,
                "authTime": int(now.timestamp() * 1000),
                "iat": now,
                "exp": now + SESSION_TIME,
            },
            self.secret,
            algorithm=_ALGORITHM,
        )

    def user(self, session: Session, token: str) -> User | None:
        """Whose token it is, if it still holds."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self.secret, algorithms=[_ALGORITHM], issuer=self.issuer
            )
        except jwt.InvalidTokenError:
            return None
        user = accounts.user_by_id(session, int(claims["id"]))
        if user is None or user.session_epoch != claims["epoch"]:
            return None
        return user

    def actor(self, session: Session, credential: str) -> Actor | None:
        """Who holds this session token or API key; None for nobody known."""
        # A JWT has two dots and begins with the base64 of `{"`; keys never do.
        if credential.startswith("eyJ") and credential.count(".") == 2:
            user = self.user(session, credential)
            return user_actor(user) if user else None
        key = accounts.valid_key(session, hash_key(credential))
        return _actor_of_key(session, key) if key else None


def user_actor(user: User) -> UserActor:
    """The actor that a user is."""
    return UserActor(user.actor, user.id, user.username, user.email, user.is_administrator)


def _actor_of_key(session: Session, key: ApiKey) -> Actor | None:
    actor_id = key.is_of__actor
    if key.role == KeyRole.USER:
        user = accounts.user_of_actor(session, actor_id)
        return user_actor(user) if user else None
    if key.role == KeyRole.DEVICE:
        device = accounts.device_of_actor(session, actor_id)
        if device is None:
            return None
        return DeviceActor(actor_id, device.id, device.uuid, device.belongs_to__application)
    application = accounts.application_of_actor(session, actor_id)
    return ProvisioningActor(actor_id, application.id) if application else None


def login(
    database: Database, sessions: Sessions, username: str, password: str, address: str
) -> str:
    """A session token for this name and password.

    Raises:
        UnauthorizedError: no such name, or another password.
        TooManyRequestsError: ten tries failed from this address; an hour must pass.
    """
    # Bounded, so that a table cannot be filled with long names.
    name = username[:64]
    with database.transaction() as session:
        tries, last = accounts.count_attempt(
            session, name, address, datetime.now(UTC) - LOGIN_BLOCK, LOGIN_TRIES
        )
    if tries > LOGIN_TRIES:
        wait = max(1, int((last + LOGIN_BLOCK - datetime.now(UTC)).total_seconds()))
        raise TooManyRequestsError(
            f"{LOGIN_TRIES} logins as {name!r} failed: try again in {-(-wait // 60)} minutes", wait
        )
    with database.transaction() as session:
        user = accounts.user_by_name(session, name)
    # Outside of any transaction: it takes long on purpose.
    if not password_matches(user.password_hash if user else None, password) or user is None:
        log.info("login failed: user=%r address=%s try=%d", name, address, tries)
        raise UnauthorizedError("the user name or the password is wrong")
    with database.transaction() as session:
        accounts.forget_attempts(session, name, address)
    return sessions.token(user)
