"""Users, their keys and their failed logins."""

from datetime import datetime

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import (
    Actor,
    ApiKey,
    Application,
    Device,
    LoginAttempt,
    PublicKey,
    User,
)


def user_by_name(session: Session, username: str) -> User | None:
    """The user of this name."""
    return session.scalar(select(User).where(User.username == username))


def user_by_id(session: Session, user_id: int) -> User | None:
    """The user of this id."""
    return session.get(User, user_id)


def usernames(session: Session) -> list[str]:
    """All login names, in order."""
    return list(session.scalars(select(User.username).order_by(User.username)))


def new_actor(session: Session) -> int:
    """A new actor's id."""
    actor = Actor()
    session.add(actor)
    session.flush()
    return actor.id


def valid_key(session: Session, key_hash: str) -> ApiKey | None:
    """The API key of this hash, unless its time is over."""
    return session.scalar(
        select(ApiKey).where(
            ApiKey.key_hash == key_hash,
            ApiKey.expiry_date.is_(None) | (ApiKey.expiry_date > func.now()),
        )
    )


def user_of_actor(session: Session, actor_id: int) -> User | None:
    """The user who acts as `actor_id`."""
    return session.scalar(select(User).where(User.actor == actor_id))


def device_of_actor(session: Session, actor_id: int) -> Device | None:
    """The device that acts as `actor_id`."""
    return session.scalar(select(Device).where(Device.actor == actor_id, Device.is_active))


def application_of_actor(session: Session, actor_id: int) -> Application | None:
    """The application that acts as `actor_id`."""
    return session.scalar(select(Application).where(Application.actor == actor_id))


def public_keys(session: Session, username: str) -> list[PublicKey]:
    """The SSH keys of a user, the oldest first."""
    return list(
        session.scalars(
            select(PublicKey)
            .join(User, User.id == PublicKey.user)
            .where(User.username == username)
            .order_by(PublicKey.id)
        )
    )


def public_key_by_fingerprint(session: Session, user_id: int, fingerprint: str) -> PublicKey | None:
    """A user's SSH key of this fingerprint."""
    return session.scalar(
        select(PublicKey).where(PublicKey.user == user_id, PublicKey.fingerprint == fingerprint)
    )


def count_attempt(
    session: Session, username: str, address: str, window_start: datetime, limit: int
) -> tuple[int, datetime]:
    """Count one more try, and answer how many there are since `window_start`, and the last's time.

    Counted before the password is looked at, so that tries side by side all count. Tries beyond
    `limit` do not move the time: a block ends although someone goes on trying.
    """
    row = insert(LoginAttempt).values(
        username=username, address=address, failures=1, last_failure_at=func.now()
    )
    counted = row.on_conflict_do_update(
        index_elements=["username", "address"],
        set_={
            "failures": case(
                (LoginAttempt.last_failure_at < window_start, 1),
                else_=LoginAttempt.failures + 1,
            ),
            "last_failure_at": case(
                (
                    (LoginAttempt.failures >= limit)
                    & (LoginAttempt.last_failure_at >= window_start),
                    LoginAttempt.last_failure_at,
                ),
                else_=func.now(),
            ),
        },
    )
    return (
        session.execute(counted.returning(LoginAttempt.failures, LoginAttempt.last_failure_at))
        .one()
        ._tuple()
    )


def forget_attempts(session: Session, username: str, address: str) -> None:
    """Start counting anew."""
    session.execute(
        delete(LoginAttempt).where(
            LoginAttempt.username == username, LoginAttempt.address == address
        )
    )


def forget_attempts_before(session: Session, moment: datetime) -> None:
    """Drop the counters that nobody has touched since `moment`."""
    session.execute(delete(LoginAttempt).where(LoginAttempt.last_failure_at < moment))


def set_password(session: Session, user_id: int, password_hash: str) -> None:
    """Store a new password, which ends the user's sessions."""
    session.execute(
        update(User)
        .where(User.id == user_id)
        .values(password_hash=password_hash, session_epoch=User.session_epoch + 1)
    )
