"""The loop that brings the engine to the target: observe, plan, carry out, again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.desired import DesiredState, Label
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.exclusion import Exclusion
from gantry.supervisor.execute import Executor
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.handover import HandOvers
from gantry.supervisor.intervene import Interventions
from gantry.supervisor.observe import observe, owned_images
from gantry.supervisor.plan import plan
from gantry.supervisor.reboots import UpdateReboots
from gantry.supervisor.state import CurrentState, Owned
from gantry.supervisor.steps import FetchImage, RemoveImage, Step

_LOG = logging.getLogger(__name__)

# The engine's events wake the loop; looking without one is for what they cannot tell. In seconds.
_LOOK_EVERY = 300.0
_EVENTS = ("start", "die", "destroy", "pause", "unpause", "health_status", "rename")
# The engine tells of a container's end before its listing does: after an event it is asked again.
_ECHOES = (1.0, 5.0)
# So many rounds that all succeed and change nothing mean that the engine does not do as it says.
_ROUNDS_IN_CIRCLE = 5


class Reconciler:
    """Holds the engine at the desired state.

    `observed` hears each picture of the engine; `registries` names those whose images are ours, or
    is None while no image at all may be removed.
    `interventions` are what somebody at the device asked for, `exclusion` has the locks, `reboots`
    knows which services need a restart of the host.
    """

    def __init__(
        self,
        engine: Engine,
        instance: str,
        executor: Executor,
        fetcher: Fetcher,
        observed: Callable[[CurrentState], None],
        registries: Callable[[], Collection[str] | None],
        exclusion: Exclusion,
        handovers: HandOvers,
        interventions: Interventions,
        reboots: UpdateReboots,
    ) -> None:
        self._engine = engine
        self._instance = instance
        self._executor = executor
        self._fetcher = fetcher
        self._observed = observed
        self._registries = registries
        self._exclusion = exclusion
        self._handovers = handovers
        self._interventions = interventions
        self._reboots = reboots
        executor.free = exclusion.free
        executor.restart = reboots.restart
        self._desired: DesiredState | None = None
        self._wake = asyncio.Event()
        self._echoes: list[float] = []
        self._last_steps: tuple[Step, ...] = ()
        self._same = 0
        self.current = CurrentState()
        self.busy_since: float | None = None
        self.looked = False
        # Whether the last look found all as it must be, and nothing on its way there.
        self.at_rest = False
        # Who hears the engine's events, who is waited for at the end of a container, and who names
        # images that are kept though not wanted now.
        self.heard: Callable[[Mapping[str, Any]], None] = lambda _event: None
        self.ended: Callable[[Mapping[str, Any]], Awaitable[None]] = _nobody
        self.kept_images: Callable[[], frozenset[str]] = frozenset
        # What may be removed, of images of the fleet's registries and beside them.
        self.owned: Callable[[frozenset[str]], Owned] = Owned

    @property
    def idle(self) -> bool:
        """Whether it was never told where to go."""
        return self._desired is None

    def aim(self, desired: DesiredState) -> None:
        """There is a new desired state; steps towards the old one end at the next safe point."""
        self._desired = desired
        self.at_rest = False
        self._wake.set()

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile for ever."""
        try:
            await self._run()
        finally:
            await self._exclusion.release()

    async def _run(self) -> None:
        trouble = Backoff(1.0, 60.0)
        while True:
            self._wake.clear()
            self.busy_since = time.monotonic()
            try:
                delay = await self._round()
                trouble.reset()
            except EngineError as error:
                delay = trouble.next()
                _LOG.warning("%s; looking again in %.0f s", error, delay)
            finally:
                self.busy_since = None
            if delay > 0:
                await self._exclusion.release()
                await self._sleep(min(delay, self._echoes.pop(0)) if self._echoes else delay)

    async def follow_events(self) -> None:
        """Wake the loop whenever a container of ours changes, for ever."""
        trouble = Backoff(1.0, 30.0)
        label = f"{Label.INSTANCE}={self._instance}"
        while True:
            try:
                async with aclosing(self._engine.events(label, _EVENTS)) as events:
                    async for event in events:
                        trouble.reset()
                        self.heard(event)
                        if event.get("Action") == "die":
                            self._handovers.fell(str(event["Actor"]["ID"]))
                            await self.ended(event)
                        self._echoes = list(_ECHOES)
                        self._wake.set()
            except EngineError as error:
                _LOG.warning("%s", error)
            await asyncio.sleep(trouble.next())

    async def _sleep(self, delay: float) -> None:
        watches = []
        if self._handovers.is_waiting:
            watches.append(asyncio.create_task(self._wake_after(self._handovers.marked())))
        if self._exclusion.holders:
            watches.append(asyncio.create_task(self._wake_after(self._exclusion.given_back())))
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        # Events come in swarms: one look serves them all.
        await asyncio.sleep(0.1)

    async def _wake_after(self, news: Coroutine[Any, Any, None]) -> None:
        await news
        self._wake.set()

    async def _round(self) -> float:
        """One look and what follows from it; how long to wait for the next, in seconds."""
        self.current = await observe(self._engine, self._instance)
        self._executor.started.clear()
        self.looked = True
        self._observed(self.current)
        aim = self._desired
        if aim is None:
            return _LOOK_EVERY
        asked = await self._interventions.applied(aim, self.current)
        desired = await self._reboots.applied(asked, self.current)
        handed_over, handing = await self._handovers.look(self.current, desired)
        self.current = replace(self.current, handed_over=handed_over)
        short_of_room = self._fetcher.short_of_room or self._executor.short_of_room
        owned = self._removable(short_of_room)
        steps = plan(self.current, desired, owned.images, owned.volumes, short_of_room)
        self.at_rest = not steps and handing is None and self._desired is aim
        waits = [_LOOK_EVERY] if handing is None else [_LOOK_EVERY, handing]
        forced = self._interventions.forced(aim, self.current)
        permitted = await self._exclusion.permitted(steps, self.current, forced)
        waits += await self._carry_out(permitted, aim)
        self._observed(self.current)
        return min(waits)

    def _removable(self, short_of_room: bool) -> Owned:
        """What may be removed now, whoever brought it."""
        registries = self._registries()
        owned = self.owned(owned_images(self.current, registries or ()))
        if registries is None:
            return replace(owned, images=frozenset())
        # Where there is no room, a new release is worth more than the way back to the last one.
        kept = frozenset() if short_of_room else self.kept_images()
        return replace(owned, images=owned.images - kept)

    async def _carry_out(self, steps: tuple[Step, ...], aim: DesiredState) -> list[float]:
        """Have these steps carried out; for how long there is nothing to do then, in seconds."""
        fetches = tuple(step for step in steps if isinstance(step, FetchImage))
        others = tuple(step for step in steps if not isinstance(step, FetchImage))
        makes_room = any(isinstance(step, RemoveImage) for step in others)
        waits = [] if makes_room else await self._fetch(fetches)
        outcome = await self._executor.run(others, lambda: self._desired is aim)
        if makes_room:
            if outcome.done:
                self._fetcher.has_room()
            waits = await self._fetch(fetches)
        if not others:
            self._executor.forget_old_attempts()
        elif outcome.done and not self._in_circle(others):
            return [0.0]
        else:
            waits.append(outcome.wait if outcome.wait is not None else 5.0)
        return waits

    async def _fetch(self, steps: tuple[FetchImage, ...]) -> list[float]:
        wait = await self._fetcher.want(steps)
        return [] if wait is None else [wait]

    def _in_circle(self, steps: tuple[Step, ...]) -> bool:
        self._same = self._same + 1 if steps == self._last_steps else 0
        self._last_steps = steps
        return self._same >= _ROUNDS_IN_CIRCLE


async def _nobody(_event: Mapping[str, Any]) -> None:
    """Nobody is waited for."""
