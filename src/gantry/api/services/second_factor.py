"""The optional second factor of an account: an authenticator's codes, and what replaces it."""

import base64
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.database import Database
from gantry.api.errors import BadRequestError, ConflictError, NotFoundError, UnauthorizedError
from gantry.api.models import SecondFactor, User
from gantry.api.queries import accounts, logins
from gantry.api.services import audit, throttle, totp
from gantry.api.services.secrets import hash_key
from gantry.api.services.sessions import Login, Sessions, authenticate, user_actor
from gantry.api.services.throttle import EVERYWHERE, Door
from gantry.api.services.vault import UnreadableError, Vault

log = logging.getLogger(__name__)

RECOVERY_CODES = 10
# 80 bits: nobody guesses one, so a fast hash of it is enough.
_RECOVERY_BYTES = 10


@dataclass(frozen=True)
class SecondFactors:
    """Sets up, asks for and removes second factors. `host` tells an authenticator which fleet."""

    database: Database
    sessions: Sessions
    vault: Vault
    host: str

    def set_up(self, login: Login) -> str:
        """An `otpauth://` URL with a new secret, which a first code must confirm.

        Raises:
            ConflictError: there is a second factor already.
        """
        user, secret = login.user, totp.new_secret()
        with self.database.transaction() as session:
            sealed = self.vault.seal(secret, str(user.id))
            if not accounts.set_up_second_factor(session, user.id, sealed):
                raise ConflictError("the account has a second factor: disable it first")
        return totp.setup_url(secret, f"{user.username}@{self.host}")

    def verify(self, login: Login, code: str) -> str:
        """The token of a session that has passed; a first code also makes the factor asked for.

        Codes are tried ten times an hour, from wherever: who tries them knows the password.

        Raises:
            BadRequestError: nothing has been set up.
            UnauthorizedError: a wrong code, or one that was taken before.
            ConflictError: the stored secret cannot be read.
            TooManyRequestsError: too many were wrong.
        """
        user = login.user
        plain = code.replace(" ", "").replace("-", "").lower()
        is_recovery = not (len(plain) == totp.DIGITS and plain.isdecimal())
        doors = _doors(user.username)
        door = doors[1] if is_recovery else doors[0]
        throttle.knock(self.database, door)
        with self.database.transaction() as session:
            factor = accounts.second_factor(session, user.id)
            if factor is None:
                raise BadRequestError("no second factor is set up: GET /auth/totp/setup first")
            if not (_recovers(factor, plain) if is_recovery else self._fits(factor, plain)):
                log.info("second factor refused: user=%r", user.username)
                raise UnauthorizedError(
                    "the code is wrong or was used already: wait for the next one"
                )
            auth_time: int | None = login.auth_time
            if factor.enabled_at is None:
                factor.enabled_at = datetime.now(UTC)
                accounts.end_sessions(session, user.id)
                _note(session, user_actor(user), user, "enabled")
                log.info("second factor enabled: user=%r", user.username)
                auth_time = None
            session.flush()
            throttle.opened(session, door)
            return self._token(session, user.id, auth_time)

    def _fits(self, factor: SecondFactor, code: str) -> bool:
        try:
            secret = self.vault.open(factor.sealed_secret, str(factor.user))
        except UnreadableError as error:
            raise ConflictError(
                "the fleet's data key has changed, and no code can be judged: use a recovery "
                "code, or let the administrator reset the second factor"
            ) from error
        step = totp.matching_step(secret, code, after=factor.last_step)
        if step is None:
            return False
        factor.last_step = step
        return True

    def disable(self, login: Login, password: str, place: str) -> str:
        """Ask for the password alone from now on; the token of a new session.

        Raises:
            BadRequestError: there is no second factor.
            UnauthorizedError, TooManyRequestsError: as a login's.
        """
        user = authenticate(self.database, login.user.username, password, place)
        with self.database.transaction() as session:
            if not accounts.remove_second_factor(session, user.id):
                raise BadRequestError("the account has no second factor")
            accounts.end_sessions(session, user.id)
            _note(session, user_actor(user), user, "disabled")
            log.info("second factor disabled: user=%r", user.username)
            return self._token(session, user.id)

    def recovery_codes(self, login: Login, password: str, place: str) -> list[str]:
        """New codes that replace an authenticator once each; the former ones hold no more.

        Raises:
            BadRequestError: there is no second factor.
            UnauthorizedError, TooManyRequestsError: as a login's.
        """
        user = authenticate(self.database, login.user.username, password, place)
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        with self.database.transaction() as session:
            factor = accounts.second_factor(session, user.id)
            if factor is None or factor.enabled_at is None:
                raise BadRequestError("the account has no second factor")
            factor.recovery_hashes = [hash_key(code.replace("-", "")) for code in codes]
        return codes

    def _token(self, session: Session, user_id: int, auth_time: int | None = None) -> str:
        found = accounts.user_and_factor(session, user_id)
        if found is None:
            raise UnauthorizedError("this account is gone")
        user, has_factor = found
        lacks_factor = False if has_factor else None
        return self.sessions.token(user, lacks_factor=lacks_factor, auth_time=auth_time)


def reset(session: Session, by: UserActor | None, username: str) -> User:
    """Remove the second factor of somebody who has lost it; their sessions end.

    `by` is None for whoever is at the machine itself.

    Raises:
        NotFoundError: no such account, or it has no second factor.
    """
    user = accounts.user_by_name(session, username)
    if user is None or not accounts.remove_second_factor(session, user.id):
        what = "there is no account" if user is None else "there is no second factor of"
        raise NotFoundError(f"{what} {username[:64]!r}")
    accounts.end_sessions(session, user.id)
    logins.forget(session, [door.name for door in _doors(username)])
    _note(session, by, user, "reset")
    log.info("second factor reset: user=%r", username)
    return user


def _note(session: Session, by: UserActor | None, user: User, what: str) -> None:
    audit.note(session, by, audit.Action.UPDATE, User, [user.id], {"second_factor": what})


def _doors(username: str) -> tuple[Door, Door]:
    """Of codes and of recovery codes: wrong ones of the one kind do not close the other."""
    # No user name has a blank in it.
    return Door(f"code of {username}", EVERYWHERE), Door(f"recovery of {username}", EVERYWHERE)


def _recovers(factor: SecondFactor, code: str) -> bool:
    hashed = hash_key(code)
    if factor.enabled_at is None or hashed not in factor.recovery_hashes:
        return False
    factor.recovery_hashes = [each for each in factor.recovery_hashes if each != hashed]
    return True


def _new_recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
