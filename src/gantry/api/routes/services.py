"""What only the fleet's own services call. The proxy lets nobody else in here."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from gantry.api.context import Ctx, ServiceOnly, bearer
from gantry.api.errors import BadRequestError, UnauthorizedError
from gantry.api.queries import accounts
from gantry.api.routes.answers import (
    CONDITIONAL,
    Published,
    Recovered,
    ReleaseEnd,
    conditional,
    content,
    failures,
)
from gantry.api.services import access, builds, streams, supervisors
from gantry.api.services.target_state import canonical, etag_matches, etag_of

router = APIRouter(prefix="/services", tags=["services"])

Git = Depends(ServiceOnly("git"))
Builder = Depends(ServiceOnly("builder"))
Logs = Depends(ServiceOnly("logs"))


class Authorize(BaseModel):
    """Who wants to do what with which repository."""

    model_config = ConfigDict(extra="forbid")

    username: str
    owner: str
    application: str
    action: access.GitAction


class Recover(BaseModel):
    """Which builder has just started."""

    model_config = ConfigDict(extra="forbid")

    builder: str


@router.get(
    "/git/accounts",
    dependencies=[Git],
    responses=conditional("The names.", list[str]),
    openapi_extra=CONDITIONAL,
)
def git_accounts(ctx: Ctx, request: Request) -> Response:
    """All login names."""
    with ctx.database.transaction() as session:
        body = canonical(accounts.usernames(session))
    etag = etag_of(body)
    if etag_matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, media_type="application/json", headers={"ETag": etag})


@router.post("/git/authorize", dependencies=[Git], responses=failures(404))
def git_authorize(ctx: Ctx, body: Authorize) -> access.GitAccess:
    """Whether a user may pull from or push to a repository."""
    with ctx.database.transaction() as session:
        return access.authorize_git(
            session, body.username, body.owner, body.application, body.action
        )


@router.post(
    "/builder/releases",
    dependencies=[Builder],
    status_code=201,
    responses={
        200: {"model": builds.ReleaseRef, "description": "The commit was built before."},
        **failures(404, 409),
    },
)
def start_release(ctx: Ctx, body: builds.NewRelease, response: Response) -> builds.ReleaseRef:
    """A release that is about to be built; 200 with `already` when its commit was built before."""
    with ctx.database.transaction() as session:
        made = builds.start(session, ctx.config.registry, body)
    if made.already:
        response.status_code = 200
    return made


@router.patch(
    "/builder/releases/{release_id}",
    dependencies=[Builder],
    response_model=ReleaseEnd,
    responses=failures(404, 409),
)
def finish_release(ctx: Ctx, release_id: int, body: builds.FinishedRelease) -> dict[str, Any]:
    """How a build ended. A success becomes the fleet's target."""
    with ctx.database.transaction() as session:
        builds.finish(session, release_id, body)
    return {"release_id": release_id, "status": body.status}


@router.post("/builder/supervisors", dependencies=[Builder], response_model=Published)
def publish_supervisor(ctx: Ctx, body: supervisors.PublishedSupervisor) -> dict[str, Any]:
    """A supervisor's image that the builder has pushed; said again it changes nothing."""
    with ctx.database.transaction() as session:
        return {"release_id": supervisors.publish(session, body)}


@router.post("/builder/recover", dependencies=[Builder], response_model=Recovered)
def recover(ctx: Ctx, body: Recover) -> dict[str, Any]:
    """Fail what this builder left running before it was started anew."""
    with ctx.database.transaction() as session:
        return {"failed": builds.recover(session, body.builder)}


@router.get("/logs/authorize", dependencies=[Logs], responses=failures(404))
def logs_authorize(
    ctx: Ctx,
    device: str,
    action: str,
    x_gantry_authorization: Annotated[str | None, Header()] = None,
) -> access.LogAccess:
    """Whether the caller of the logs service may read or write a device's logs."""
    if action not in ("read", "write"):
        raise BadRequestError(f"the action {action[:40]!r} is neither read nor write")
    holder = ctx.holder(bearer(x_gantry_authorization))
    if holder is None:
        raise UnauthorizedError("the session token or API key is not valid (any more)")
    with ctx.database.transaction() as session:
        return access.authorize_logs(session, holder, device, action)


@router.get(
    "/logs/revocations",
    dependencies=[Logs],
    response_class=StreamingResponse,
    responses=content("application/x-ndjson", '`{"credential": …}` a line; it does not end.'),
)
async def revocations(ctx: Ctx) -> StreamingResponse:
    """Keys and sessions that have ended early, one JSON object a line, as it happens."""
    return StreamingResponse(streams.revocations(ctx.hub), media_type="application/x-ndjson")
