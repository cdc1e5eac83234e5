"""A fleet's tunnels: the vpn service's own CONNECT proxy before the real api. And a site's proxy.

The VPN behind it is left out, which tests/integration/vpn has: where a device's address in it would
be is that of a container.
"""

import asyncio
import base64
import contextlib
import secrets
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2

from gantry.vpn.api import TIMEOUT_SECONDS, Api
from gantry.vpn.config import Config
from gantry.vpn.cuts import Cuts
from gantry.vpn.devices import Devices
from gantry.vpn.heads import MAX_HEAD_BYTES
from gantry.vpn.metrics import Metrics
from gantry.vpn.roads import Roads
from gantry.vpn.service import tls_context
from gantry.vpn.tunnels import Tunnels
from tests.integration.supervisor.certificates import self_signed

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SERVER = "vpn-1"
# The api takes a server that is silent for a minute for gone, and its devices with it.
BEAT_SECONDS = 10.0
_CLOSE = "\r\nConnection: close\r\n"


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: "Any") -> Any:
        """What a coroutine returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """Nothing runs any more."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # what they have closed is gone on the loop's next turns


class Listener:
    """A server of asyncio's on a free port of loopback."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None = None) -> None:
        self.loop = Loop()
        start = asyncio.start_server(handler, "127.0.0.1", 0, ssl=context, limit=MAX_HEAD_BYTES)
        self._server = self.loop.run(start)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """No connection is left."""
        self.loop.run(self._stop())
        self.loop.close()

    async def _stop(self) -> None:
        self._server.close()


class TunnelServer:
    """`connections`: how many came so far as to speak TLS with it."""

    def __init__(self, api_url: str, service_key: str, folder: Path) -> None:
        now, day = datetime.now(UTC), timedelta(days=1)
        _, files = self_signed(folder, now - day, now + day)
        self.authority = Path(files["ssl_certfile"])
        self.authority.rename(folder / "tls.crt")
        Path(files["ssl_keyfile"]).rename(folder / "tls.key")
        self.authority = folder / "tls.crt"
        self._config = Config(
            fleet="devbots",
            host="devbots.gantry.internal",
            server=SERVER,
            api_url=api_url,
            service_key=service_key,  # type: ignore[arg-type]  # pydantic makes a secret of it
            certificates=folder,
        )
        self.connections = 0
        self._boot = secrets.token_hex(8)
        self._here: dict[str, Any] = {}
        headers = {"Authorization": f"Bearer {service_key}"}
        self._api = httpx2.Client(base_url=f"{api_url}/services/vpn", headers=headers, timeout=30)

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """Its port, while it listens. Its name is `localhost`."""
        listener = Listener(self._serve, tls_context(self._config))
        listener.loop.run(self._begin())
        try:
            yield listener.port
        finally:
            listener.loop.run(self._end())
            listener.close()
            self._api.close()

    async def _begin(self) -> None:
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS)
        self._asks = Api(self._client, self._config)
        devices = cast(Devices, SimpleNamespace(connected=self._here))
        roads = Roads(self._config, devices)
        self._tunnels = Tunnels(self._config, self._asks, roads, Cuts(), Metrics())
        await self._asks.beat(self._boot, [])
        self._tasks = [
            asyncio.create_task(self._tunnels.tell_ends()),
            asyncio.create_task(self._beat()),
        ]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._asks.beat(self._boot, None)

    async def _end(self) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._tunnels.serve_person(reader, writer)

    def come(self, uuid: str, key: str, host: str) -> None:
        """A device logs in; what is asked of it goes to `host`."""
        body = {"uuid": uuid, "key": key, "server": SERVER}
        answer = self._api.post("/devices/authorize", json=body)
        assert answer.status_code == 200, answer.text
        grant = SimpleNamespace(address=IPv4Address(host))
        self._here[uuid] = SimpleNamespace(grant=grant, inside=answer.json()["address"])
        self._here[uuid].session = secrets.token_hex(8)
        self._tell(uuid, "connected")

    def leave(self, uuid: str) -> None:
        """It goes, and the api hears of it."""
        self._tell(uuid, "disconnected")
        self.vanish(uuid)

    def vanish(self, uuid: str) -> None:
        """It goes, and the api has not heard of it yet."""
        del self._here[uuid]

    def _tell(self, uuid: str, what: str) -> None:
        device = self._here[uuid]
        event = {"uuid": uuid, "address": device.inside, "event": what}
        event |= {"at": datetime.now(UTC).isoformat(), "session": device.session}
        body = {"server": SERVER, "boot": self._boot, "events": [event]}
        answer = self._api.post("/events", json=body)
        assert answer.status_code == 204, answer.text


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
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
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


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _carry(first: End, second: End) -> None:
    """Until either direction ends."""
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
