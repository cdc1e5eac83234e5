"""Logging in, session tokens, and telling who a request comes from."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, ProvisioningActor, UserActor
from gantry.api.database import Database
from gantry.api.errors import UnauthorizedError
from gantry.api.models import User
from gantry.api.queries import accounts
from gantry.api.services import audit, throttle
from gantry.api.services.secrets import (
    check_password,
    hash_key,
    hash_password,
    needs_rehash,
    password_matches,
)
from gantry.api.services.throttle import Door

log = logging.getLogger(__name__)

SESSION_TIME = timedelta(days=7)

_ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Login:
    """A session: whose, since and until when, and whether its second factor is to be passed."""

    user: User
    auth_time: int
    until: datetime
    has_factor: bool
    is_partial: bool

    def whole(self) -> "Login":
        """The same, if it is passed.

        Raises:
            UnauthorizedError: the second factor is missing.
        """
        if self.is_partial:
            raise UnauthorizedError(
                "this session has not passed the account's second factor: send a code of your "
                "authenticator to POST /auth/totp/verify"
            )
        return self


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a credential, what it is called when it ends early, and when it ends of itself."""

    actor: Actor
    credential: str
    until: datetime | None


@dataclass(frozen=True)
class Sessions:
    """Makes and reads session tokens, signed with the fleet's own secret."""

    secret: str
    issuer: str

    def token(
        self, user: User, *, lacks_factor: bool | None = None, auth_time: int | None = None
    ) -> str:
        """A JWT for seven days, under the claims that the family's clients read.

        `lacks_factor`: whether the second factor is still to be passed; None where the account
        has none, and the claim is not there. `auth_time`: of the login that it goes on from, in
        milliseconds.
        """
        now = datetime.now(UTC)
        factor = {} if lacks_factor is None else {"twoFactorRequired": lacks_factor}
        return jwt.encode(
            {
                "iss": self.issuer,
                "id": user.id,
                "actor": user.actor,
                "username": user.username,
                "email": user.email,
                "epoch": user.session_epoch,
                "authTime": auth_time or int(now.timestamp() * 1000),
                "iat": now,
                "exp": now + SESSION_TIME,
                **factor,
            },
            self.secret,
            algorithm=_ALGORITHM,
        )

    def login(self, session: Session, token: str) -> Login | None:
        """The session of this token, if it still holds."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self.secret, algorithms=[_ALGORITHM], issuer=self.issuer
            )
        except jwt.InvalidTokenError:
            return None
        found = accounts.user_and_factor(session, int(claims["id"]))
        if found is None or found[0].session_epoch != claims["epoch"]:
            return None
        user, has_factor = found
        is_partial = has_factor and claims.get("twoFactorRequired") is not False
        until = datetime.fromtimestamp(claims["exp"], UTC)
        return Login(user, int(claims["authTime"]), until, has_factor, is_partial)

    def renewed(self, login: Login) -> str:
        """A token for its full time from now, of the same login."""
        lacks_factor = login.is_partial if login.has_factor else None
        return self.token(login.user, lacks_factor=lacks_factor, auth_time=login.auth_time)

    def actor(self, session: Session, credential: str) -> Actor | None:
        """Who holds this session token or API key; None for nobody known.

        Raises:
            UnauthorizedError: a session that has not passed its second factor.
        """
        holder = self.holder(session, credential)
        return holder.actor if holder else None

    def holder(self, session: Session, credential: str) -> Holder | None:
        """As `actor`, and until when."""
        if is_token(credential):
            login = self.login(session, credential)
            if login is None:
                return None
            user = login.whole().user
            # Another epoch's sessions end at another time, under another name.
            return Holder(user_actor(user), f"user:{user.id}:{user.session_epoch}", login.until)
        key = accounts.key_holder(session, hash_key(credential))
        actor = _actor_of_key(key) if key else None
        if key is None or actor is None:
            return None
        return Holder(actor, f"key:{key.key_id}", key.expiry_date)


def is_token(credential: str) -> bool:
    """Whether it is a session token: two dots, and the base64 of `{"` first; no key is so."""
    return credential.startswith("eyJ") and credential.count(".") == 2


def user_actor(user: User) -> UserActor:
    """The actor that a user is."""
    return UserActor(user.actor, user.id, user.username, user.email, user.is_administrator)


def _actor_of_key(key: accounts.KeyHolder) -> Actor | None:
    if key.user:
        return UserActor(key.actor_id, *key.user, by_key=True)
    if key.device:
        return DeviceActor(key.actor_id, *key.device)
    if key.application_id is not None:
        return ProvisioningActor(key.actor_id, key.application_id)
    return None


def login(database: Database, sessions: Sessions, username: str, password: str, place: str) -> str:
    """A session token for this name and password.

    Raises:
        UnauthorizedError: no such name, or another password.
        TooManyRequestsError: too many tries failed; an hour must pass.
    """
    user_id = authenticate(database, username, password, place).id
    with database.transaction() as session:
        found = accounts.user_and_factor(session, user_id)
    if found is None:
        raise UnauthorizedError("this account is gone")
    user, has_factor = found
    return sessions.token(user, lacks_factor=True if has_factor else None)


def authenticate(database: Database, username: str, password: str, place: str) -> User:
    """The user of this name, who knows the password.

    Raises:
        UnauthorizedError, TooManyRequestsError: as `login`.
    """
    # Bounded, so that a table cannot be filled with long names.
    door = Door(username[:64], place)
    tries = throttle.knock(database, door)
    with database.transaction() as session:
        user = accounts.user_by_name(session, door.name)
    # Outside of any transaction: it takes long on purpose.
    if not password_matches(user.password_hash if user else None, password) or user is None:
        log.info("login failed: user=%r from=%s try=%d", door.name, place, tries)
        raise UnauthorizedError("the user name or the password is wrong")
    stronger = hash_password(password) if needs_rehash(user.password_hash) else None
    with database.transaction() as session:
        throttle.opened(session, door)
        if stronger is not None:
            accounts.replace_hash(session, user.id, user.password_hash, stronger)
    return user


def change_password(
    database: Database, sessions: Sessions, login: Login, old: str, new: str, place: str
) -> str:
    """Store a new password, which ends all sessions; the token of a new one.

    Raises:
        BadRequestError: the new one is too short.
        UnauthorizedError: the old one is wrong.
        TooManyRequestsError: as `login`.
    """
    check_password(new)
    user = authenticate(database, login.user.username, old, place)
    stored = hash_password(new)
    with database.transaction() as session:
        accounts.set_password(session, user.id, stored)
        changes = {"password": new}
        audit.note(session, user_actor(user), audit.Action.UPDATE, User, [user.id], changes)
        found = accounts.user_and_factor(session, user.id)
    if found is None:
        raise UnauthorizedError("this account is gone")
    log.info("password changed: %s", user.username)
    return sessions.token(found[0], lacks_factor=False if found[1] else None)
