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
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gantry.supervisor import lockfiles, wire
from gantry.supervisor.facts import Facts
from gantry.supervisor.leases import Lease, Leases, new_lease

_LOG = logging.getLogger(__name__)

# The first of them that is set counts; the shorter names are older.
OVERRIDES = (
    "BALENA_SUPERVISOR_OVERRIDE_LOCK",
    "RESIN_SUPERVISOR_OVERRIDE_LOCK",
    "BALENA_OVERRIDE_LOCK",
    "RESIN_OVERRIDE_LOCK",
)


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
        self._leases = Leases(store)
        self._turns: dict[int, asyncio.Lock] = {}
        self._since: dict[int, float] = {}
        self.override = False
        self.is_alive: lockfiles.Alive = lambda _app_id, _service: True

    async def open(self) -> None:
        """Take up the leases of before; end what the last supervisor was holding when it ended."""
        await self._leases.open()
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
            found.append(_of_supervisor(app_id, since))
        for app_id in self._leases.app_ids():
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
            raise LockedError([_of_supervisor(app_id, since)]) from error
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
        return tuple(_of_lease(each) for each in self._leases.of_application(app_id))

    async def lease(self, app_id: int, seconds: float, holder: str) -> LockHolder:
        """Lock an application for so many seconds; `lease` of the answer is the id to renew or
        release it by.

        Raises:
            LeaseError: the term is not one.
            LockedError: the supervisor is just stopping the application.
        """
        lease = new_lease(app_id, seconds, holder)
        if app_id in self._since:
            raise LockedError([_of_supervisor(app_id, self._since[app_id])])
        await self._leases.give(lease)
        return _of_lease(lease)

    async def renew(self, lease_id: str, seconds: float) -> LockHolder:
        """Begin a lease's term anew, from now.

        Raises:
            LeaseError: there is no such lease (any more), or the term is not one.
        """
        return _of_lease(await self._leases.renew(lease_id, seconds))

    async def release(self, lease_id: str) -> bool:
        """End a lease; False when there was none."""
        return await self._leases.release(lease_id)


def _of_files(app_id: int, files: Iterable[lockfiles.LockFile]) -> tuple[LockHolder, ...]:
    return tuple(LockHolder(app_id, each.service, LockKind.FILE, each.since) for each in files)


def _of_lease(lease: Lease) -> LockHolder:
    return LockHolder(
        lease.app_id, "", LockKind.LEASE, lease.since, lease.expires, lease.holder, lease.id
    )


def _of_supervisor(app_id: int, since: float) -> LockHolder:
    return LockHolder(app_id, "", LockKind.OPERATION, since, holder="the supervisor")
