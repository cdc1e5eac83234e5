"""No request body larger than the api means to read, and no request without an answer."""

import asyncio
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


# A statement has 20 s and the wait for a connection 10 s. What takes longer has met a database that
# takes requests and does not answer them; nothing else ends the wait for that one.
ANSWER_SECONDS = 40.0
# Devices have a time of their own: the way there, and 50 s.
DEVICE_ANSWER = ("/supervisor/", 75.0)


class Deadline:
    """ASGI middleware: 503 where no answer has begun in time after the request was read."""

    def __init__(self, app: ASGIApp, seconds: float = ANSWER_SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        heard = loop.time()
        begun = asyncio.Event()
        is_listening = is_late = False
        prefix, longer = DEVICE_ANSWER
        seconds = max(self._seconds, longer) if scope["path"].startswith(prefix) else self._seconds

        async def listened() -> Message:
            nonlocal heard, is_listening
            is_listening = True
            message = await receive()
            heard, is_listening = loop.time(), False
            return message

        async def noted(message: Message) -> None:
            if not is_late:
                begun.set()
                await send(message)

        serving = asyncio.ensure_future(self._app(scope, listened, noted))
        serving.add_done_callback(lambda _: begun.set())
        try:
            while not begun.is_set() and not is_late:
                # A slow sender's time is its own: the end moves while the request is read.
                end = (loop.time() if is_listening else heard) + seconds
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        await begun.wait()
                is_over = not is_listening and loop.time() >= heard + seconds
                is_late = is_over and not begun.is_set()
            if not is_late:
                await serving
                return
        finally:
            # What waits for a thread ends here; what is in one, when that returns.
            serving.cancel()
        sentence = "the api did not get an answer of the database in time: try again"
        refusal = JSONResponse({"error": sentence}, 503, headers={"Retry-After": "30"})
        await refusal(scope, receive, send)
