"""The parts of a server around an api whose answers a test chooses, and an openvpn that listens."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from gantry.vpn.api import Api
from gantry.vpn.config import Config
from gantry.vpn.cuts import Cuts
from gantry.vpn.devices import Devices
from gantry.vpn.login import Authenticator
from gantry.vpn.management import ClientNotice, Kind, Management
from gantry.vpn.metrics import Metrics
from gantry.vpn.process import Run
from gantry.vpn.report import Reporter

UUID = "5ca1ab1e" * 4
CONFIG = Config.model_validate(
    {
        "fleet": "devbots",
        "host": "devbots.gantry.internal",
        "server": "vpn-1",
        "api_url": "http://api:8080",
        "service_key": "s3cret-" * 4,
    }
)


@dataclass
class StandIn:
    """The api: `answer` gets (method, path, body), and gives a status and a body."""

    answer: Callable[[str, str, Any], tuple[int, Any]] = lambda *_: (200, {})
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    delay: float = 0.0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        path = request.url.path.removeprefix("/services/vpn")
        self.asked.append((request.method, path, body))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            status, told = self.answer(request.method, path, body)
        finally:
            self.at_once -= 1
        if status == 0:
            raise httpx2.ConnectError("nobody is there")
        return httpx2.Response(status, json=told)


class Server:
    """A server's parts, with what openvpn is told in `commands`."""

    def __init__(self, api: StandIn, config: Config = CONFIG) -> None:
        self.cuts = Cuts()
        self.metrics = Metrics()
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(api))
        self.api = Api(self.client, config)
        self.devices = Devices(
            config.max_devices,
            self.cuts,
            self.metrics,
            lambda run, event: self.on_event(run, event),
        )
        self.reporter = Reporter(self.api, self.devices, self.metrics)
        self.login = Authenticator(config, self.api, self.devices, self.metrics)
        self.on_event = self.reporter.add

    async def open(self) -> None:
        here, there = socket.socketpair()
        self.run = Run(Management(*await asyncio.open_connection(sock=here)))
        self._openvpn, self._writer = await asyncio.open_connection(sock=there)

    async def close(self) -> None:
        self.run.management.close()
        self._writer.transport.abort()
        await asyncio.sleep(0)
        await self.client.aclose()

    async def command(self) -> str:
        """The next line that openvpn is sent."""
        async with asyncio.timeout(5):
            return (await self._openvpn.readline()).decode().rstrip("\n")

    def knock(
        self, client: int, key: str = "k3y", uuid: str = UUID, *, again: bool = False
    ) -> None:
        """A login, as openvpn tells of it."""
        kind = Kind.REAUTH if again else Kind.CONNECT
        self.login.on_login(
            self.run, ClientNotice(kind, client, 0, {"username": uuid, "password": key})
        )

    async def enter(self, client: int, uuid: str = UUID) -> None:
        """A device that is let in and is there."""
        self.knock(client, uuid=uuid)
        for expected in (f"client-auth {client} 0", "ifconfig-push", "END"):
            assert (await self.command()).startswith(expected)
        self.devices.established(ClientNotice(Kind.ESTABLISHED, client, None, {}))

    def leave(self, client: int) -> None:
        """Its connection ended."""
        self.devices.disconnected(ClientNotice(Kind.DISCONNECT, client, None, {}))


async def eventually(condition: Callable[[], bool]) -> None:
    """Until it holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it may be anything
            await asyncio.sleep(0.01)


def consent(uuid: str = UUID, address: str = "100.64.0.7") -> dict[str, Any]:
    """What the api says to a login that is right."""
    return {
        "uuid": uuid,
        "device_id": 1,
        "address": address,
        "credential": "key:1",
        "seconds": None,
    }


@asynccontextmanager
async def serving(api: StandIn, config: Config = CONFIG) -> AsyncIterator[Server]:
    made = Server(api, config)
    await made.open()
    try:
        yield made
    finally:
        await made.close()
