"""The answer to a build: a stream of events that ends the build when its reader goes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gantry.contracts.build import BuildEvent, BuildMessage, BuildResult, KeepAlive, encode

KEEP_ALIVE_SECONDS = 5.0
# Of a reader that does not keep up, lines over this are dropped here; the kept log has them all.
QUEUE_EVENTS = 10_000

Emit = Callable[[BuildMessage], None]
Work = Callable[[Emit], Awaitable[BuildResult]]


class BuildStream(Response):
    """Runs `work` while it is read; NDJSON of `gantry.contracts.build`."""

    media_type = "application/x-ndjson"

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events as they come; keep-alives in silence; cancel the work on disconnect."""
        events: asyncio.Queue[BuildEvent] = asyncio.Queue()

        def emit(message: BuildMessage) -> None:
            if events.qsize() < QUEUE_EVENTS:
                events.put_nowait(message)

        async def work() -> None:
            events.put_nowait(await self._work(emit))

        headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        working = asyncio.create_task(work())
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await self._pump(events, working, gone, send)
        finally:
            gone.cancel()
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

    @staticmethod
    async def _pump(
        events: asyncio.Queue[BuildEvent],
        working: asyncio.Task[None],
        gone: asyncio.Task[None],
        send: Send,
    ) -> None:
        while True:
            next_event = asyncio.create_task(events.get())
            done, _ = await asyncio.wait(
                {next_event, gone},
                timeout=KEEP_ALIVE_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone in done:
                next_event.cancel()
                return
            if next_event not in done:
                next_event.cancel()
                if working.done():
                    # The pipeline tells all it knows in its result; this is its own failure.
                    working.result()
                    return
                event: BuildEvent = KeepAlive()
            else:
                event = next_event.result()
            last = isinstance(event, BuildResult)
            body = {"type": "http.response.body", "body": encode(event), "more_body": not last}
            await send(body)
            if last:
                return


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
