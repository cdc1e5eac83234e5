"""The family's version 1: ping and health, one application of one service, and the device."""

import logging
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, PlainTextResponse, Response

from gantry.supervisor.actions import ActionError
from gantry.supervisor.engine import EngineError
from gantry.supervisor.host import HostError, HostRequestError
from gantry.supervisor.locks import LockedError
from gantry.supervisor.state import Container
from gantry.supervisor.views import environment
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, flag

_LOG = logging.getLogger(__name__)

_NO_APP = (
    "App not found: an app needs to be installed on the device for this; "
    "if the device was moved from another fleet, wait for the new fleet's release"
)
_MANY = "This endpoint is for apps of one service: use /v2/applications for this one"


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
    taken = call.device.actions.update(flag(body, "force"), flag(body, "cancel"))
    return Response(status_code=204 if taken else 202)


async def blink(call: Call) -> Response:
    await call.device.host.blink()
    return Response()


async def regenerate_key(call: Call) -> Response:
    return PlainTextResponse(await call.device.actions.regenerate_key(call.scope))


async def restart(call: Call) -> Response:
    body = await call.body()
    app_id = call.app_id(body.get("appId"), "Missing app id", text=True, denied="Unauthorized")
    await call.device.actions.restart(app_id, flag(body, "force"))
    return PlainTextResponse("OK")


async def purge(call: Call) -> Response:
    body = await call.body()
    missing = "Invalid or missing appId"
    app_id = call.app_id(body.get("appId"), missing, text=True, denied="Unauthorized")
    await call.device.actions.purge(app_id, flag(body, "force"))
    return JSONResponse({"Data": "OK", "Error": ""})


def _power(act: Callable[[Call, bool], Awaitable[None]]) -> Callable[[Call], Awaitable[Response]]:
    """Reboot and shutdown have a form of answers of their own."""

    async def answer(call: Call) -> Response:
        body = await call.body()
        try:
            await act(call, flag(body, "force"))
        except LockedError as error:
            return JSONResponse({"Data": "", "Error": str(error)}, status_code=423)
        except HostError as error:
            return JSONResponse({"Data": "", "Error": str(error)}, status_code=500)
        return JSONResponse({"Data": "OK", "Error": ""}, status_code=202)

    return answer


async def host_config(call: Call) -> Response:
    return JSONResponse(await call.device.host.host_config())


async def set_host_config(call: Call) -> Response:
    body = await call.body()
    network = body.get("network")
    force = flag(body, "force") or (isinstance(network, dict) and flag(network, "force"))
    try:
        await call.device.host.set_host_config(body, force)
    except LockedError as error:
        raise RefusalError(423, str(error), text=True) from error
    except HostRequestError as error:
        raise RefusalError(400, str(error), text=True) from error
    except HostError as error:
        raise RefusalError(503, str(error), text=True) from error
    return PlainTextResponse("OK")


def _only_container(call: Call, app_id: int) -> Container:
    services = call.device.picture().services(app_id)
    if not services:
        raise RefusalError(400, _NO_APP, text=True)
    if len(services) > 1:
        raise RefusalError(400, _MANY, text=True)
    return next(iter(services.values()))


async def app(call: Call) -> Response:
    denied = "Application is not available"
    given = call.request.path_params["app_id"]
    app_id = call.app_id(given, "Missing app id", text=True, denied=denied)
    container = _only_container(call, app_id)
    try:
        inspected = await call.device.engine.inspect_container(container.id)
    except EngineError as error:
        raise RefusalError(503, f"the container is being replaced: {error}") from error
    return JSONResponse(
        {
            "appId": app_id,
            "commit": call.device.picture().commit(app_id),
            "containerId": container.id,
            "env": environment(inspected),
            "imageId": container.image,
            "releaseId": container.release_id,
        }
    )


async def stop_app(call: Call) -> Response:
    app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id", text=True)
    body = await call.body()
    service = _only_container(call, app_id).service
    try:
        await call.device.actions.stop(app_id, service, flag(body, "force"))
    except ActionError as error:
        raise RefusalError(error.status, str(error), text=True) from error
    return JSONResponse({"containerId": _only_container(call, app_id).id})


async def start_app(call: Call) -> Response:
    app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id", text=True)
    service = _only_container(call, app_id).service
    try:
        await call.device.actions.start(app_id, service)
    except ActionError as error:
        raise RefusalError(error.status, str(error), text=True) from error
    return JSONResponse({"containerId": _only_container(call, app_id).id})


ENDPOINTS = (
    Endpoint("GET", "/ping", ping, is_open=True),
    Endpoint("GET", "/v1/healthy", healthy, is_open=True),
    Endpoint("POST", "/v1/blink", blink),
    Endpoint("POST", "/v1/regenerate-api-key", regenerate_key),
    Endpoint("POST", "/v1/restart", restart),
    Endpoint("POST", "/v1/purge", purge),
    Endpoint("POST", "/v1/update", update),
    Endpoint("POST", "/v1/reboot", _power(lambda call, force: call.device.actions.reboot(force))),
    Endpoint(
        "POST", "/v1/shutdown", _power(lambda call, force: call.device.actions.shutdown(force))
    ),
    Endpoint("GET", "/v1/device", device),
    Endpoint("GET", "/v1/device/host-config", host_config),
    Endpoint("PATCH", "/v1/device/host-config", set_host_config),
    Endpoint("GET", "/v1/apps/{app_id}", app),
    Endpoint("POST", "/v1/apps/{app_id}/stop", stop_app),
    Endpoint("POST", "/v1/apps/{app_id}/start", start_app),
)
