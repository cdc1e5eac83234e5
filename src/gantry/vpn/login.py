"""Answers openvpn's question who may log in, by asking the api: never many at once.

A storm of devices that come back waits here, and not in the api; who would wait too long is sent
away for a while. While the api is away nobody new is let in, and who is in stays.
"""

import asyncio
import hashlib
import hmac
import random
import secrets
import time

from gantry.vpn import management
from gantry.vpn.api import Api, DeviceGrant
from gantry.vpn.config import Config
from gantry.vpn.devices import Devices, Session
from gantry.vpn.errors import RefusedError, UnavailableError
from gantry.vpn.full import Full
from gantry.vpn.management import ClientNotice, Kind
from gantry.vpn.metrics import Login, Metrics
from gantry.vpn.process import Run

AT_ONCE = 8
MAX_WAITING = 2000
# openvpn gives a handshake a minute in all; clients have as much patience.
PATIENCE_SECONDS = 25.0
BACKOFF_SECONDS = (5, 30)
BUSY_BACKOFF_SECONDS = (10, 60)
UUID_LENGTHS = (32, 62)
MAX_KEY_LENGTH = 128
_HEX = frozenset("0123456789abcdef")
# One text for all: it tells nobody which uuids exist.
WRONG = "wrong uuid or key"
FULL = "this server has no room for more devices"


class Authenticator:
    """See the module."""

    def __init__(self, config: Config, api: Api, devices: Devices, metrics: Metrics) -> None:
        self._config = config
        self._api = api
        self._devices = devices
        self._metrics = metrics
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._full = Full()
        # Keys are compared by fingerprints that mean nothing outside this process.
        self._pepper = secrets.token_bytes(32)

    def on_login(self, run: Run, notice: ClientNotice) -> None:
        """openvpn asks; the answer is sent later."""
        if len(self._tasks) >= MAX_WAITING:
            result = self._unsure(run, notice, BUSY_BACKOFF_SECONDS)
            self._metrics.logins.labels(Login.BUSY if result is Login.UNAVAILABLE else result).inc()
            return
        task = asyncio.create_task(self._answer(run, notice))
        self._tasks.add(task)
        self._metrics.waiting.set(len(self._tasks))
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._metrics.waiting.set(len(self._tasks))

    async def _answer(self, run: Run, notice: ClientNotice) -> None:
        begun = time.monotonic()
        result = await self._judge(run, notice)
        self._metrics.logins.labels(result).inc()
        self._metrics.login_seconds.observe(time.monotonic() - begun)

    async def _judge(self, run: Run, notice: ClientNotice) -> Login:
        uuid = notice.environment.get("username", "")
        key = notice.environment.get("password", "")
        if len(uuid) not in UUID_LENGTHS or not _HEX.issuperset(uuid) or not _is_key(key):
            return self._refuse(run, notice, WRONG)
        known = self._known(notice)
        if known and known.grant.uuid != uuid:
            return self._refuse(run, notice, WRONG)
        if not known and self._devices.is_full_for(uuid):
            return self._send_on(run, notice)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._slots:
                grant = await self._api.authorize_device(uuid, key)
        except RefusedError as error:
            return self._refuse(run, notice, WRONG if error.status == 401 else error.sentence)
        except TimeoutError:
            return self._unsure(run, notice, BUSY_BACKOFF_SECONDS)
        except UnavailableError as error:
            print(f"device {uuid} cannot log in for now: {error.sentence}", flush=True)
            return self._unsure(run, notice, BACKOFF_SECONDS)
        if grant.uuid != uuid or not self._is_free(grant):
            print(f"the api gave device {uuid} the wrong address {grant.address}", flush=True)
            return self._unsure(run, notice, BACKOFF_SECONDS)
        return self._let_in(run, notice, grant)

    def _let_in(self, run: Run, notice: ClientNotice, grant: DeviceGrant) -> Login:
        client, exchange = notice.client, _exchange(notice)
        known = self._known(notice)
        if known:
            self._devices.renew(known, grant, self._proof(notice))
            run.management.send(management.allow_again(client, exchange))
            return Login.RENEWED
        if run.management.closed:
            return Login.UNAVAILABLE
        self._devices.admit(run, client, grant, self._proof(notice))
        netmask = self._config.network.netmask
        run.management.send(management.allow(client, exchange, grant.address, netmask))
        return Login.ACCEPTED

    def _refuse(self, run: Run, notice: ClientNotice, reason: str) -> Login:
        run.management.send(management.deny(notice.client, _exchange(notice), reason))
        known = self._known(notice)
        if known:
            # Its old keys would do for an hour more.
            self._devices.end(known, reason)
        return Login.REFUSED

    def _send_on(self, run: Run, notice: ClientNotice) -> Login:
        """There is no room; at another server, or later, there may be."""
        self._full.tell(f"{len(self._devices.connected)} devices are connected")
        self._deny_for_now(run, notice, FULL, BUSY_BACKOFF_SECONDS)
        return Login.FULL

    def _unsure(self, run: Run, notice: ClientNotice, backoff: tuple[int, int]) -> Login:
        """The api cannot say: who is in with this very key stays; nobody else comes in."""
        known = self._known(notice)
        if known and hmac.compare_digest(known.proof, self._proof(notice)):
            run.management.send(management.allow_again(notice.client, _exchange(notice)))
            return Login.KEPT
        self._deny_for_now(run, notice, "the servers are busy", backoff)
        return Login.UNAVAILABLE

    def _deny_for_now(
        self, run: Run, notice: ClientNotice, reason: str, backoff: tuple[int, int]
    ) -> None:
        seconds = random.randint(*backoff)  # noqa: S311 - spreads devices, hides nothing
        said = management.deny_for_now(notice.client, _exchange(notice), reason, seconds)
        run.management.send(said)

    def _known(self, notice: ClientNotice) -> Session | None:
        return self._devices.session(notice.client) if notice.kind is Kind.REAUTH else None

    def _is_free(self, grant: DeviceGrant) -> bool:
        """It is a device's address: in the network, and not the servers' own."""
        network = self._config.network
        return grant.address in network and grant.address not in (
            network.network_address,
            network.broadcast_address,
            self._config.address,
        )

    def _proof(self, notice: ClientNotice) -> bytes:
        sent = notice.environment
        text = f"{sent.get('username', '')}\0{sent.get('password', '')}"
        return hashlib.sha256(self._pepper + text.encode()).digest()


def _exchange(notice: ClientNotice) -> int:
    return notice.key or 0


def _is_key(key: str) -> bool:
    return 0 < len(key) <= MAX_KEY_LENGTH and key.isprintable()
