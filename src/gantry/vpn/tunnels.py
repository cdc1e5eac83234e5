"""The CONNECT proxy: for people over TLS, whom the api judges; for the fleet's own services inside,
who show the service key.
"""

import asyncio
import contextlib
import hmac
import time
import uuid
from collections import Counter
from collections.abc import Iterator

from gantry.vpn.api import Api, TunnelEnd, TunnelGrant
from gantry.vpn.config import Config
from gantry.vpn.cuts import Cuts
from gantry.vpn.errors import RefusedError, UnavailableError, VpnError
from gantry.vpn.full import Full
from gantry.vpn.heads import Head, Target, answer, connect_target, proxy_secret, read_head
from gantry.vpn.metrics import Metrics, Road
from gantry.vpn.relay import Count, End, closing, prepare, relay
from gantry.vpn.roads import Roads

IDLE_SECONDS = 6 * 3600.0
MAX_PER_DEVICE = 100
MAX_PER_USER = 200
# Of services, besides those of people, who may not keep the api from devices.
MAX_OF_SERVICES = 300
# Who has not been judged yet: an open door, and few may stand in it.
MAX_AT_THE_DOOR = 500
ASKING_AT_ONCE = 8
MAX_ENDS = 5000
RETRY_SECONDS = 5.0
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
# The family's clients know a proxy's statuses, not an api's.
STATUS = {401: 407, 409: 503}


class Crowd:
    """Counts who is there, by what they are counted by: `each` of one `what`, of `everybody`'s
    `things`.
    """

    def __init__(self, everybody: int, each: int, what: str, things: str) -> None:
        self._everybody = everybody
        self._each = each
        self._what = what
        self._things = things
        self._full = Full()
        self._numbers: Counter[str] = Counter()

    @contextlib.contextmanager
    def joined(self, name: str) -> Iterator[None]:
        """One more of `name` while the block runs.

        Raises:
            VpnError: 429, there are too many of it; 503, there is no room for more of any.
        """
        if self._numbers[name] >= self._each:
            raise VpnError(429, f"too many connections of this {self._what}: close some")
        if (number := self._numbers.total()) >= self._everybody:
            self._full.tell(f"{number} {self._things} are open")
            raise VpnError(
                503, f"this server has no room for more {self._things}: try again in a while"
            )
        self._numbers[name] += 1
        try:
            yield
        finally:
            self._numbers[name] -= 1
            if not self._numbers[name]:
                del self._numbers[name]


class Tunnels:
    """See the module."""

    def __init__(
        self, config: Config, api: Api, roads: Roads, cuts: Cuts, metrics: Metrics
    ) -> None:
        self._key = config.service_key.get_secret_value()
        self._api = api
        self._roads = roads
        self._cuts = cuts
        self._metrics = metrics
        most = config.max_tunnels
        self._users = Crowd(most, MAX_PER_USER, "user", "tunnels")
        self._devices = Crowd(most + MAX_OF_SERVICES, MAX_PER_DEVICE, "device", "tunnels")
        self._door = Crowd(MAX_AT_THE_DOOR, MAX_AT_THE_DOOR + 1, "", "unanswered requests")
        self._asking = asyncio.Semaphore(ASKING_AT_ONCE)
        self._ends: asyncio.Queue[TunnelEnd] = asyncio.Queue(MAX_ENDS)

    async def serve_person(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection from outside."""
        await self._serve(End(reader, writer), Road.PERSON)

    async def serve_service(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection of the api's, or of another VPN server's."""
        await self._serve(End(reader, writer), Road.SERVICE)

    async def tell_ends(self) -> None:
        """Tell the api of tunnels that have ended, until cancelled; while it is away they wait."""
        while True:
            end = await self._ends.get()
            while True:
                try:
                    await self._api.end_tunnel(end)
                except UnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                except RefusedError as error:
                    print(f"the end of tunnel {end.session}: {error.sentence}", flush=True)
                break

    async def flush(self, seconds: float) -> None:
        """Tell of those that have just ended, for so long at most: the service stops."""
        with contextlib.suppress(TimeoutError, VpnError, asyncio.QueueEmpty):
            async with asyncio.timeout(seconds):
                await asyncio.sleep(0)
                while True:
                    await self._api.end_tunnel(self._ends.get_nowait())

    async def _serve(self, client: End, road: Road) -> None:
        prepare(client.writer)
        async with closing(client.writer):
            try:
                await self._lead(client, road)
            except VpnError as error:
                status = STATUS.get(error.status, error.status)
                self._metrics.answers.labels(road, status).inc()
                client.writer.write(answer(status, error.sentence + "\n"))

    async def _lead(self, client: End, road: Road) -> None:
        with self._door.joined(""):
            head = await read_head(client.reader)
            if head is None:
                return
            target = connect_target(head)
            if road is Road.PERSON:
                session = uuid.uuid4().hex
                async with self._asking:
                    grant = await self._api.authorize_tunnel(
                        target.uuid, target.port, session, proxy_secret(head)
                    )
        if road is Road.PERSON:
            await self._person(client, target, grant, session)
        else:
            await self._service(client, head, target)

    async def _service(self, client: End, head: Head, target: Target) -> None:
        if not hmac.compare_digest(proxy_secret(head).encode(), self._key.encode()):
            raise VpnError(407, "this is not the service key")
        road = Road.PEER if "x-gantry-hop" in head.fields else Road.SERVICE
        # The api knows where a device is, and a peer has asked it: nobody is sent on from here.
        topics = (f"device:{target.uuid}",)
        count = Count()
        with self._cuts.guarding(topics):
            await self._carry(client, target, "", road, count)

    async def _person(self, client: End, target: Target, grant: TunnelGrant, session: str) -> None:
        begun, count = time.monotonic(), Count()
        topics = (f"credential:{grant.credential}", f"device:{grant.uuid}")
        try:
            with self._users.joined(grant.user), self._cuts.guarding(topics, grant.ends) as guard:
                whole = Target(grant.uuid, target.port)
                await self._carry(client, whole, grant.server, Road.PERSON, count)
            if guard.reason:
                print(f"tunnel {session} is cut: {guard.reason}", flush=True)
        finally:
            seconds = round(time.monotonic() - begun, 3)
            end = TunnelEnd(session, grant.uuid, count.there, count.back, seconds)
            with contextlib.suppress(asyncio.QueueFull):
                self._ends.put_nowait(end)

    async def _carry(
        self, client: End, target: Target, server: str, road: Road, count: Count
    ) -> None:
        with self._devices.joined(target.uuid):
            device = await self._roads.open(target.uuid, target.port, server)
            async with closing(device.writer):
                self._metrics.answers.labels(road, 200).inc()
                with self._metrics.roads.labels(road).track_inprogress():
                    client.writer.write(ESTABLISHED)
                    try:
                        await relay(client, device, count, IDLE_SECONDS)
                    finally:
                        self._metrics.carried.labels(road, "to_device").inc(count.there)
                        self._metrics.carried.labels(road, "from_device").inc(count.back)
