"""What the family does not have: locks with a term, an event stream, figures for Prometheus."""

from typing import Any

from starlette.responses import PlainTextResponse, Response

from gantry.supervisor.exposition import CONTENT_TYPE, exposition
from gantry.supervisor.keys import Scope
from gantry.supervisor.leases import LeaseError
from gantry.supervisor.locks import LockHolder
from gantry.supervisor.views import lock_view
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, success
from gantry.supervisor.web.streams import Stream

_HOLDER_LENGTH = 100
_LEASES_EACH = 32
# More than any lease may last; what JSON holds may be no float.
_SECONDS = 10**9


async def _holders(call: Call, scope: Scope) -> list[LockHolder]:
    return [each for each in await call.device.locks.all_holders() if scope.covers(each.app_id)]


async def locks(call: Call) -> Response:
    found = await _holders(call, call.scope)
    override = call.device.locks.override
    return success(locks=[lock_view(each) for each in found], override=override)


async def lock(call: Call) -> Response:
    app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id")
    found = await _holders(call, Scope(app_id))
    return success(locked=bool(found), locks=[lock_view(each) for each in found])


async def take_lock(call: Call) -> Response:
    """A new lease, or with `lease` another term of one."""
    app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id")
    body = await call.body()
    seconds, lease = _seconds(body), body.get("lease")
    leases = [each for each in await _holders(call, Scope(app_id)) if each.lease]
    try:
        if lease is None:
            if len(leases) >= _LEASES_EACH:
                raise RefusalError(429, f"{_LEASES_EACH} leases are held already: release some")
            taken = await call.device.locks.lease(app_id, seconds, _holder(body))
        elif lease in [each.lease for each in leases]:
            taken = await call.device.locks.renew(str(lease), seconds)
        else:
            raise RefusalError(404, f"there is no lease {lease!r:.40}: it ended, take another")
    except LeaseError as error:
        raise RefusalError(400, str(error)) from error
    call.device.pulse.beat()
    answer = success(lease=lock_view(taken))
    answer.status_code = 201 if lease is None else 200
    return answer


async def release_lock(call: Call) -> Response:
    app_id = call.app_id(call.request.path_params["app_id"], "Invalid app id")
    lease = call.request.query_params.get("lease") or (await call.body()).get("lease")
    if not isinstance(lease, str) or not lease:
        raise RefusalError(400, "which lease? name it by ?lease=, as the answer of POST gave it")
    leases = [each.lease for each in await _holders(call, Scope(app_id))]
    if lease not in leases or not await call.device.locks.release(lease):
        raise RefusalError(404, f"there is no lease {lease!r:.40}: it has ended already")
    call.device.pulse.beat()
    return Response(status_code=204)


def _seconds(body: dict[str, Any]) -> float:
    seconds = body.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise RefusalError(400, f"seconds is {seconds!r:.40}: give how long to lock, as a number")
    return float(min(seconds, _SECONDS))


def _holder(body: dict[str, Any]) -> str:
    holder = body.get("holder")
    if not isinstance(holder, str) or not holder.strip() or not holder.isprintable():
        raise RefusalError(400, f"holder is {holder!r:.40}: say in a word who locks, and for what")
    if len(holder) > _HOLDER_LENGTH:
        raise RefusalError(400, f"holder has {len(holder)} characters: {_HOLDER_LENGTH} at most")
    return holder.strip()


async def events(call: Call) -> Response:
    slots = call.slots.events
    if slots.full:
        raise RefusalError(503, f"{slots.number} event streams are open already: close one")
    from gantry.supervisor.watch import watch  # most devices have no reader, and it is not loaded

    device = call.device
    changes = watch(device.picture, device.locks.all_holders, call.scope, device.pulse)
    headers = {"Cache-Control": "no-store"}
    return Stream(changes, slots, headers=headers, media_type="text/event-stream")


async def metrics(call: Call) -> Response:
    samples = await call.device.samples(call.scope)
    return PlainTextResponse(exposition(samples), headers={"Content-Type": CONTENT_TYPE})


async def supervisor(call: Call) -> Response:
    return success(**call.device.succession())


_LOCK = "/gantry/v1/applications/{app_id}/lock"

ENDPOINTS = (
    Endpoint("GET", "/gantry/v1/locks", locks),
    Endpoint("GET", _LOCK, lock),
    Endpoint("POST", _LOCK, take_lock),
    Endpoint("DELETE", _LOCK, release_lock),
    Endpoint("GET", "/gantry/v1/events", events),
    Endpoint("GET", "/gantry/v1/supervisor", supervisor),
    Endpoint("GET", "/metrics", metrics),
)
