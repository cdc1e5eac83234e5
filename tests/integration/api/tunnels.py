"""Devices that can be reached: the supervisor's own HTTP API, behind a small CONNECT proxy.

The supervisor's web server, keys and actions are real; what stands in is below them, the engine and
the host, which note what they are asked. The proxy is what the api knows of a server of the VPN.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h11
import httpx2 as httpx

from gantry.supervisor import httpserver
from gantry.supervisor.actions import ActionError, Actions
from gantry.supervisor.keys import EVERYTHING, Scope
from gantry.supervisor.locks import LockedError
from gantry.supervisor.web import application

from .conftest import Api, Device
from .vpn import Server, event


@dataclass
class Supervisor:
    """One device's supervisor; `heard` are the actions that have reached engine and host."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    services_here: tuple[str, ...] = ("main",)
    is_locked: bool = False
    heard: list[str] = field(default_factory=list)
    journal_line: float = 0.1
    # It is asked, and says nothing any more.
    is_mute: bool = False
    # Seconds until it hears what it is asked.
    delay: float = 0

    def scope_of(self, key: str) -> Scope | None:
        return EVERYTHING if key == self.key else None

    def asks_no_key(self) -> bool:
        return False

    def complaints(self) -> list[str]:
        return []

    def bundles(self) -> Any:
        return SimpleNamespace(status=None, folder=Path("/dev/null/bundles"))

    def services(self) -> Any:
        host = SimpleNamespace(
            reboot=self._noted("reboot"),
            shutdown=self._noted("shutdown"),
            blink=self._noted("blink"),
            journal=self._journal,
        )
        up = SimpleNamespace(state=SimpleNamespace(is_up=True))
        picture = SimpleNamespace(
            current=SimpleNamespace(containers=(), volumes=frozenset()),
            services=lambda _: dict.fromkeys(self.services_here, up),
        )

        async def intervene(asked: Any) -> None:
            await self._locks(asked.force)
            names = ",".join(sorted(asked.services))
            self.heard.append(f"{asked.action} {asked.app_id} {names}")

        async def start(app_id: int, services: Any) -> None:
            self.heard.append(f"start {app_id} {','.join(services)}")

        @contextlib.asynccontextmanager
        async def hold(force: bool) -> AsyncIterator[None]:
            await self._locks(force)
            yield

        around = SimpleNamespace(
            picture=lambda: picture,
            variables=dict,
            interventions=SimpleNamespace(ask=intervene, start=start),
            update=lambda force, _cancel: self.heard.append(f"update {force}"),
            host=host,
            hold=hold,
            journal=SimpleNamespace(write=lambda _: None),
            pulse=SimpleNamespace(listen=lambda: contextlib.nullcontext()),
        )
        return SimpleNamespace(
            actions=_Actions(around, self), host=host, name="robot", picture=lambda: picture
        )

    def _noted(self, what: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def note() -> None:
            self.heard.append(what)

        return note

    async def _locks(self, force: bool) -> None:
        if self.is_locked and not force:
            raise LockedError(["an update lock is held"])  # type: ignore[list-item]

    async def _journal(self, _query: Any) -> AsyncIterator[bytes]:
        number = 0
        while True:
            number += 1
            yield f"line {number}\n".encode()
            await asyncio.sleep(self.journal_line)


class _Actions(Actions):
    def __init__(self, around: Any, supervisor: Supervisor) -> None:
        super().__init__(around)
        self._supervisor = supervisor

    def _app(self, app_id: int, service: str | None = None) -> Any:
        here = self._supervisor.services_here
        if service is not None and service not in here:
            raise ActionError(404, f"Service {service!r} not found")
        named = [SimpleNamespace(service=each, container_name=each) for each in here]
        return SimpleNamespace(id=app_id, services=named, volumes=())

    def service_of(self, app_id: int, name: str, image_id: int | None) -> str:
        self._app(app_id, name)
        return name


class Network:
    """A server's CONNECT proxy at 127.0.0.1, and the supervisors behind it, in one thread."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._loop = asyncio.new_event_loop()
        self._ports: dict[str, int] = {}
        self._server: Server | None = None
        self._beating: threading.Thread | None = None
        self._over = threading.Event()
        self.supervisors: dict[str, Supervisor] = {}
        # What the proxy was asked, and what it says instead of 200.
        self.asked: list[str] = []
        self.refusal = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self.port: int = self._run(self._listen())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def add(self, uuid: str) -> Supervisor:
        """A device's supervisor."""
        made = self.supervisors[uuid] = Supervisor()
        self._ports[uuid] = self._run(self._serve(made))
        return made

    def server(self, api: Api) -> Server:
        """The server that this is the proxy of; one alone, for another one would be a new run."""
        if self._server is None:
            self._server = Server(api, "127.0.0.1")
            self._beating = threading.Thread(target=self._beat, args=(api,), daemon=True)
            self._beating.start()
        return self._server

    def _beat(self, api: Api) -> None:
        """As servers do: who is silent for a minute has no devices."""
        assert self._server is not None
        path, body = f"/services/vpn/servers/{self._server.name}", {"boot": self._server.boot}
        headers = {"Authorization": f"Bearer {self._key}"}
        while not self._over.wait(10):
            # Tests stop the api.
            with contextlib.suppress(httpx.TransportError):
                httpx.put(api.url + path, json=body, headers=headers)

    def close(self) -> None:
        """End the thread, and all that it serves."""
        self._over.set()
        if self._beating is not None:
            self._beating.join(60)
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _end(self) -> None:
        for each in self._servers:
            each.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # What they had open is closed in the loop's next round.
        await asyncio.sleep(0.1)

    async def _serve(self, supervisor: Supervisor) -> int:
        served = await httpserver.serve(application(supervisor), "127.0.0.1", 0)
        return self._port_of(served)

    async def _listen(self) -> int:
        listening = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        return self._port_of(listening)

    def _port_of(self, server: asyncio.Server) -> int:
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            http = h11.Connection(h11.SERVER)
            while (found := http.next_event()) is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            assert isinstance(found, h11.Request)
            target, headers = found.target.decode(), dict(found.headers)
            self.asked.append(target)
            uuid, _, port = target.partition(".gantry:")
            status = self.refusal or 200
            if headers.get(b"proxy-authorization") != f"Bearer {self._key}".encode():
                status = 407
            elif found.method != b"CONNECT" or port != "48484":
                status = 400
            elif uuid not in self._ports:
                status = 404
            if status != 200:
                body = b"the proxy says no"
                length = [("Content-Length", str(len(body)))]
                writer.write(http.send(h11.Response(status_code=status, headers=length)) or b"")
                writer.write(http.send(h11.Data(body)) or b"")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            if self.supervisors[uuid].is_mute:
                await reader.readuntil(b"\r\n\r\n")
                return
            await asyncio.sleep(self.supervisors[uuid].delay)
            there, back = await asyncio.open_connection("127.0.0.1", self._ports[uuid])
            with contextlib.closing(back):
                ways = {
                    asyncio.ensure_future(_pump(reader, back)),
                    asyncio.ensure_future(_pump(there, writer)),
                }
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for each in ways:
                    each.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()


@dataclass
class Reachable:
    """A device whose supervisor has told its key; it is connected while `come` was called last."""

    device: Device
    supervisor: Supervisor
    server: Server
    session: str = ""

    def report(self, key: str | None = None) -> None:
        """Tell the api the supervisor's key."""
        body = {self.device.uuid: {"api_secret": key or self.supervisor.key}}
        answer = self.device.client.patch("/device/v3/state", json=body)
        assert answer.status_code == 200, answer.text

    def come(self) -> None:
        """Connect."""
        self.session = self.server.login(self.device)

    def go(self) -> None:
        """Disconnect."""
        self.server.tell(event(self.device.uuid, "disconnected", self.session))


@contextlib.contextmanager
def network(key: str) -> Iterator[Network]:
    """A network of its own."""
    made = Network(key)
    try:
        yield made
    finally:
        made.close()


def reachable(api: Api, net: Network, device: Device, *, is_connected: bool = True) -> Reachable:
    """Give a device a supervisor that the api can ask."""
    made = Reachable(device, net.add(device.uuid), net.server(api))
    made.report()
    if is_connected:
        made.come()
    return made


def until(what: Callable[[], object], seconds: float = 30) -> Any:
    """Wait for something to be true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found
