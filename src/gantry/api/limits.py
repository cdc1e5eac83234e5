"""No request body larger than the api means to read."""

import contextlib

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 512 * 1024
# By what a path begins with. Our own builder sends whole build logs; releases have files.
LARGER = {
    "/services/": 32 * 1024 * 1024,
    "/v7/release_asset": 65 * 1024 * 1024,
    "/v6/release_asset": 65 * 1024 * 1024,
}


class BodyTooLargeError(Exception):
    """The body went on beyond its limit."""


class BodyLimit:
    """ASGI middleware: 413 for a body over its limit, before or while it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        larger = (size for start, size in LARGER.items() if scope["path"].startswith(start))
        limit = next(larger, BODY_LIMIT)
        refusal = JSONResponse(
            {"error": f"the request's body is larger than {limit // 1024} kB"}, 413
        )
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            await refusal(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            # Whoever reads bodies may answer in its own way to the exception: not heard.
            if received <= limit or started:
                started = True
                await send(message)

        with contextlib.suppress(BodyTooLargeError):
            await self._app(scope, counted, noted)
        if received > limit and not started:
            await refusal(scope, receive, send)
