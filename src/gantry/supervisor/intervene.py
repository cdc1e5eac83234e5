"""What was asked at the device, from the asking until the engine shows that it was done."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from gantry.supervisor import interventions as rules
from gantry.supervisor.desired import DesiredApp, DesiredState
from gantry.supervisor.interventions import Action, Intervention
from gantry.supervisor.locks import LockedError, Locks
from gantry.supervisor.state import CurrentState

# A restart or purge that cannot be carried out must not keep an application down for ever.
_GIVEN_UP_AFTER = 600.0  # seconds


class InterventionError(Exception):
    """What was asked could not be carried out; the message says why."""


class Interventions:
    """Those in force. `wake` has the reconciler look, `remember` keeps them over a restart."""

    def __init__(
        self,
        locks: Locks,
        wake: Callable[[], None],
        remember: Callable[[list[dict[str, object]]], Awaitable[None]],
        before: Collection[Intervention] = (),
    ) -> None:
        self._locks = locks
        self._wake = wake
        self._remember = remember
        self._asked = tuple(before)
        self._since = dict.fromkeys(before, time.monotonic())
        self._waiting: dict[Intervention, asyncio.Future[None]] = {}

    async def ask(self, asked: Intervention) -> None:
        """Carry this out; returns when the engine shows it.

        Raises:
            LockedError: somebody holds a lock of the application, and it is not forced.
            InterventionError: it was given up.
        """
        if not asked.force and not self._locks.override:
            holders = await self._locks.holders(asked.app_id)
            if holders:
                raise LockedError(holders)
        future = self._waiting.setdefault(asked, asyncio.get_running_loop().create_future())
        self._since[asked] = time.monotonic()
        await self._change(rules.added(self._asked, asked))
        await asyncio.shield(future)

    async def start(self, app_id: int, services: Collection[str] | None = None) -> None:
        """End the stops of these services (all without a list)."""
        await self._change(rules.started(self._asked, app_id, services))

    def in_force(self, desired: DesiredState) -> DesiredState:
        """The desired state with what was asked, as it was last carried out."""
        return rules.apply(desired, self._asked)

    def is_stopped(self, app: DesiredApp, service: str) -> bool:
        """Whether somebody at the device stopped this service."""
        return any(
            each.action is Action.STOP and each.app_id == app.id and service in each.services
            for each in self._asked
        )

    async def applied(self, desired: DesiredState, current: CurrentState) -> DesiredState:
        """The desired state with what is in force; what is over is forgotten."""
        left = tuple(
            each
            for each in rules.in_force(self._asked, desired, current)
            if each.action is Action.STOP or not self._is_given_up(each)
        )
        for asked in list(self._waiting):
            if rules.is_carried_out(asked, desired, current) or (
                asked.action is Action.STOP and asked not in left
            ):
                self._waiting.pop(asked).set_result(None)
            elif self._is_given_up(asked):
                text = f"{asked.action} of application {asked.app_id} takes too long: given up"
                self._waiting.pop(asked).set_exception(InterventionError(text))
        if left != self._asked:
            await self._change(left, wakes=False)
        return rules.apply(desired, self._asked)

    def forced(self, desired: DesiredState, current: CurrentState) -> frozenset[int]:
        """Applications whose locks do not count now."""
        return rules.forced(self._asked, desired, current)

    def _is_given_up(self, asked: Intervention) -> bool:
        return time.monotonic() - self._since[asked] > _GIVEN_UP_AFTER

    async def _change(self, asked: tuple[Intervention, ...], wakes: bool = True) -> None:
        self._asked = asked
        now = time.monotonic()
        self._since = {each: self._since.get(each, now) for each in {*asked, *self._waiting}}
        await self._remember(rules.to_document(asked))
        if wakes:
            self._wake()
