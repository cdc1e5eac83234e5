"""The stream of announcements that a device keeps open (server-sent events, WHATWG HTML 9.2)."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta

import anyio
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from gantry.api.actors import DeviceActor
from gantry.api.database import Database, reason
from gantry.api.events import Hub
from gantry.api.models import KeyRole
from gantry.api.queries import accounts, devices, records
from gantry.api.services import throttle
from gantry.api.services.secrets import hash_key
from gantry.api.services.target_state import target_state

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
# Of one device in one process. It needs one; those of broken connections linger for a while.
MAX_STREAMS = 32
HEARTBEAT = b": still here\n\n"
# A lease is renewed many times within its life: a busy moment must not put devices offline.
LEASE_SECONDS = 30.0
LEASE_LIFETIME = timedelta(seconds=120)
# A device whose stream broke opens another one soon, or is gone.
RECONNECT_GRACE = timedelta(seconds=45)
SWEEP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Target:
    etag: str
    application_id: int
    # Until the key that the stream was opened with is over; None: it is for good.
    seconds: float | None


def _current(database: Database, uuid: str, key_hash: str) -> _Target | None:
    with database.snapshot() as session:
        device = devices.device_by_uuid(session, uuid)
        key = accounts.valid_key(session, key_hash)
        if device is None or not device.is_active or key is None:
            return None
        if key.role != KeyRole.DEVICE or key.is_of__actor != device.actor:
            return None
        seconds = None
        if key.expiry_date is not None:
            seconds = (key.expiry_date - records.now(session)).total_seconds()
        etag = target_state(session, device).etag
        return _Target(etag, device.belongs_to__application, seconds)


def _hold(database: Database, device_id: int, lease: str) -> None:
    with database.transaction() as session:
        devices.hold_stream(session, device_id, lease, LEASE_LIFETIME)


def _let_go(database: Database, device_id: int, lease: str) -> None:
    with contextlib.suppress(OperationalError), database.transaction() as session:
        devices.release_stream(session, device_id, lease, RECONNECT_GRACE)


async def announcements(
    database: Database, hub: Hub, actor: DeviceActor, key: str, lease: str
) -> AsyncIterator[bytes]:
    """Events for one device, until it leaves, is deleted, its `key` is over, or the process stops.

    A key that is deleted or changed is announced like a target; one that expires is waited for.
    `lease` names this process: the device counts as online while the process renews it.
    """
    loop = asyncio.get_running_loop()
    key_hash = hash_key(key)
    over: float | None = None
    with hub.subscription(actor.device_id, actor.application_id) as entry:
        entry.changed.set()
        last = ""
        try:
            await run_in_threadpool(_hold, database, actor.device_id, lease)
            while not entry.closed:
                left = None if over is None else over - loop.time()
                woken = await _woken(entry.changed, left)
                if not woken and (over is None or loop.time() < over):
                    yield HEARTBEAT
                    continue
                entry.changed.clear()
                try:
                    async with hub.gate:
                        target = await run_in_threadpool(_current, database, actor.uuid, key_hash)
                except OperationalError:
                    # PostgreSQL is away; when the hub has it again, it wakes all streams.
                    over = None
                    continue
                if target is None:
                    return
                over = None if target.seconds is None else loop.time() + target.seconds
                hub.move(entry, target.application_id)
                if target.etag != last:
                    last = target.etag
                    yield f"event: target\ndata: {json.dumps({'etag': last})}\n\n".encode()
        finally:
            if hub.is_last(entry):
                with anyio.CancelScope(shield=True):
                    await run_in_threadpool(_let_go, database, actor.device_id, lease)


async def revocations(hub: Hub) -> AsyncIterator[bytes]:
    """What the logs service hears of keys and sessions that end before their time.

    What happens while nobody listens is not told later: whoever listens asks again from time to
    time.
    """
    with hub.revocations() as ended:
        yield b"\n"  # the headers go out at once
        while True:
            try:
                name = await asyncio.wait_for(ended.get(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield b"\n"
                continue
            if name is None:
                return
            yield json.dumps({"credential": name}).encode() + b"\n"


async def _woken(changed: asyncio.Event, at_most: float | None) -> bool:
    seconds = HEARTBEAT_SECONDS if at_most is None else min(at_most, HEARTBEAT_SECONDS)
    try:
        await asyncio.wait_for(changed.wait(), max(seconds, 0))
    except TimeoutError:
        return False
    return True


async def keep_leases(database: Database, hub: Hub, lease: str) -> None:
    """Renew the leases of this process's streams, until cancelled."""
    while True:
        await asyncio.sleep(LEASE_SECONDS)
        if held := hub.device_ids:
            await _quietly(_renew, database, held, lease)


def _renew(database: Database, held: list[int], lease: str) -> None:
    with database.transaction() as session:
        devices.renew_streams(session, held, lease, LEASE_LIFETIME)


async def keep_sweeping(database: Database) -> None:
    """Put devices that are not heard of any more to `timeout` and `offline`, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await _quietly(_sweep, database)


def _sweep(database: Database) -> None:
    with database.transaction() as session:
        devices.sweep(session)
        throttle.sweep(session)


async def _quietly(work: Callable[..., None], *arguments: object) -> None:
    """Background work goes on whatever one round of it meets."""
    try:
        await run_in_threadpool(work, *arguments)
    except SQLAlchemyError as error:
        log.warning("%s failed, trying again later: %s", work.__name__.strip("_"), reason(error))
