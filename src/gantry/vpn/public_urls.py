"""Public URLs: `https://<uuid>.devices.<host>` leads to port 80 of a device that allows it.

The proxy in front ends TLS and sends one request a connection. Only its head is read here.
"""

import asyncio
import re
import time

from gantry.vpn.api import Api, Place
from gantry.vpn.config import Config
from gantry.vpn.cuts import Cuts
from gantry.vpn.errors import VpnError
from gantry.vpn.heads import answer, read_head
from gantry.vpn.metrics import Metrics, Road
from gantry.vpn.relay import Count, End, closing, prepare, relay
from gantry.vpn.roads import Roads
from gantry.vpn.tunnels import Crowd

PORT = 80
IDLE_SECONDS = 300.0
MAX_PER_DEVICE = 64
# A page has many parts: the api is asked once for them.
REMEMBER_SECONDS = 5.0
MAX_REMEMBERED = 1000
ASKING_AT_ONCE = 8
NOTHING = "nothing is served under this name"
# No answer of the api's about keys means anything to a visitor.
STATUS = {401: 503, 403: 404, 409: 503}


class PublicUrls:
    """See the module."""

    def __init__(
        self, config: Config, api: Api, roads: Roads, cuts: Cuts, metrics: Metrics
    ) -> None:
        host = re.escape(config.host)
        self._name = re.compile(rf"([0-9a-f]{{32}}|[0-9a-f]{{62}})\.devices\.{host}(:[0-9]+)?")
        self._api = api
        self._roads = roads
        self._cuts = cuts
        self._metrics = metrics
        self._crowd = Crowd(config.max_tunnels, MAX_PER_DEVICE, "device", "visitors")
        self._asking = asyncio.Semaphore(ASKING_AT_ONCE)
        self._places: dict[str, tuple[float, Place]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the proxy's."""
        prepare(writer)
        visitor = End(reader, writer)
        async with closing(writer):
            try:
                await self._lead(visitor)
            except VpnError as error:
                status = STATUS.get(error.status, error.status)
                self._metrics.answers.labels(Road.PUBLIC_URL, status).inc()
                writer.write(answer(status, error.sentence + "\n"))

    async def _lead(self, visitor: End) -> None:
        head = await read_head(visitor.reader)
        if head is None:
            return
        found = self._name.fullmatch(head.fields.get("host", "").lower())
        if not found:
            raise VpnError(404, NOTHING)
        uuid, count = found[1], Count(there=len(head.raw))
        # Guarded before the api is asked: what is switched off meanwhile is cut too.
        topics = (f"public:{uuid}", f"device:{uuid}")
        with self._crowd.joined(uuid), self._cuts.guarding(topics):
            place = await self._place(uuid)
            device = await self._roads.open(uuid, PORT, place.server)
            async with closing(device.writer):
                self._metrics.answers.labels(Road.PUBLIC_URL, 200).inc()
                with self._metrics.roads.labels(Road.PUBLIC_URL).track_inprogress():
                    device.writer.write(head.raw)
                    try:
                        await relay(visitor, device, count, IDLE_SECONDS)
                    finally:
                        carried = self._metrics.carried
                        carried.labels(Road.PUBLIC_URL, "to_device").inc(count.there)
                        carried.labels(Road.PUBLIC_URL, "from_device").inc(count.back)

    async def _place(self, uuid: str) -> Place:
        until, known = self._places.get(uuid, (0.0, None))
        now = time.monotonic()
        if known and until > now:
            return known
        async with self._asking:
            place = await self._api.public_url(uuid)
        if len(self._places) >= MAX_REMEMBERED:
            self._places.clear()
        self._places[uuid] = (now + REMEMBER_SECONDS, place)
        return place

    def forget(self, uuid: str) -> None:
        """Something about its public URL has changed: ask again."""
        self._places.pop(uuid, None)
