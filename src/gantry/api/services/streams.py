"""The stream of announcements that a device keeps open (server-sent events, WHATWG HTML 9.2)."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gantry.api.actors import DeviceActor
from gantry.api.database import Database, reason
from gantry.api.events import BEAT_SECONDS, CHANGES, REVOCATIONS, Hub, Subscription
from gantry.api.models import KeyRole
from gantry.api.queries import accounts, devices, records
from gantry.api.services import actions, throttle, vpn
from gantry.api.services.secrets import hash_key
from gantry.api.services.target_state import current_target

log = logging.getLogger(__name__)

# Of one device in one process. It needs one; those of broken connections linger for a while.
MAX_STREAMS = 32
HEARTBEAT = b": still here\n\n"
# A lease is renewed many times within its life: a busy moment must not put devices offline.
LEASE_SECONDS = 30.0
# So many are renewed in one statement.
LEASES = 200
LEASE_LIFETIME = timedelta(seconds=120)
# A device whose stream broke opens another one soon, or is gone.
RECONNECT_GRACE = timedelta(seconds=45)
SWEEP_SECONDS = 5.0
# Where all connections are in use, a stream looks again so much later.
BUSY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Target:
    etag: str
    application_id: int
    # Until the key that the stream was opened with is over; None: it is for good.
    seconds: float | None


def _current(database: Database, actor: DeviceActor, key_hash: str) -> _Target | None:
    """The device's target; None when it is gone, or when the key is its no more."""
    with database.snapshot() as session:
        key = accounts.valid_key(session, key_hash)
        if key is None or key.role != KeyRole.DEVICE or key.is_of__actor != actor.actor_id:
            return None
        seconds = None
        if key.expiry_date is not None:
            seconds = (key.expiry_date - records.now(session)).total_seconds()
    found = current_target(database, actor.uuid)
    if found is None or not found.inputs.is_active:
        return None
    return _Target(found.etag, found.inputs.application_id, seconds)


def _hold(database: Database, device_id: int, lease: str) -> None:
    with database.statement() as session:
        devices.hold_stream(session, device_id, lease, LEASE_LIFETIME)


def _let_go(database: Database, device_id: int, lease: str) -> None:
    with contextlib.suppress(OperationalError), database.statement() as session:
        devices.release_stream(session, device_id, lease, RECONNECT_GRACE)


