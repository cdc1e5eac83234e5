"""What the family's clients and older supervisors ask for besides."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from gantry.api.context import Ctx, CurrentActor, CurrentDevice
from gantry.api.routes.answers import (
    CONDITIONAL,
    OsConfig,
    Target,
    Target2,
    VariableNames,
    conditional,
    content,
    failures,
)
from gantry.api.services import devices, fleet_state, provisioning, state_v2
from gantry.api.services.target_state import canonical, etag_matches, etag_of

router = APIRouter()


@router.get(
    "/device/v2/{uuid}/state",
    tags=["devices"],
    responses={**conditional("The target.", Target2), **failures(404)},
    openapi_extra=CONDITIONAL,
)
def state(ctx: Ctx, actor: CurrentActor, uuid: str, request: Request) -> Response:
    """What the device should run, in the form of version 2."""
    found = json.loads(devices.target(ctx.database, actor, uuid).body)
    return _with_etag(request, canonical(state_v2.target(found)))


@router.patch(
    "/device/v2/{uuid}/state",
    tags=["devices"],
    response_class=PlainTextResponse,
    responses={**content("text/plain", "OK"), **failures(404)},
)
async def report(ctx: Ctx, actor: CurrentDevice, uuid: str, body: state_v2.StateReport) -> Response:
    """What the device says of itself, in the form of version 2."""
    await ctx.threads.write(
        devices.report_v2, ctx.database, ctx.supervisor_secrets, actor, uuid, body
    )
    return Response("OK", media_type="text/plain")


@router.get(
    "/device/v3/fleet/{uuid}/state",
    tags=["devices"],
    responses={
        **conditional("The target, by the fleet's uuid.", dict[str, Target]),
        **failures(404),
    },
    openapi_extra=CONDITIONAL,
)
def fleet(
    ctx: Ctx,
    actor: CurrentActor,
    uuid: str,
    request: Request,
    releaseUuid: str = "",  # noqa: N803
) -> Response:
    """What a fleet should run, or would with another of its releases."""
    with ctx.database.snapshot() as session:
        found = fleet_state.fleet_state(session, actor, uuid, releaseUuid or None)
    return _with_etag(request, canonical(found))


def _with_etag(request: Request, body: bytes) -> Response:
    etag = etag_of(body)
    headers = {"ETag": etag}
    if etag_matches(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get("/config/vars", tags=["fleet"], response_model=VariableNames)
async def variables() -> dict[str, Any]:
    """Which names configure devices, and which are reserved."""
    return provisioning.variable_names()


@router.get("/os/v1/config", tags=["fleet"], response_model=OsConfig)
async def os_config(ctx: Ctx) -> dict[str, Any]:
    """What the host OS of a device needs of its fleet."""
    return provisioning.os_config(ctx.config)
