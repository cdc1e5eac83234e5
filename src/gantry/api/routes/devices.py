"""What devices call: registering, their target, their reports, the stream of announcements."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from gantry.api.context import Ctx, CurrentActor, CurrentDevice, CurrentProvisioning, credential
from gantry.api.errors import TooManyRequestsError
from gantry.api.routes.answers import (
    CONDITIONAL,
    RegisteredDevice,
    Target,
    conditional,
    content,
    failures,
)
from gantry.api.services import devices, reach, registration, reports, streams, tags
from gantry.api.services.target_state import TargetState, etag_matches

router = APIRouter(tags=["devices"])


@router.post(
    "/device/register",
    status_code=201,
    response_model=RegisteredDevice,
    responses={
        200: {"model": RegisteredDevice, "description": "The device was there already."},
        **failures(404, 409),
    },
)
async def register(
    ctx: Ctx,
    actor: CurrentProvisioning,
    body: registration.Registration,
    response: Response,
) -> dict[str, Any]:
    """A new device; 200 and the same answer when it registers again with the same key."""
    made = await ctx.threads.write(devices.register, ctx.database, actor, body)
    if not made.is_new:
        response.status_code = 200
    return {"id": made.id, "uuid": made.uuid, "api_key": made.api_key}


@router.get(
    "/device/v3/{uuid}/state",
    responses={**conditional("The target, by the uuid.", dict[str, Target]), **failures(404)},
    openapi_extra=CONDITIONAL,
)
def state(ctx: Ctx, actor: CurrentActor, uuid: str, request: Request) -> Response:
    """What the device should run. 304 when `If-None-Match` names the current ETag."""
    known = request.headers.get("if-none-match")
    return target_answer(devices.target(ctx.database, actor, uuid, known), known)


def target_answer(target: TargetState, known: str | None) -> Response:
    """304 where the ETag is one of those in `known`."""
    headers = {"ETag": target.etag}
    if etag_matches(target.etag, known):
        return Response(status_code=304, headers=headers)
    return Response(target.body, media_type="application/json", headers=headers)


@router.patch(
    "/device/v3/state",
    response_class=PlainTextResponse,
    responses={**content("text/plain", "OK"), **failures(404)},
)
async def report(ctx: Ctx, actor: CurrentDevice, body: dict[str, reports.DeviceReport]) -> Response:
    """What the device says of itself."""
    await ctx.threads.write(devices.report, ctx.database, ctx.supervisor_secrets, actor, body)
    return reported()


def reported() -> Response:
    """A report was stored."""
    return Response("OK", media_type="text/plain")


@router.patch(
    "/device/v3/tags",
    response_class=PlainTextResponse,
    responses={**content("text/plain", "OK"), **failures(404)},
)
def set_tags(ctx: Ctx, actor: CurrentDevice, body: dict[str, tags.DeviceTags]) -> Response:
    """Tags that a device gives itself, by its uuid."""
    with ctx.database.transaction() as session:
        tags.set_by_device(session, actor, body)
    return Response("OK", media_type="text/plain")


@router.get(
    "/device/v3/{uuid}/events",
    response_class=StreamingResponse,
    responses={
        **content("text/event-stream", '`event: target`, `data: {"etag": …}`; it does not end.'),
        **failures(404, 429),
    },
)
async def events(
    ctx: Ctx, actor: CurrentDevice, request: Request, uuid: str
) -> streams.EventStream:
    """An event at connect and at each change of the device's target."""
    if ctx.hub.open_streams(actor.device_id) >= streams.MAX_STREAMS:
        raise TooManyRequestsError("this device has too many event streams open", 60)
    devices.own(actor, uuid)
    return streams.EventStream(ctx.database, ctx.hub, actor, credential(request), ctx.instance)


@router.get("/device/v3/{uuid}/ssh-keys", responses=failures(404))
def ssh_keys(ctx: Ctx, actor: CurrentDevice, uuid: str, fingerprint: str) -> reach.AcceptedKey:
    """The SSH key that somebody shows the device, if its user may reach it now."""
    devices.own(actor, uuid)
    with ctx.database.transaction() as session:
        return reach.accept_key(session, actor, fingerprint)
