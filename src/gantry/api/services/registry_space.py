"""Runs over the registry: ordered by people or by the schedule, carried out by the collector."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.config import RegistrySpace
from gantry.api.database import Database
from gantry.api.errors import ConflictError, ForbiddenError, NotFoundError
from gantry.api.models import RegistryRun, Release
from gantry.api.queries import records, registry
from gantry.api.registry_needs import Keep, Needs, judge
from gantry.api.rules import broken
from gantry.api.services import audit
from gantry.contracts.registry_space import Order, RunKind, RunStatus

log = logging.getLogger(__name__)

# A run that gave no sign of life for so long is over.
SILENCE = timedelta(minutes=10)
# Discarded images are told to this many days' runs.
REMEMBER = timedelta(days=365)
SHOWN = 10
RUNS = 50
# A device may be pinned on a release just while it is condemned; then it is judged again.
TRIES = 5
_TEXT = 500


class NewRun(BaseModel):
    """What is ordered. `linger`: seconds for which the parts of removed images stay, so that pulls
    that have begun can end; without it, as the fleet is set."""

    model_config = ConfigDict(extra="forbid")

    kind: RunKind
    linger: Annotated[int, Field(ge=0, le=30 * 86400)] | None = None


class Progress(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(extra="forbid")

    text: str


class Since(BaseModel):
    """When a run began, by the api's clock."""

    model_config = ConfigDict(extra="forbid")

    since: datetime


class RunEnd(BaseModel):
    """How a run ended."""

    model_config = ConfigDict(extra="forbid")

    report: dict[str, Any] | None = None
    error: str | None = None


def administrator(actor: UserActor) -> None:
    """The registry holds the images of all: it is for administrators of the fleet.

    Raises:
        ForbiddenError: the user is none.
    """
    if not actor.is_administrator:
        raise ForbiddenError("the registry's space is for administrators of the fleet")


def order(
    session: Session, actor: UserActor, settings: RegistrySpace, asked: NewRun
) -> RegistryRun:
    """A new run, which the collector begins within seconds.

    Raises:
        ForbiddenError: the user is no administrator.
        ConflictError: one is waiting or going on.
    """
    administrator(actor)
    registry.take_turn(session)
    going_on = registry.open_run(session)
    if going_on is not None:
        raise ConflictError(
            f"run {going_on.id} over the registry ({going_on.kind}) is {going_on.status}: wait "
            "for its end"
        )
    run = _new(session, asked.kind, settings, asked.linger)
    run.user = actor.user_id
    session.flush()
    audit.note(
        session, actor, audit.Action.CREATE, RegistryRun, [run.id], {"kind": asked.kind.value}
    )
    return run


def _new(
    session: Session, kind: RunKind, settings: RegistrySpace, linger: int | None = None
) -> RegistryRun:
    run = RegistryRun(
        kind=kind.value,
        grace=settings.grace_seconds,
        linger=settings.linger_seconds if linger is None else linger,
    )
    session.add(run)
    session.flush()
    return run


def take(session: Session, settings: RegistrySpace) -> Order | None:
    """What the collector is to do now, if anything; it has begun then."""
    registry.take_turn(session)
    now = records.now(session)
    run = registry.open_run(session)
    if run is not None and run.status == RunStatus.RUNNING:
        if run.seen_at is not None and now - run.seen_at < SILENCE:
            return None
        _fail(run, now, "the collector gave no sign of life")
        session.flush()
        run = registry.open_run(session)
    run = run or _due(session, settings, now)
    if run is None:
        return None
    run.status = RunStatus.RUNNING
    run.started_at = run.seen_at = now
    session.flush()
    return Order(run.id, RunKind(run.kind), run.grace, run.linger, now.isoformat())


