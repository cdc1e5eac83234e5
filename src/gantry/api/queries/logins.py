"""Tries at logging in: how many failed, of which name, from which place."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import LoginAttempt


@dataclass(frozen=True, slots=True)
class Around:
    """Tries of a name from all places, and of all names from a place; the oldest's time."""

    of_name: int
    of_place: int
    oldest: datetime


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


def around(
    session: Session, username: str, address: str, window_start: datetime, limit: int
) -> Around:
    """What was tried since `window_start` as this name elsewhere, or from here as others.

    At most `limit` of a name from a place count: those beyond it were not judged.
    """
    tries = func.least(LoginAttempt.failures, limit)
    of_name, of_place, oldest = session.execute(
        select(
            func.coalesce(func.sum(tries).filter(LoginAttempt.username == username), 0),
            func.coalesce(func.sum(tries).filter(LoginAttempt.address == address), 0),
            func.coalesce(func.min(LoginAttempt.last_failure_at), func.now()),
        ).where(
            or_(LoginAttempt.username == username, LoginAttempt.address == address),
            LoginAttempt.last_failure_at >= window_start,
        )
    ).one()
    return Around(int(of_name), int(of_place), oldest)


def is_known(session: Session, username: str, address: str, since: datetime) -> bool:
    """Whether this name has logged in from there since then."""
    found = select(LoginAttempt.username).where(
        LoginAttempt.username == username,
        LoginAttempt.address == address,
        LoginAttempt.last_success_at >= since,
    )
    return session.scalar(found) is not None


def succeeded(session: Session, username: str, address: str) -> None:
    """Start counting anew, and know the place."""
    session.execute(
        update(LoginAttempt)
        .where(LoginAttempt.username == username, LoginAttempt.address == address)
        .values(failures=0, last_success_at=func.now())
    )


def forget(session: Session, usernames: list[str]) -> None:
    """Drop all counters of these names."""
    session.execute(delete(LoginAttempt).where(LoginAttempt.username.in_(usernames)))


def forget_before(session: Session, failed: datetime, succeeded: datetime) -> None:
    """Drop the counters without a failure since `failed` and without a success since the other."""
    session.execute(
        delete(LoginAttempt).where(
            LoginAttempt.last_failure_at < failed,
            LoginAttempt.last_success_at.is_(None) | (LoginAttempt.last_success_at < succeeded),
        )
    )
