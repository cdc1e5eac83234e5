"""The family's version 1."""

import logging

from starlette.responses import JSONResponse, PlainTextResponse, Response

from gantry.supervisor.web.calls import Call, Endpoint, flag

_LOG = logging.getLogger(__name__)


async def ping(_call: Call) -> Response:
    return PlainTextResponse("OK")


async def healthy(call: Call) -> Response:
    complaints = call.supervisor.complaints()
    if complaints:
        _LOG.warning("not healthy: %s", "; ".join(complaints))
        return PlainTextResponse("Unhealthy", status_code=500)
    return PlainTextResponse("OK")


async def device(call: Call) -> Response:
    return JSONResponse(call.device.device())


async def update(call: Call) -> Response:
    body = await call.body()
    call.device.update(flag(body, "force"))
    return Response(status_code=204)


ENDPOINTS = (
    Endpoint("GET", "/ping", ping, is_open=True),
    Endpoint("GET", "/v1/healthy", healthy, is_open=True),
    Endpoint("GET", "/v1/device", device),
    Endpoint("POST", "/v1/update", update),
)
