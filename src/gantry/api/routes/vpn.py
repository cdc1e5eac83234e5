"""What only the VPN's servers call. The proxy lets nobody else in here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from gantry.api.context import Context, Ctx, ServiceOnly, bearer
from gantry.api.errors import UnauthorizedError
from gantry.api.routes.answers import Ended, content, failures
from gantry.api.services import reach, streams, vpn

router = APIRouter(
    prefix="/services/vpn", tags=["services"], dependencies=[Depends(ServiceOnly("vpn"))]
)

Names = Annotated[list[vpn.Name], Field(max_length=10_000)]


class Check(BaseModel):
    """Credentials that connections and tunnels go by."""

    model_config = ConfigDict(extra="forbid")

    credentials: Names


@router.post("/devices/authorize", responses=failures(403, 409))
async def authorize_device(ctx: Ctx, body: vpn.DeviceLogin) -> vpn.DeviceConsent:
    """Whether a device may connect, and under which address."""
    return await ctx.threads.tunnel(vpn.authorize_device, ctx.database, body)


@router.post("/events", status_code=204)
async def events(ctx: Ctx, body: vpn.Events) -> Response:
    """Connections and their ends, in order."""
    await ctx.threads.tunnel(vpn.note_events, ctx.database, body)
    return Response(status_code=204)


@router.put("/servers/{name}")
async def heartbeat(
    ctx: Ctx, name: Annotated[vpn.ServerName, Path()], body: vpn.Heartbeat
) -> dict[str, str]:
    """A server is there, and from time to time which devices it has."""
    await ctx.threads.tunnel(vpn.hear, ctx.database, name, body)
    return {}


@router.post("/tunnels/authorize", responses=failures(403, 404, 409))
async def authorize_tunnel(
    ctx: Ctx,
    body: reach.TunnelRequest,
    x_gantry_authorization: Annotated[str | None, Header()] = None,
) -> reach.TunnelConsent:
    """Whether a person may reach a port of a device."""
    return await ctx.threads.tunnel(_open, ctx, body, x_gantry_authorization)


def _open(
    ctx: Context, body: reach.TunnelRequest, authorization: str | None
) -> reach.TunnelConsent:
    holder = ctx.holder(bearer(authorization))
    if holder is None:
        raise UnauthorizedError("the session token or API key is not valid (any more)")
    with ctx.database.transaction() as session:
        return reach.open_tunnel(session, holder, body)


@router.post("/tunnels/end", status_code=204)
async def end_tunnel(ctx: Ctx, body: reach.TunnelEnd) -> Response:
    """A tunnel has ended. Said twice it is said once."""
    await ctx.threads.tunnel(_end, ctx, body)
    return Response(status_code=204)


def _end(ctx: Context, body: reach.TunnelEnd) -> None:
    with ctx.database.transaction() as session:
        reach.end_tunnel(session, body)


@router.get(
    "/changes",
    response_class=StreamingResponse,
    responses=content(
        "application/x-ndjson",
        '`{"credential": …}`, `{"device": …, "gone": true}` or `{"device": …, "public_url": …}` '
        "a line; it does not end.",
    ),
)
async def changes(ctx: Ctx) -> StreamingResponse:
    """What has ended early, as it happens."""
    return StreamingResponse(streams.changes(ctx.hub), media_type="application/x-ndjson")


@router.post("/check", response_model=Ended)
async def check(ctx: Ctx, body: Check) -> dict[str, list[str]]:
    """Which of these credentials hold no more."""
    return {"ended": await ctx.threads.tunnel(vpn.ended, ctx.database, body.credentials)}


@router.get("/public-urls/{uuid}", responses=failures(404, 409))
async def public_url(ctx: Ctx, uuid: str) -> vpn.PublicUrl:
    """Where the public URL of a device leads."""
    return await ctx.threads.tunnel(_public_url, ctx, uuid)


def _public_url(ctx: Context, uuid: str) -> vpn.PublicUrl:
    with ctx.database.statement() as session:
        return vpn.public_url(session, uuid)
