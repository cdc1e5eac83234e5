"""The family's endpoints of local mode, under `/v2/local`."""

from starlette.responses import Response

from gantry.supervisor.local import LocalModeError
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, success
from gantry.supervisor.web.streams import Stream


async def target(call: Call) -> Response:
    return success(state=call.device.local().target(call.scope.covers))


async def set_target(call: Call) -> Response:
    body = await call.body()
    try:
        await call.device.local().take(body)
    except LocalModeError as error:
        raise RefusalError(400, str(error)) from error
    return success(message="OK")


async def device_info(call: Call) -> Response:
    return success(info=dict(call.device.local().info))


async def logs(call: Call) -> Response:
    slots = call.slots.local_logs
    if slots.full:
        raise RefusalError(503, f"{slots.number} follow the log already: end one")
    return Stream(call.device.local().logs(), slots, media_type="application/x-ndjson")


ENDPOINTS = (
    Endpoint("GET", "/v2/local/target-state", target),
    Endpoint("POST", "/v2/local/target-state", set_target),
    Endpoint("GET", "/v2/local/device-info", device_info),
    Endpoint("GET", "/v2/local/logs", logs),
)
