"""Every table of endpoints as one application, and who may come in."""

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from gantry.supervisor.actions import ActionError
from gantry.supervisor.cloud import CloudError
from gantry.supervisor.engine import EngineError
from gantry.supervisor.host import HostError
from gantry.supervisor.intervene import InterventionError
from gantry.supervisor.keys import EVERYTHING, Scope
from gantry.supervisor.locks import LockedError
from gantry.supervisor.web import bundles, local, own, v1, v2
from gantry.supervisor.web.calls import (
    Call,
    Endpoint,
    RefusalError,
    StreamSlots,
    Supervisor,
    failed,
)

_LOG = logging.getLogger(__name__)

# A module of endpoints is added here: its table, and nothing else.
ENDPOINTS: tuple[Endpoint, ...] = (
    *v1.ENDPOINTS,
    *v2.ENDPOINTS,
    *local.ENDPOINTS,
    *own.ENDPOINTS,
    *bundles.ENDPOINTS,
)


def application(supervisor: Supervisor) -> Router:
    """The HTTP API. Only ping and health are open.

    A router is all that it needs: handlers answer their errors themselves, and what Starlette's
    application has besides costs 0.6 MB.
    """
    slots = StreamSlots()
    return Router(
        routes=[
            Route(each.path, _answer(each, supervisor, slots), methods=[each.method])
            for each in ENDPOINTS
        ]
    )


def _answer(
    endpoint: Endpoint, supervisor: Supervisor, slots: StreamSlots
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        scope = EVERYTHING if endpoint.is_open else _authenticate(request, supervisor)
        if scope is None:
            return PlainTextResponse("Unauthorized", status_code=401)
        try:
            return await endpoint.handler(Call(request, supervisor, scope, slots))
        except RefusalError as refusal:
            return refusal.response()
        except LockedError as error:
            return failed(423, str(error))
        except ActionError as error:
            return failed(error.status, str(error))
        except InterventionError as error:
            return failed(503, str(error))
        except (HostError, EngineError, CloudError) as error:
            _LOG.warning("%s %s: %s", endpoint.method, endpoint.path, error)
            return failed(503, str(error))
        except Exception:
            _LOG.exception("%s %s failed", endpoint.method, endpoint.path)
            return failed(500, "the supervisor failed; its log says how")

    return answer


def _authenticate(request: Request, supervisor: Supervisor) -> Scope | None:
    """What the caller may do; None for somebody without a key."""
    if supervisor.asks_no_key():
        return EVERYTHING
    return supervisor.scope_of(_given_key(request))


def _given_key(request: Request) -> str:
    """From `?apikey=`, or an Authorization header with Bearer or ApiKey."""
    if "apikey" in request.query_params:
        return request.query_params["apikey"]
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() in ("bearer", "apikey") else ""
