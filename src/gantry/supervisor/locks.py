"""Update locks: an application says that it must not be stopped now.

Two kinds. The family's lock files (https://docs.balena.io/learn/deploy/release-strategy/update-locking/):
whoever creates `updates.lock` in a service's runtime directory, exclusively, holds the lock of its
whole application; the older name counts too. And leases over HTTP, which end by themselves.

What the supervisor takes before it stops an application are the same files, so that the
application's own exclusive creation fails meanwhile. They are made by a hard link, whole in one
moment: a supervisor that lost its power leaves nothing that is not known as its own.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from gantry.supervisor import lockfiles, wire

_LOG = logging.getLogger(__name__)

# The first of them that is set counts; the shorter names are older.
OVERRIDES = (
    "BALENA_SUPERVISOR_OVERRIDE_LOCK",
    "RESIN_SUPERVISOR_OVERRIDE_LOCK",
    "BALENA_OVERRIDE_LOCK",
    "RESIN_OVERRIDE_LOCK",
)
LONGEST_LEASE = 24 * 3600.0  # seconds
_SUPERVISOR = "the supervisor"


class LockKind(StrEnum):
    """How a lock is held."""

    FILE = "file"
    LEASE = "lease"
    OPERATION = "operation"  # the supervisor's own


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds an application's lock. `since` and `expires` are seconds since the epoch; `service`
    is empty for a lease, `lease` the lease's id and empty for a file."""

    app_id: int
    service: str
    kind: LockKind
    since: float
    expires: float | None = None
    holder: str = ""
    lease: str = ""

    def __str__(self) -> str:
        who = self.holder or f"service {self.service}"
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return f"application {self.app_id} is locked by {who} since {since}"


class LockedError(Exception):
    """An application may not be stopped now: HTTP status 423. `holders` say who wants it so."""

    def __init__(self, holders: Iterable[LockHolder]) -> None:
        self.holders = tuple(holders)
        super().__init__("; ".join(str(each) for each in self.holders))


class LeaseError(ValueError):
    """A lease that cannot be given, or is not there; the message says why."""


class Facts(Protocol):
    """What is remembered over a restart: the store."""

    async def get(self, name: str) -> Any: ...

    async def put(self, name: str, value: Any) -> None: ...


@dataclass(slots=True)
class _Lease:
    id: str
    app_id: int
    holder: str
    since: float
    seconds: float
    # Of the clock that never jumps, so that setting the time makes no lease eternal.
    ends: float

    def as_holder(self) -> LockHolder:
        left = self.ends - time.monotonic()
        return LockHolder(
            self.app_id, "", LockKind.LEASE, self.since, time.time() + left, self.holder, self.id
        )


@dataclass(slots=True)
class Held:
    """The locks of some applications, while the supervisor has them."""

    _files: dict[tuple[int, str], list[Path]] = field(default_factory=dict)

    def add(self, app_id: int, files: Mapping[str, list[Path]]) -> None:
        """These files were taken, by service."""
        self._files |= {(app_id, service): paths for service, paths in files.items()}

    async def free(self, app_id: int, service: str) -> None:
        """Give back one service's: it is about to start, and may want to lock at once."""
        files = self._files.pop((app_id, service), [])
        if files:
            await asyncio.to_thread(lockfiles.give_back, files)

    async def free_all(self) -> None:
        """Give back the rest."""
        files = [path for paths in self._files.values() for path in paths]
        self._files.clear()
        if files:
            await asyncio.to_thread(lockfiles.give_back, files)


def is_overridden(variables: Mapping[str, str]) -> bool:
    """Whether the device's variables say that no lock counts."""
    return wire.flag(next((variables[name] for name in OVERRIDES if name in variables), None))


