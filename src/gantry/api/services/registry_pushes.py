"""Pushes to the registry, and whiles without any: what the collector removes, no push relies on.

Whoever pushes holds a lease; whoever is given a token to push and holds none has one by it, until
the token ends. The collector holds pushes back only when no lease is held, and is told what was
pushed to since it looked (docs/decisions/0023-registry-space.md).
"""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from gantry.api.errors import ApiError, ConflictError, NotFoundError
from gantry.api.queries import records, registry

# A builder renews its lease four times in it.
LEASE = timedelta(minutes=2)
# A token to push, for who holds no lease.
TOKEN = timedelta(minutes=15)
# Pushes wait for the collector no longer than this, unless it stopped amid its work: then until
# its next start, and no longer than the latter.
WAIT = timedelta(seconds=20)
REST = timedelta(seconds=60)
HOLD = timedelta(minutes=10)


class HeldBackError(ApiError):
    """No push begins just now."""

    status = 503

    def __init__(self) -> None:
        super().__init__(
            "the registry's space is being collected: pushes wait for some seconds",
            headers={"Retry-After": "1"},
        )


def begin(session: Session, repository: str, holder: str) -> int:
    """A lease for a push to this repository; its id.

    Raises:
        HeldBackError: not now.
    """
    registry.take_turn(session)
    if registry.holding(session) is not None:
        raise HeldBackError
    return registry.add_push(session, repository, holder, LEASE)


def renew(session: Session, push_id: int) -> None:
    """The push goes on.

    Raises:
        NotFoundError: its lease is over: what it found in the registry may be gone.
    """
    if not registry.renew_push(session, push_id, LEASE):
        raise NotFoundError(f"there is no push {push_id} that goes on")


def end(session: Session, push_id: int) -> None:
    """The push has ended."""
    registry.end_push(session, push_id)


def by_token(session: Session, repository: str) -> timedelta | None:
    """How long a token to push to this repository may hold; None: as long as any.

    Raises:
        HeldBackError: not now.
    """
    if registry.is_pushed_to(session, repository):
        return None
    registry.take_turn(session)
    if registry.holding(session) is not None:
        raise HeldBackError
    registry.add_push(session, repository, "token", TOKEN)
    return TOKEN


def hold(session: Session, run_id: int, since: datetime) -> list[str] | None:
    """Hold pushes back for the collector's run: what was pushed to since then. None: not yet.

    Raises:
        ConflictError: the run is over.
    """
    registry.take_turn(session)
    run = registry.run_by_id(session, run_id, lock=True)
    if run is None or run.status != "running":
        raise ConflictError(f"run {run_id} over the registry is over")
    now = records.now(session)
    if registry.pushes_go_on(session):
        _wait(run_id, session, now)
        return None
    run.waits_until = None
    run.hold_rests_until = None
    run.holds_until = now + HOLD
    session.flush()
    return registry.pushed_since(session, since)


def _wait(run_id: int, session: Session, now: datetime) -> None:
    """Those that go on may end; new ones begin after a while, or when this has come to nothing."""
    run = registry.run_by_id(session, run_id)
    if run is None:
        return
    waited = run.waits_until is not None and run.waits_until <= now
    if waited and run.hold_rests_until is None:
        run.hold_rests_until = now + REST
    elif run.hold_rests_until is not None and run.hold_rests_until <= now:
        run.hold_rests_until = None
        run.waits_until = now + WAIT
    elif run.waits_until is None:
        run.waits_until = now + WAIT
    session.flush()


def release(session: Session, run_id: int) -> None:
    """Let pushes begin."""
    run = registry.run_by_id(session, run_id, lock=True)
    if run is not None:
        run.waits_until = run.holds_until = run.hold_rests_until = None
        session.flush()