class EventStream(Response):
    """The answer that announces one device's targets, until it leaves, is deleted, its `key` is
    over, or the process stops. One task reads the connection, and one writes: there are ten
    thousand of these.

    A key that is deleted or changed is announced like a target; one that expires is waited for.
    `lease` names this process: the device counts as online while the process renews it.
    """

    def __init__(
        self, database: Database, hub: Hub, actor: DeviceActor, key: str, lease: str
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self._database = database
        self._hub = hub
        self._actor = actor
        self._key_hash = hash_key(key)
        self._lease = lease

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        with self._hub.subscription(self._actor.device_id, self._actor.application_id) as entry:
            reader = asyncio.create_task(_until_gone(receive, entry))
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            try:
                await send(start)
                await self._serve(entry, send)
                await send({"type": "http.response.body", "body": b""})
            finally:
                reader.cancel()
                if self._hub.is_last(entry):
                    with anyio.CancelScope(shield=True):
                        await run_in_threadpool(
                            _let_go, self._database, self._actor.device_id, self._lease
                        )

    async def _serve(self, entry: Subscription, send: Send) -> None:
        entry.tell()
        last = ""
        over: asyncio.TimerHandle | None = None
        await run_in_threadpool(_hold, self._database, self._actor.device_id, self._lease)
        while not entry.closed:
            await entry.wait()
            if entry.is_due:
                entry.is_due = False
                await send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
            if not entry.changed or entry.closed:
                continue
            entry.changed = False
            if over is not None:
                over.cancel()
            try:
                async with self._hub.gate:
                    target = await run_in_threadpool(
                        _current, self._database, self._actor, self._key_hash
                    )
            except OperationalError:
                # PostgreSQL is away; when the hub has it again, it wakes all streams.
                continue
            except PoolTimeoutError:
                await asyncio.sleep(BUSY_SECONDS)
                entry.tell()
                continue
            if target is None:
                return
            if target.seconds is not None:
                over = asyncio.get_running_loop().call_later(target.seconds, entry.tell)
            self._hub.move(entry, target.application_id)
            if target.etag == last:
                self._hub.turns.give_back()
                continue
            last = target.etag
            event = f"event: target\ndata: {json.dumps({'etag': last})}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})


async def _until_gone(receive: Receive, entry: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    entry.close()


async def revocations(hub: Hub) -> AsyncIterator[bytes]:
    """What the logs service hears of keys and sessions that end before their time."""
    async for payload in _announcements(hub, REVOCATIONS):
        yield b"\n" if payload is None else _line({"credential": payload})


async def changes(hub: Hub) -> AsyncIterator[bytes]:
    """What the VPN's servers hear: revocations, devices that go, public URLs that are switched."""
    async for payload in _announcements(hub, CHANGES):
        if payload is None:
            yield b"\n"
            continue
        kind, _, rest = payload.partition(":")
        uuid, _, state = rest.partition(":")
        match kind:
            case "gone":
                yield _line({"device": uuid, "gone": True})
            case "web":
                yield _line({"device": uuid, "public_url": state == "on"})
            case _:
                yield _line({"credential": payload})


async def _announcements(hub: Hub, kinds: frozenset[str]) -> AsyncIterator[str | None]:
    """Announcements as they come, and None where it is time for a sign of life.

    What happens while nobody listens is not told later: whoever listens asks again from time to
    time.
    """
    with hub.listening(kinds) as heard:
        yield None  # the headers go out at once
        while True:
            try:
                payload = await asyncio.wait_for(heard.get(), BEAT_SECONDS)
            except TimeoutError:
                yield None
                continue
            if payload is None:
                return
            yield payload


def _line(told: dict[str, object]) -> bytes:
    return json.dumps(told).encode() + b"\n"


async def keep_leases(database: Database, hub: Hub, lease: str) -> None:
    """Renew the leases of this process's streams, until cancelled."""
    while True:
        held = hub.device_ids
        slices = [held[begin : begin + LEASES] for begin in range(0, len(held), LEASES)]
        # Evenly over the time, so that no report waits for a row among thousands.
        for each in slices:
            await _quietly(_renew, database, each, lease)
            await asyncio.sleep(LEASE_SECONDS / len(slices))
        if not slices:
            await asyncio.sleep(LEASE_SECONDS)


def _renew(database: Database, held: list[int], lease: str) -> None:
    with database.transaction() as session:
        devices.renew_streams(session, held, lease, LEASE_LIFETIME)


async def keep_sweeping(database: Database) -> None:
    """Put devices that are not heard of any more to `timeout` and `offline`, until cancelled.

    Servers of the VPN, and other processes, are judged only after this one has been there for as
    long as they may be silent: while it or the database was away, nobody could tell it anything.
    """
    heard_since = time.monotonic()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        if not await _quietly(_sweep, database):
            heard_since = time.monotonic()
        elif time.monotonic() - heard_since > vpn.SILENCE.total_seconds():
            await _quietly(vpn.sweep, database)
            await _quietly(_recover, database)


def _sweep(database: Database) -> None:
    with database.transaction() as session:
        devices.sweep(session)
        throttle.sweep(session)
        actions.sweep(session)


def _recover(database: Database) -> None:
    with database.transaction() as session:
        actions.recover(session)


async def _quietly(work: Callable[..., None], *arguments: object) -> bool:
    """Background work goes on whatever one round of it meets; whether it met nothing."""
    try:
        await run_in_threadpool(work, *arguments)
    except SQLAlchemyError as error:
        log.warning("%s failed, trying again later: %s", work.__name__.strip("_"), reason(error))
        return False
    return True