class Locks:
    """All locks of a device. `directory` is the runtime directory as this process sees it.

    While `override` is set, every `hold` is forced. A file counts only while `is_alive` says that
    something of its service runs: whoever ended can give nothing back.
    """

    def __init__(self, directory: Path, store: Facts) -> None:
        self._services = directory / "services"
        self._store = store
        self._leases: dict[str, _Lease] = {}
        self._turns: dict[int, asyncio.Lock] = {}
        self._since: dict[int, float] = {}
        self.override = False
        self.is_alive: lockfiles.Alive = lambda _app_id, _service: True

    async def open(self) -> None:
        """Take up the leases of before; end what the last supervisor was holding when it ended."""
        for document in await self._store.get("leases") or ():
            lease = _read_lease(document)
            if lease is not None:
                self._leases[lease.id] = lease
        await asyncio.to_thread(lockfiles.end_leftovers, self._services)

    async def holders(self, app_id: int) -> tuple[LockHolder, ...]:
        """Who keeps this application from being stopped; files first, then leases."""
        files = await self._files(app_id)
        return (*_of_files(app_id, files), *self._lease_holders(app_id))

    async def all_holders(self) -> tuple[LockHolder, ...]:
        """Who holds what, of all applications; also what the supervisor itself is holding."""
        found: list[LockHolder] = []
        for app_id in await asyncio.to_thread(lockfiles.app_ids, self._services):
            found += _of_files(app_id, await self._files(app_id))
        for app_id, since in self._since.items():
            found.append(LockHolder(app_id, "", LockKind.OPERATION, since, holder=_SUPERVISOR))
        for app_id in sorted({each.app_id for each in self._leases.values()}):
            found += self._lease_holders(app_id)
        return tuple(found)

    async def _files(self, app_id: int) -> list[lockfiles.LockFile]:
        return await asyncio.to_thread(
            lockfiles.of_application, self._services, app_id, self.is_alive
        )

    @asynccontextmanager
    async def hold(
        self, app_ids: Iterable[int], force: bool = False, wait: float = 10.0
    ) -> AsyncIterator[Held]:
        """Have the locks of these applications; with `force` whoever holds one loses it.

        Raises:
            LockedError: somebody holds one, or another operation of the supervisor does and has not
                ended within `wait` seconds.
        """
        held = Held()
        turns: list[int] = []
        try:
            for app_id in sorted(set(app_ids)):
                await self._turn(app_id, wait)
                turns.append(app_id)
            await self._take(turns, held, force or self.override)
            yield held
        finally:
            await held.free_all()
            for app_id in turns:
                self._since.pop(app_id, None)
                self._turns[app_id].release()

    async def _turn(self, app_id: int, wait: float) -> None:
        turn = self._turns.setdefault(app_id, asyncio.Lock())
        try:
            async with asyncio.timeout(wait):
                await turn.acquire()
        except TimeoutError as error:
            since = self._since.get(app_id, time.time())
            holder = LockHolder(app_id, "", LockKind.OPERATION, since, holder=_SUPERVISOR)
            raise LockedError([holder]) from error
        self._since[app_id] = time.time()

    async def _take(self, app_ids: Iterable[int], held: Held, force: bool) -> None:
        for app_id in app_ids:
            if force:
                for each in self._lease_holders(app_id):
                    _LOG.warning("lock overridden: %s", each)
                    await self.release(each.lease)
            elif leases := self._lease_holders(app_id):
                raise LockedError(leases)
        refused: list[LockHolder] = []
        for app_id in app_ids:
            taken, refusing = await asyncio.to_thread(
                lockfiles.take, self._services, app_id, force, self.is_alive
            )
            held.add(app_id, taken)
            refused += _of_files(app_id, refusing)
        if refused:
            raise LockedError(refused)

    def _lease_holders(self, app_id: int) -> tuple[LockHolder, ...]:
        now = time.monotonic()
        for lease in [each for each in self._leases.values() if each.ends <= now]:
            del self._leases[lease.id]
        return tuple(e.as_holder() for e in self._leases.values() if e.app_id == app_id)

    async def lease(self, app_id: int, seconds: float, holder: str) -> LockHolder:
        """Lock an application for so many seconds; `lease` of the answer is the id to renew or
        release it by.

        Raises:
            LeaseError: the term is not one.
            LockedError: the supervisor is just stopping the application.
        """
        _check_term(seconds)
        if app_id in self._since:
            since = self._since[app_id]
            own = LockHolder(app_id, "", LockKind.OPERATION, since, holder=_SUPERVISOR)
            raise LockedError([own])
        ends = time.monotonic() + seconds
        lease = _Lease(secrets.token_hex(8), app_id, holder, time.time(), seconds, ends)
        self._leases[lease.id] = lease
        await self._save()
        return lease.as_holder()

    async def renew(self, lease_id: str, seconds: float) -> LockHolder:
        """Begin a lease's term anew, from now.

        Raises:
            LeaseError: there is no such lease (any more), or the term is not one.
        """
        _check_term(seconds)
        lease = self._leases.get(lease_id)
        if lease is None or lease.ends <= time.monotonic():
            raise LeaseError(f"there is no lease {lease_id[:40]!r}: it ended, take another")
        lease.seconds, lease.ends = seconds, time.monotonic() + seconds
        await self._save()
        return lease.as_holder()

    async def release(self, lease_id: str) -> bool:
        """End a lease; False when there was none."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return False
        await self._save()
        return lease.ends > time.monotonic()

    async def _save(self) -> None:
        now, clock = time.monotonic(), time.time()
        documents = [
            {
                "id": each.id,
                "app_id": each.app_id,
                "holder": each.holder,
                "since": each.since,
                "seconds": each.seconds,
                "expires": clock + each.ends - now,
            }
            for each in self._leases.values()
            if each.ends > now
        ]
        await self._store.put("leases", documents or None)


def _of_files(app_id: int, files: Iterable[lockfiles.LockFile]) -> tuple[LockHolder, ...]:
    return tuple(LockHolder(app_id, each.service, LockKind.FILE, each.since) for each in files)


def _check_term(seconds: float) -> None:
    if not 0 < seconds <= LONGEST_LEASE:
        raise LeaseError(f"a lease of {seconds:g} s: give more than 0 and at most 86400")


def _read_lease(document: Mapping[str, Any]) -> _Lease | None:
    """A lease of before the restart, for what is left of it. Should the clock have been set back
    meanwhile, that is its whole term at most."""
    try:
        seconds = min(float(document["seconds"]), LONGEST_LEASE)
        left = min(float(document["expires"]) - time.time(), seconds)
        lease = _Lease(
            str(document["id"]),
            int(document["app_id"]),
            str(document["holder"]),
            float(document["since"]),
            seconds,
            time.monotonic() + left,
        )
    except (KeyError, TypeError, ValueError):
        return None
    return lease if left > 0 else None
