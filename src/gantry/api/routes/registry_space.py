"""The registry's space: for administrators, for the collector, and for builders that push."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from gantry.api.context import Ctx, CurrentUser, ServiceOnly
from gantry.api.errors import ConflictError, NotFoundError
from gantry.api.models import RegistryRun
from gantry.api.queries import registry
from gantry.api.routes.answers import failures
from gantry.api.services import registry_pushes, registry_space
from gantry.contracts.registry_space import RunKind, RunStatus

router = APIRouter(tags=["registry"])
services = APIRouter(prefix="/services", tags=["services"])

Builder = Depends(ServiceOnly("builder"))
Collector = Depends(ServiceOnly("collector"))


class Run(BaseModel):
    """A look at the registry, and what was removed. `report`: docs/runbooks/registry-space.md."""

    id: int
    kind: RunKind
    status: RunStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: str | None
    error: str | None
    linger: int
    report: dict[str, Any] | None


class Kept(BaseModel):
    """What is kept without anybody saying so, and when it is looked at; 0 hours: never."""

    releases: int
    days: float
    every_hours: int
    grace_seconds: int
    linger_seconds: int


class Space(BaseModel):
    """The fleet's settings, and the last runs, the newest first; their reports without lists."""

    settings: Kept
    runs: list[Run]


class NewPush(BaseModel):
    """What a builder is about to push to."""

    model_config = ConfigDict(extra="forbid")

    builder: Annotated[str, Field(min_length=1, max_length=255)]
    repository: Annotated[str, Field(min_length=1, max_length=255)]


class Push(BaseModel):
    """A lease; it is renewed within `seconds`."""

    push: int
    seconds: int


class CollectorOrder(BaseModel):
    """What a collector is to do."""

    run: int
    kind: RunKind
    grace: int
    linger: int
    moment: str


class Images(BaseModel):
    """All images that the api knows; those without reasons go."""

    images: list[dict[str, Any]]


class Held(BaseModel):
    """Whether pushes are held back, and what was pushed to."""

    granted: bool
    repositories: list[str] = []


def _run(run: RegistryRun, *, whole: bool = True) -> Run:
    return Run(
        id=run.id,
        kind=RunKind(run.kind),
        status=RunStatus(run.status),
        created_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        progress=run.progress,
        error=run.error,
        linger=run.linger,
        report=run.report if whole else registry_space.short(run.report),
    )


@router.get("/registry/space")
def space(ctx: Ctx, user: CurrentUser) -> Space:
    """What is kept, and what the last runs did."""
    registry_space.administrator(user)
    settings = ctx.config.registry_space
    with ctx.database.transaction() as session:
        runs = [
            _run(each, whole=False) for each in registry.last_runs(session, registry_space.SHOWN)
        ]
    return Space(
        settings=Kept(
            releases=settings.keep_releases,
            days=settings.keep_days,
            every_hours=settings.every_hours,
            grace_seconds=settings.grace_seconds,
            linger_seconds=settings.linger_seconds,
        ),
        runs=runs,
    )


@router.post("/registry/run", status_code=201, responses=failures(409))
def order(ctx: Ctx, user: CurrentUser, body: registry_space.NewRun) -> Run:
    """Have the collector look at the registry, or collect."""
    if ctx.config.service_keys.collector is None:
        raise ConflictError("this fleet has no collector: bring its cloud side up to date")
    with ctx.database.transaction() as session:
        return _run(registry_space.order(session, user, ctx.config.registry_space, body))


@router.get("/registry/run/{run_id}", responses=failures(404))
def run(ctx: Ctx, user: CurrentUser, run_id: int) -> Run:
    """One run with its report."""
    registry_space.administrator(user)
    with ctx.database.transaction() as session:
        found = registry.run_by_id(session, run_id)
        if found is None:
            raise NotFoundError(f"there is no run {run_id} over the registry")
        return _run(found)


@services.post("/builder/pushes", dependencies=[Builder], status_code=201)
def begin_push(ctx: Ctx, body: NewPush) -> Push:
    """A push begins: what it finds in the registry stays until its end."""
    with ctx.database.transaction() as session:
        made = registry_pushes.begin(session, body.repository, body.builder)
    return Push(push=made, seconds=int(registry_pushes.LEASE.total_seconds()))


@services.put(
    "/builder/pushes/{push_id}", dependencies=[Builder], status_code=204, responses=failures(404)
)
def renew_push(ctx: Ctx, push_id: int) -> Response:
    """A push goes on."""
    with ctx.database.transaction() as session:
        registry_pushes.renew(session, push_id)
    return Response(status_code=204)


@services.delete("/builder/pushes/{push_id}", dependencies=[Builder], status_code=204)
def end_push(ctx: Ctx, push_id: int) -> Response:
    """A push has ended."""
    with ctx.database.transaction() as session:
        registry_pushes.end(session, push_id)
    return Response(status_code=204)


@services.post("/collector/recover", dependencies=[Collector], status_code=204)
def recover(ctx: Ctx) -> Response:
    """The collector has just started."""
    with ctx.database.transaction() as session:
        registry_space.recover(session)
    return Response(status_code=204)


@services.post("/collector/next", dependencies=[Collector])
def next_run(ctx: Ctx) -> CollectorOrder | None:
    """What the collector is to do now; it has begun then."""
    with ctx.database.transaction() as session:
        taken = registry_space.take(session, ctx.config.registry_space)
    if taken is None:
        return None
    return CollectorOrder(
        run=taken.run,
        kind=taken.kind,
        grace=taken.grace,
        linger=taken.linger,
        moment=taken.moment,
    )


@services.post(
    "/collector/runs/{run_id}/images", dependencies=[Collector], responses=failures(404, 409)
)
def images(ctx: Ctx, run_id: int) -> Images:
    """All images that the api knows; a collection condemns those without reasons."""
    needs = registry_space.images(ctx.database, ctx.config.registry_space, run_id)
    return Images(images=registry_space.told(needs))


@services.post(
    "/collector/runs/{run_id}/progress",
    dependencies=[Collector],
    status_code=204,
    responses=failures(404, 409),
)
def progress(ctx: Ctx, run_id: int, body: registry_space.Progress) -> Response:
    """How far a run is."""
    with ctx.database.transaction() as session:
        registry_space.progress(session, run_id, body.text)
    return Response(status_code=204)


@services.post(
    "/collector/runs/{run_id}/sweep", dependencies=[Collector], responses=failures(404, 409)
)
def hold_pushes(ctx: Ctx, run_id: int, body: registry_space.Since) -> Held:
    """Hold pushes back, when none goes on; asked again until then."""
    with ctx.database.transaction() as session:
        pushed = registry_pushes.hold(session, run_id, body.since)
    return Held(granted=pushed is not None, repositories=pushed or [])


@services.delete("/collector/runs/{run_id}/sweep", dependencies=[Collector], status_code=204)
def release_pushes(ctx: Ctx, run_id: int) -> Response:
    """Let pushes begin."""
    with ctx.database.transaction() as session:
        registry_pushes.release(session, run_id)
    return Response(status_code=204)


@services.post(
    "/collector/runs/{run_id}/end",
    dependencies=[Collector],
    status_code=204,
    responses=failures(404, 409),
)
def end(ctx: Ctx, run_id: int, body: registry_space.RunEnd) -> Response:
    """A run is over."""
    with ctx.database.transaction() as session:
        registry_space.end(session, run_id, body)
    return Response(status_code=204)
