"""The family's version 2: applications of many services, and what the device knows of itself."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.responses import JSONResponse, PlainTextResponse, Response

from gantry.supervisor import VERSION, wire
from gantry.supervisor.actions import ActionError, Actions
from gantry.supervisor.cloud import CloudError
from gantry.supervisor.host import HostRequestError, journal_query
from gantry.supervisor.tags import TagError, read_tags
from gantry.supervisor.views import application_state, applications_state, state_status
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, failed, flag, success
from gantry.supervisor.web.streams import Peeked, Stream

_WHICH = (
    "serviceName or imageId parameters were not provided: name the service of the application, "
    'for example {"serviceName": "main"}'
)
# A journal may have nothing to say yet; that the host does not answer is known sooner.
_FIRST_PIECE = 2.0


def _on_service(
    act: Callable[[Actions, int, str, bool], Awaitable[None]],
) -> Callable[[Call], Awaitable[Response]]:
    async def answer(call: Call) -> Response:
        app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id")
        body = await call.body()
        try:
            service = _service(call, app_id, body.get("serviceName"), body.get("imageId"))
            await act(call.device.actions, app_id, service, flag(body, "force"))
        except ActionError as error:
            raise RefusalError(error.status, str(error), text=True) from error
        return PlainTextResponse("OK")

    return answer


def _service(call: Call, app_id: int, name: object, image_id: object) -> str:
    """The service that a body names."""
    number = None
    with suppress(wire.WireError):
        number = wire.number(image_id, "imageId")
    if number is None and not (isinstance(name, str) and name):
        raise RefusalError(400, _WHICH, text=True)
    return call.device.actions.service_of(app_id, name if isinstance(name, str) else "", number)


def _on_application(
    act: Callable[[Actions, int, bool], Awaitable[None]],
) -> Callable[[Call], Awaitable[Response]]:
    async def answer(call: Call) -> Response:
        app_id = call.app_id(call.request.path_params["app_id"], "Missing app id")
        await act(call.device.actions, app_id, flag(await call.body(), "force"))
        return PlainTextResponse("OK")

    return answer


async def all_states(call: Call) -> Response:
    return JSONResponse(applications_state(call.device.picture(), call.scope))


async def one_state(call: Call) -> Response:
    given = call.request.path_params["app_id"]
    try:
        app_id = wire.number(given, "appId")
    except wire.WireError:
        return failed(400, f"Invalid application ID: {given:.40}")
    # As with the family, another key's application is one that does not exist.
    body = application_state(call.device.picture(), app_id) if call.scope.covers(app_id) else None
    if body is None:
        return failed(409, f"Application ID does not exist: {app_id}")
    return JSONResponse(body)


async def status(call: Call) -> Response:
    return success(**state_status(call.device.picture(), call.scope))


async def version(_call: Call) -> Response:
    return success(version=VERSION)


async def container_id(call: Call) -> Response:
    query = call.request.query_params
    services = {each.service: each.id for each in call.device.picture().containers(call.scope)}
    name = query.get("serviceName") or query.get("service")
    if name is None:
        return success(services=services)
    if name not in services:
        return failed(503, "Could not find service with that name")
    return success(containerId=services[name])


async def name(call: Call) -> Response:
    return success(deviceName=call.device.name)


async def tags(call: Call) -> Response:
    try:
        return success(tags=await call.device.tags.read())
    except CloudError as error:
        return failed(500, str(error))


async def set_tags(call: Call) -> Response:
    try:
        await call.device.tags.set(read_tags(await call.body()))
    except TagError as error:
        raise RefusalError(400, str(error)) from error
    answer = success()
    answer.status_code = 202
    return answer


async def vpn(call: Call) -> Response:
    found = await call.device.host.vpn_status()
    return success(vpn={"enabled": found.enabled, "connected": found.connected})


async def cleanup_volumes(call: Call) -> Response:
    await call.device.actions.cleanup_volumes(call.scope)
    return success()


async def journal_logs(call: Call) -> Response:
    body = await call.body()
    try:
        query = journal_query(body)
    except HostRequestError as error:
        raise RefusalError(400, str(error)) from error
    if call.slots.journals.full:
        number = call.slots.journals.number
        raise RefusalError(503, f"{number} journals are being read already: end one")
    pieces = Peeked(call.device.host.journal(query))
    try:
        await pieces.peek(_FIRST_PIECE)
    except BaseException:
        await pieces.aclose()
        raise
    return Stream(pieces, call.slots.journals, media_type="text/plain")


_APPLICATION = "/v2/applications/{app_id}"

ENDPOINTS = (
    Endpoint("GET", "/v2/applications/state", all_states),
    Endpoint("GET", f"{_APPLICATION}/state", one_state),
    Endpoint("POST", f"{_APPLICATION}/restart-service", _on_service(Actions.restart_service)),
    Endpoint("POST", f"{_APPLICATION}/stop-service", _on_service(Actions.stop)),
    Endpoint("POST", f"{_APPLICATION}/start-service", _on_service(Actions.start)),
    Endpoint("POST", f"{_APPLICATION}/restart", _on_application(Actions.restart)),
    Endpoint("POST", f"{_APPLICATION}/purge", _on_application(Actions.purge)),
    Endpoint("GET", "/v2/state/status", status),
    Endpoint("GET", "/v2/version", version),
    Endpoint("GET", "/v2/containerId", container_id),
    Endpoint("GET", "/v2/device/name", name),
    Endpoint("GET", "/v2/device/tags", tags),
    Endpoint("PATCH", "/v2/device/tags", set_tags),
    Endpoint("GET", "/v2/device/vpn", vpn),
    Endpoint("GET", "/v2/cleanup-volumes", cleanup_volumes),
    Endpoint("POST", "/v2/journal-logs", journal_logs),
)
