"""The loop that brings the engine to the target: observe, plan, carry out, again."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.desired import DesiredState, Label
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.execute import Executor
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.observe import observe, owned_images
from gantry.supervisor.plan import plan
from gantry.supervisor.state import CurrentState
from gantry.supervisor.steps import FetchImage, Step

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

    `observed` hears each picture of the engine; `registries` names those whose images are ours.
    """

    def __init__(
        self,
        engine: Engine,
        instance: str,
        executor: Executor,
        fetcher: Fetcher,
        observed: Callable[[CurrentState], None],
        registries: Callable[[], Collection[str]],
    ) -> None:
        self._engine = engine
        self._instance = instance
        self._executor = executor
        self._fetcher = fetcher
        self._observed = observed
        self._registries = registries
        self._desired: DesiredState | None = None
        self._wake = asyncio.Event()
        self._echoes: list[float] = []
        self._last_steps: tuple[Step, ...] = ()
        self._same = 0
        self.current = CurrentState()
        self.busy_since: float | None = None
        self.looked = False
        # Who hears the engine's events, and who names images that are kept though not wanted now.
        self.heard: Callable[[Mapping[str, Any]], None] = lambda _event: None
        self.kept_images: Callable[[], frozenset[str]] = frozenset

    @property
    def idle(self) -> bool:
        """Whether it was never told where to go."""
        return self._desired is None

    def aim(self, desired: DesiredState) -> None:
        """There is a new desired state; steps towards the old one end at the next safe point."""
        self._desired = desired
        self._wake.set()

    def wake(self) -> None:
        """Look again soon."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile for ever."""
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
                        self._echoes = list(_ECHOES)
                        self._wake.set()
            except EngineError as error:
                _LOG.warning("%s", error)
            await asyncio.sleep(trouble.next())

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return
        # Events come in swarms: one look serves them all.
        await asyncio.sleep(0.1)

    async def _round(self) -> float:
        """One look and what follows from it; how long to wait for the next, in seconds."""
        self.current = await observe(self._engine, self._instance)
        self.looked = True
        self._observed(self.current)
        desired = self._desired
        if desired is None:
            return _LOOK_EVERY
        owned = owned_images(self.current, self._registries()) - self.kept_images()
        steps = plan(self.current, desired, owned)
        waits = [_LOOK_EVERY]
        wait = await self._fetcher.want(step for step in steps if isinstance(step, FetchImage))
        if wait is not None:
            waits.append(wait)
        others = tuple(step for step in steps if not isinstance(step, FetchImage))
        if others:
            outcome = await self._executor.run(others, lambda: self._desired is desired)
            if outcome.done and not self._in_circle(others):
                return 0.0
            waits.append(outcome.wait if outcome.wait is not None else 5.0)
        else:
            self._executor.forget_old_attempts()
        self._observed(self.current)
        return min(waits)

    def _in_circle(self, steps: tuple[Step, ...]) -> bool:
        self._same = self._same + 1 if steps == self._last_steps else 0
        self._last_steps = steps
        return self._same >= _ROUNDS_IN_CIRCLE