def _due(session: Session, settings: RegistrySpace, now: datetime) -> RegistryRun | None:
    """A run that nobody ordered: by the schedule, or to free what the last one left."""
    last = registry.last_of(session, (RunKind.COLLECT, RunKind.FREE))
    every = timedelta(hours=settings.every_hours)
    collected = registry.last_of(session, (RunKind.COLLECT,))
    if every and (collected is None or now - collected.created_at >= every):
        return _new(session, RunKind.COLLECT, settings)
    if last is None or last.status != RunStatus.DONE or last.ended_at is None:
        return None
    waits = (last.report or {}).get("waits", 0)
    if waits and now - last.ended_at > timedelta(seconds=last.linger):
        return _new(session, RunKind.FREE, settings, last.linger)
    return None


def recover(session: Session) -> None:
    """The collector has just started: what it did before it ended is over."""
    registry.take_turn(session)
    run = registry.open_run(session)
    if run is not None and run.status == RunStatus.RUNNING:
        _fail(run, records.now(session), "the collector was stopped amid it")
        session.flush()


def _fail(run: RegistryRun, now: datetime, error: str) -> None:
    run.status = RunStatus.FAILED
    run.ended_at = now
    run.error = error
    run.waits_until = run.holds_until = run.hold_rests_until = None


def going_on(session: Session, run_id: int) -> RegistryRun:
    """A run that is not over, held.

    Raises:
        NotFoundError: no such run.
        ConflictError: it is over.
    """
    run = registry.run_by_id(session, run_id, lock=True)
    if run is None:
        raise NotFoundError(f"there is no run {run_id} over the registry")
    if run.status != RunStatus.RUNNING:
        raise ConflictError(f"run {run_id} over the registry is {run.status}")
    return run


def images(database: Database, settings: RegistrySpace, run_id: int) -> Needs:
    """All images that the database knows, with why they stay. A collection condemns the others:
    their releases are marked first, so that nothing is set to run them from now on.

    Raises:
        NotFoundError, ConflictError: as `going_on`.
    """
    keep = Keep(settings.keep_releases, settings.keep_days)
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            with database.transaction() as session:
                run = going_on(session, run_id)
                needs = judge(registry.facts(session), keep)
                if run.kind == RunKind.COLLECT:
                    _condemn(session, needs.condemned)
                return needs
        except DBAPIError as error:
            rule = broken(error.orig)
            if rule is None or last:
                raise
            log.info("run %d: judged again: %s", run_id, rule.sentence)
    raise AssertionError("the last try returns or raises")


def _condemn(session: Session, ids: Sequence[int]) -> None:
    if not ids:
        return
    registry.mark_removed(session, ids)
    audit.note(session, None, audit.Action.UPDATE, Release, ids, {"images": "removed"})
    log.info("the images of %d releases are to be removed", len(ids))


def progress(session: Session, run_id: int, text: str) -> None:
    """How far a run is; it lives.

    Raises:
        NotFoundError, ConflictError: as `going_on`.
    """
    run = going_on(session, run_id)
    run.seen_at = records.now(session)
    run.progress = text[:_TEXT]
    session.flush()


def end(session: Session, run_id: int, said: RunEnd) -> None:
    """A run is over.

    Raises:
        NotFoundError, ConflictError: as `going_on`.
    """
    run = going_on(session, run_id)
    now = records.now(session)
    if said.error is not None:
        _fail(run, now, said.error[:_TEXT])
    run.status = RunStatus.FAILED if said.error is not None else RunStatus.DONE
    run.ended_at = now
    run.report = said.report
    run.progress = None
    run.waits_until = run.holds_until = run.hold_rests_until = None
    session.flush()
    registry.forget_discarded(session, now - REMEMBER)
    registry.forget_runs(session, RUNS)


def short(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """A report's figures, without what it lists: images and deltas may be thousands."""
    if report is None:
        return None
    figures = {name: value for name, value in report.items() if not isinstance(value, list)}
    if isinstance(deltas := report.get("deltas"), dict):
        figures["deltas"] = short(deltas)
    return figures


def told(needs: Needs) -> list[dict[str, Any]]:
    """The images for the collector."""
    return [asdict(each) for each in needs.images]
