"""Health, and what the fleet offers."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from gantry.api.context import Ctx, CurrentUser
from gantry.api.routes.answers import BoardState, DeviceConfig, FleetConfig, failures
from gantry.api.services import provisioning
from gantry.contracts.device_types import DEVICE_TYPES
from gantry.gauges import MEDIA_TYPE

router = APIRouter(tags=["fleet"])


@router.get("/ping", response_class=PlainTextResponse)
def ping(ctx: Ctx) -> str:
    """OK when the api and its database answer."""
    ctx.database.ping()
    return "OK"


@router.get("/connectivity-check", status_code=204)
async def connectivity_check() -> Response:
    """Nothing: devices ask whether the network is there."""
    return Response(status_code=204)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(ctx: Ctx) -> Response:
    """What Prometheus reads. The proxy lets nobody in here."""
    return Response(ctx.metrics.text(), media_type=MEDIA_TYPE)


@router.get("/device-types/v1", response_model=list[BoardState])
async def device_types() -> list[dict[str, Any]]:
    """The kinds of board that fleets can be of."""
    return [
        {"slug": each.slug, "name": each.name, "arch": each.architecture, "state": "RELEASED"}
        for each in DEVICE_TYPES
    ]


@router.get("/config", response_model=FleetConfig, response_model_exclude_none=True)
async def config(ctx: Ctx) -> dict[str, Any]:
    """Where the fleet's parts are."""
    return provisioning.fleet_config(ctx.config)


@router.post("/download-config", response_model=DeviceConfig, responses=failures(404))
def download_config(
    ctx: Ctx, user: CurrentUser, asked: provisioning.ConfigRequest
) -> dict[str, Any]:
    """A config.json for new devices of an application, with a provisioning key of its own."""
    with ctx.database.transaction() as session:
        return provisioning.device_config(session, ctx.config, user, asked)
