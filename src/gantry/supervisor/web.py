"""The supervisor's HTTP API on the device (the family's v1, as far as it is here), port 48484."""

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gantry.supervisor import bundle_web

if TYPE_CHECKING:
    from gantry.supervisor.bundles import Bundles

_LOG = logging.getLogger(__name__)
_BODY_LIMIT = 64 * 1024


class Supervisor(Protocol):
    """What the HTTP API needs of the rest."""

    def accepts_key(self, key: str) -> bool:
        """Whether a caller with this key may come in."""

    def complaints(self) -> list[str]:
        """What is wrong with the supervisor itself; empty when it is healthy."""

    def device(self) -> dict[str, Any]:
        """The body of `GET /v1/device`."""

    def update(self, force: bool) -> bool:
        """Ask for the target now; False when the device has no fleet yet."""


def same_key(given: str, key: str | None) -> bool:
    """Compare in constant time; a key that does not exist is nobody's."""
    return bool(key) and hmac.compare_digest(given.encode(), (key or "").encode())


def _given_key(request: Request) -> str:
    """From `?apikey=`, or an Authorization header with Bearer or ApiKey."""
    if "apikey" in request.query_params:
        return request.query_params["apikey"]
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() in ("bearer", "apikey") else ""


Handler = Callable[[Request], Awaitable[Response]]


def application(supervisor: Supervisor, bundles: "Bundles | None" = None) -> Starlette:
    """The routes. Only ping and health are open."""

    def guarded(handler: Handler) -> Handler:
        async def check(request: Request) -> Response:
            if not supervisor.accepts_key(_given_key(request)):
                return PlainTextResponse("Unauthorized", status_code=401)
            return await handler(request)

        return check

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("OK")

    async def healthy(_request: Request) -> Response:
        complaints = supervisor.complaints()
        if complaints:
            _LOG.warning("not healthy: %s", "; ".join(complaints))
            return PlainTextResponse("Unhealthy", status_code=500)
        return PlainTextResponse("OK")

    async def device(_request: Request) -> Response:
        return JSONResponse(supervisor.device())

    async def update(request: Request) -> Response:
        body = await _body(request)
        force = body.get("force") in (True, "true", 1, "1")
        if not supervisor.update(force):
            return PlainTextResponse("The device is not provisioned yet", status_code=503)
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET"]),
            Route("/v1/healthy", healthy, methods=["GET"]),
            Route("/v1/device", guarded(device), methods=["GET"]),
            Route("/v1/update", guarded(update), methods=["POST"]),
            *(bundle_web.routes(bundles, guarded) if bundles is not None else ()),
        ]
    )


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a body; anything else counts as an empty one, as with the family."""
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > _BODY_LIMIT:
            raise HTTPException(413, f"a body may have {_BODY_LIMIT} bytes")
    with suppress(ValueError):
        document = json.loads(content or b"{}")
        return document if isinstance(document, dict) else {}
    return {}
