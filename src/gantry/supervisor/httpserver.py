"""A small HTTP/1.1 server for an ASGI application, on h11: one request a connection.

uvicorn costs 2.5 MB of memory in imports alone (it brings click and multiprocessing), wakes ten
times a second and takes the process's signals; a device's agent needs little of what it can do.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import h11

_LOG = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

# More than these at a time are turned away: in all, and of one address. So nobody on the network
# takes those of the health check, whose failing would have the supervisor started anew.
_CONNECTIONS = 64
_CONNECTIONS_EACH = 16
# Seconds that a caller has for its request's head.
_HEAD_TIMEOUT = 10.0
_PIECE = 16 * 1024
_DRAIN_TIMEOUT = 2.0
_DRAIN_PIECES = 256


async def serve(app: Application, address: str, port: int) -> asyncio.Server:
    """Listen.

    Raises:
        OSError: the port cannot be listened on.
    """
    open_connections: Counter[str] = Counter()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = str((writer.get_extra_info("peername") or ("",))[0])
        open_connections[caller] += 1
        try:
            if (
                open_connections[caller] <= _CONNECTIONS_EACH
                and open_connections.total() <= _CONNECTIONS
            ):
                await _Exchange(reader, writer).run(app)
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            _LOG.debug("connection ended: %s", error)
        except Exception:
            _LOG.exception("a request failed")
        finally:
            open_connections[caller] -= 1
            if not open_connections[caller]:
                del open_connections[caller]
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    return await asyncio.start_server(handle, address, port, limit=_PIECE)


class _Exchange:
    """One request and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_PIECE)

    async def run(self, app: Application) -> None:
        """Read the request, have it answered, send the answer."""
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT):
                request = await self._next()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return
        if not isinstance(request, h11.Request):
            return
        try:
            await app(self._scope(request), self._receive, self._send)
        except Exception:
            if self._http.our_state is h11.SEND_RESPONSE:
                await self._refuse(500)
            raise
        await self._drain()

    async def _drain(self) -> None:
        """Read what the caller still sends: a connection closed before that would lose our answer
        on its way. Not for ever, and not any amount."""
        with suppress(TimeoutError, h11.RemoteProtocolError):
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                for _ in range(_DRAIN_PIECES):
                    if self._http.their_state is not h11.SEND_BODY:
                        return
                    await self._next()

    def _scope(self, request: h11.Request) -> Message:
        """The request in ASGI's form (https://asgi.readthedocs.io/en/latest/specs/www.html)."""
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii").upper(),
            "scheme": "http",
            "path": unquote(path.decode("ascii", errors="replace")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._writer.get_extra_info("peername")[:2],
            "server": self._writer.get_extra_info("sockname")[:2],
        }

    async def _next(self) -> Any:
        """The next event of the request."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_PIECE))
        return event

    async def _receive(self) -> Message:
        if self._http.their_state is not h11.SEND_BODY:
            await self._reader.read()  # ends when the caller is gone
            return {"type": "http.disconnect"}
        event = await self._next()
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"connection", b"close")]
            await self._write(h11.Response(status_code=message["status"], headers=headers))
            return
        if body := message.get("body", b""):
            await self._write(h11.Data(data=body))
        if not message.get("more_body", False):
            await self._write(h11.EndOfMessage())

    async def _write(self, event: Any) -> None:
        if data := self._http.send(event):
            self._writer.write(data)
            await self._writer.drain()

    async def _refuse(self, status: int) -> None:
        await self._send({"type": "http.response.start", "status": status})
        await self._send({"type": "http.response.body"})
