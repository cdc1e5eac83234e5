"""A fleet's tunnel server and a site's proxy: CONNECT over TLS as docs/api.md has it, to devices
that are addresses on this machine.

It asks the real api whose token it is and whether the device is theirs. The VPN behind it is left
out: tests/integration/vpn has that.
"""

import asyncio
import base64
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_CLOSE = "\r\nConnection: close\r\n"
_HTTP = {200: "OK", 403: "Forbidden", 404: "Not Found", 407: "Proxy Authentication Required"}


class Listener:
    """An asyncio server in a thread of its own, on a free port of loopback."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """No connection is left."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class TunnelServer:
    """`devices`: addresses by uuid; `offline`: those that have left, which the api does not know
    yet; `asked`: the targets, in order."""

    api: str
    devices: dict[str, str] = field(default_factory=dict)
    offline: set[str] = field(default_factory=set)
    closed_to_people: set[int] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def reset(self, devices: dict[str, str]) -> None:
        """These devices, online, and nothing else."""
        self.devices = devices
        for each in (self.offline, self.closed_to_people, self.asked, self.heads):
            each.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        first, *fields = head.split("\r\n")
        target = first.split(" ")[1]
        self.asked.append(target)
        uuid, _, port = target.partition(".gantry:")
        status, sentence = await asyncio.to_thread(self._judged, fields, uuid, int(port))
        if status == 200:
            try:
                there = await asyncio.open_connection(self.devices[uuid], int(port))
            except OSError:
                status, sentence = 502, f"port {port} of the device is closed: nothing listens"
        if status != 200:
            writer.write(_answer(status, sentence))
            await writer.drain()
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _carry((reader, writer), there)

    def _judged(self, fields: list[str], uuid: str, port: int) -> tuple[int, str]:
        name = "Proxy-Authorization: "
        login = next((each.removeprefix(name) for each in fields if each.startswith(name)), "")
        query = {"$select": "id", "$filter": f"uuid eq '{uuid}'"}
        headers = {"Authorization": login}
        answer = httpx2.get(f"{self.api}/v7/device", params=query, headers=headers)
        if answer.status_code == 401:
            return 407, "the session has ended"
        if not answer.json()["d"]:
            return 404, f"there is no device {uuid[:7]}"
        if port in self.closed_to_people:
            return 403, f"port {port} is not open to you"
        if uuid in self.offline:
            return 503, "the device is not connected to the VPN at this moment"
        return 200, ""


@dataclass
class SiteProxy:
    """A site's HTTP proxy, which leads to `127.0.0.1` whatever name is asked for."""

    login: str | None = None
    asked: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ")[1]
        self.asked.append(target)
        expected = base64.b64encode((self.login or "").encode()).decode()
        if self.login and f"Proxy-Authorization: Basic {expected}\r\n" not in head:
            writer.write(_answer(407, "who are you?"))
            await writer.drain()
            writer.close()
            return
        place = target.removeprefix("http://").partition("/")[0]
        there = await asyncio.open_connection("127.0.0.1", int(place.rpartition(":")[2]))
        if head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            # One request a connection, of which the server gets the path.
            asked = head.replace(f"http://{place}", "", 1).replace("\r\n", _CLOSE, 1)
            there[1].write(asked.encode())
        await _carry((reader, writer), there)


def _answer(status: int, sentence: str) -> bytes:
    body = sentence.encode()
    head = f"HTTP/1.1 {status} {_HTTP.get(status, 'No')}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _carry(first: End, second: End) -> None:
    """Until either direction ends: TLS has no half-closed connections."""
    tasks = [
        asyncio.ensure_future(_copy(first[0], second[1])),
        asyncio.ensure_future(_copy(second[0], first[1])),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in (first, second):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
