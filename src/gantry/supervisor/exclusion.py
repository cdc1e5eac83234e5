"""Locks around a plan: what would stop a locked application is left out until it may be done."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack

from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import Held, LockedError, LockHolder, Locks
from gantry.supervisor.state import CurrentState
from gantry.supervisor.steps import (
    CreateContainer,
    FetchImage,
    RestartHost,
    ReviveContainer,
    StartContainer,
    Step,
    StopContainer,
)

# A user's lock may be given back at any moment: the files are looked at this often, in seconds.
_LOOK_EVERY = 3.0
# Forcing is for the update that is on its way, in seconds without one.
_FORCED_FOR = 600.0


class Exclusion:
    """Has the locks of applications for as long as their plans go on without a pause.

    `holders` says who keeps which application from going on, as far as it was last tried.
    """

    def __init__(self, locks: Locks, journal: Journal) -> None:
        self._locks = locks
        self._journal = journal
        self._held: dict[int, tuple[AsyncExitStack, Held]] = {}
        self._forced_until = 0.0
        self._has_forced = False
        self.holders: dict[int, tuple[LockHolder, ...]] = {}

    def force(self) -> None:
        """No lock counts for the update that comes now."""
        self._forced_until = time.monotonic() + _FORCED_FOR
        self._has_forced = False

    async def permitted(
        self, steps: tuple[Step, ...], current: CurrentState, forced: frozenset[int]
    ) -> tuple[Step, ...]:
        """Those steps that may be carried out now."""
        disturbed = disturbed_apps(steps, current)
        is_forced = self._is_forced(steps)
        for app_id in [each for each in self._held if each not in disturbed]:
            await self._release(app_id)
        for app_id in [each for each in self.holders if each not in disturbed]:
            del self.holders[app_id]
        for app_id in sorted(disturbed - self._held.keys()):
            try:
                await self._hold(app_id, is_forced or app_id in forced)
                self._has_forced |= is_forced
                self.holders.pop(app_id, None)
            except LockedError as error:
                if app_id not in self.holders:
                    self._journal.write(f"Updates are locked: {error}", is_error=True)
                self.holders[app_id] = error.holders
        return without_disturbance(steps, frozenset(self.holders))

    def _is_forced(self, steps: tuple[Step, ...]) -> bool:
        now = time.monotonic()
        if now >= self._forced_until:
            return False
        if any(isinstance(each, FetchImage) for each in steps):
            self._forced_until = now + _FORCED_FOR
        elif self._has_forced and not steps:
            self._forced_until = 0.0
        return True

    async def given_back(self) -> None:
        """Return when an application that was locked is so no more. The engine is not asked."""
        while self.holders:
            await asyncio.sleep(_LOOK_EVERY)
            for app_id in list(self.holders):
                found = await self._locks.holders(app_id)
                if not found or self._locks.override:
                    return
                self.holders[app_id] = found

    async def free(self, app_id: int, service: str) -> None:
        """A service is about to start: it may lock again."""
        if app_id in self._held:
            await self._held[app_id][1].free(app_id, service)

    async def release(self) -> None:
        """The plan pauses: applications may lock."""
        for app_id in list(self._held):
            await self._release(app_id)

    async def _hold(self, app_id: int, force: bool) -> None:
        async with AsyncExitStack() as stack:
            held = await stack.enter_async_context(self._locks.hold([app_id], force))
            self._held[app_id] = (stack.pop_all(), held)

    async def _release(self, app_id: int) -> None:
        stack, _ = self._held.pop(app_id)
        await stack.aclose()


def disturbed_apps(steps: Iterable[Step], current: CurrentState) -> frozenset[int]:
    """Applications of which something that runs would be stopped, or get a rival."""
    found = set()
    for each in steps:
        if isinstance(each, StopContainer):
            found.add(each.container.app_id)
        elif isinstance(each, RestartHost):
            found |= {container.app_id for container in current.containers}
        elif isinstance(each, CreateContainer):
            mine = current.of_service(each.service.app_id, each.service.service)
            if any(container.state.is_up for container in mine):
                found.add(each.service.app_id)
    return frozenset(found)


def without_disturbance(steps: tuple[Step, ...], locked: frozenset[int]) -> tuple[Step, ...]:
    """Without what changes these applications; what keeps them running stays."""
    if locked:
        steps = tuple(each for each in steps if not isinstance(each, RestartHost))
    lanes: dict[str, list[Step]] = {}
    for each in steps:
        lanes.setdefault(each.lane, []).append(each)
    harmless = {
        lane
        for lane, mine in lanes.items()
        if all(isinstance(each, StartContainer | ReviveContainer) for each in mine)
    }
    return tuple(each for each in steps if _app_of(each) not in locked or each.lane in harmless)


def _app_of(step: Step) -> int | None:
    """The application whose containers a step changes."""
    if step.lane.startswith("service "):
        return int(step.lane.split()[1])
    return None
