"""The supervisor that the target names takes this one's place: asked of the host, and told of.

Who asks is ended by what it asks for. So it is remembered before, and whoever runs after that, the
new one or the old one again, finds out how it ended.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from gantry.supervisor import VERSION, wire
from gantry.supervisor.backoff import Backoff
from gantry.supervisor.facts import LastingFacts
from gantry.supervisor.host import HostError
from gantry.supervisor.host.device import Hold
from gantry.supervisor.host.door import Door
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import LockedError
from gantry.supervisor.successor import (
    LOOK_EVERY,
    Attempt,
    Begin,
    End,
    HostState,
    Note,
    Rest,
    plan,
    read_attempt,
    read_host,
    told,
)
from gantry.supervisor.target import TargetSupervisor

_LOG = logging.getLogger(__name__)
_FACT = "supervisor_update"
# What is in the way of a restart is looked at this often, in seconds.
_BLOCKED_AGAIN = 10.0
# An application that is never done is no reason to stay what one is, in seconds: the new one may
# be what helps it.
_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why now is no moment to be replaced. `is_firm`: however long it lasts."""

    reason: str
    is_firm: bool


class Succession:
    """Follows the supervisor of the target. `hold` has the update locks of all applications while
    it lasts, `hindrance` says what else is in the way, `retry` after how many seconds one that did
    not do is tried again. `bring` has an image here beforehand, made from one of those that it is
    given, where it can; what it does not bring, the host pulls."""

    def __init__(
        self,
        store: LastingFacts,
        door: Door,
        journal: Journal,
        hold: Hold,
        hindrance: Callable[[], Hindrance | None],
        retry: Callable[[], float],
        bring: Callable[[str, frozenset[str]], Awaitable[None]],
    ) -> None:
        self._store = store
        self._door = door
        self._journal = journal
        self._hold = hold
        self._hindrance = hindrance
        self._retry = retry
        self._bring = bring
        self._wanted: TargetSupervisor | None = None
        self._followed = False
        self._wake = asyncio.Event()
        self._said = ""
        self._last: Attempt | None = None
        self._state, self._message = "starting", ""

    def follow(self, wanted: TargetSupervisor | None) -> None:
        """The supervisor that is to run; None where the target names none."""
        if wanted != self._wanted or not self._followed:
            self._wanted, self._followed = wanted, True
            self._said = ""
            self._wake.set()

    @property
    def image(self) -> str | None:
        """The image of the supervisor that is to run."""
        return self._wanted.image if self._wanted is not None else None

    def view(self) -> dict[str, Any]:
        """What runs, what is wanted, and how far that is; of `GET /gantry/v1/supervisor`."""
        wanted = self._wanted
        return {
            "version": VERSION,
            "wanted": {"version": wanted.version, "image": wanted.image} if wanted else None,
            "state": self._state,
            "message": self._message,
        }

    async def run(self) -> None:
        """Hold the supervisor at the target's, for ever."""
        self._last = read_attempt(await self._store.get(_FACT))
        trouble = Backoff(60.0, 3600.0)
        while True:
            self._wake.clear()
            delay: float | None = None
            try:
                if self._followed:
                    delay = await self._round()
                trouble.reset()
            except (HostError, wire.WireError) as error:
                delay = trouble.next()
                self._say("failed", f"the host cannot be asked for it: {error}")
            await self._sleep(delay)

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _round(self) -> float | None:
        """One look and what follows; seconds until the next, None for: when something changes."""
        wanted = self._wanted
        if wanted is None:
            await self._remember(None)
            self._state, self._message = "none", ""
            return None
        host = read_host(await self._door.ask("supervisor"))
        step = plan(wanted, host, self._last, time.time(), self._retry())
        match step:
            case Begin(attempt=attempt):
                return await self._begin(wanted, attempt, host)
            case Note(attempt=attempt):
                await self._remember(attempt)
                if step.sentence:
                    self._journal.write(step.sentence, is_error=step.is_error)
                return 0.0
            case Rest(seconds=seconds):
                self._show(host, seconds)
                return seconds

    def _show(self, host: HostState, seconds: float | None) -> None:
        if host.is_updating:
            self._state, self._message = "updating", ""
        elif seconds is None:
            self._state, self._message = "done", ""
        elif self._last is not None and self._last.end is not None:
            self._state, self._message = str(self._last.end), self._last.message

    async def _begin(self, wanted: TargetSupervisor, attempt: Attempt, host: HostState) -> float:
        """Have the host begin as soon as nothing is in the way; seconds until the next look."""
        since = time.monotonic()
        is_here = not host.takes_tags
        while not self._wake.is_set():
            hindrance = self._hindrance()
            if hindrance and not hindrance.is_firm and time.monotonic() - since > _PATIENCE:
                hindrance = None
            if hindrance is None and not is_here:
                self._state, self._message = "waiting", "its image is on its way"
                await self._have(wanted, host)
                is_here = True
                continue
            if hindrance is None:
                try:
                    async with self._hold(False):
                        return await self._ask(wanted, attempt)
                except LockedError as error:
                    self._say("waiting", f"it waits: {error}")
            else:
                self._state, self._message = "waiting", hindrance.reason
            await self._sleep(_BLOCKED_AGAIN)
        return 0.0

    async def _have(self, wanted: TargetSupervisor, host: HostState) -> None:
        """Have the image here, where it can be had, unless another one is wanted meanwhile."""
        bringing = asyncio.ensure_future(self._bring(wanted.image, host.images))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({bringing, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (bringing, waking):
                task.cancel()
            for ended in await asyncio.gather(bringing, waking, return_exceptions=True):
                if isinstance(ended, Exception):
                    _LOG.warning("%s is left to the host to pull: %r", wanted.image, ended)

    async def _ask(self, wanted: TargetSupervisor, attempt: Attempt) -> float:
        if not await self._remember(attempt):
            raise HostError("the data partition cannot be written: it is full or read-only")
        self._journal.write(f"Supervisor {wanted.version} is to take over from {VERSION}")
        try:
            await self._door.ask("update", image=wanted.image)
        except HostError as error:
            refused = replace(attempt, end=End.REFUSED, message=str(error))
            await self._remember(refused)
            self._journal.write(told(wanted, refused, self._retry()), is_error=True)
            return 0.0
        self._state, self._message = "updating", ""
        return LOOK_EVERY

    async def _remember(self, attempt: Attempt | None) -> bool:
        """Remember the last attempt, over a loss of power too; whether that was possible."""
        if attempt == self._last:
            return True
        document = attempt.document() if attempt else None
        await self._store.put(_FACT, document)
        if await self._store.get(_FACT) != document:
            return False
        self._last = attempt
        await self._store.flush()
        return True

    def _say(self, state: str, message: str) -> None:
        self._state, self._message = state, message
        if self._wanted is not None and message != self._said:
            self._said = message
            self._journal.write(f"Supervisor {self._wanted.version}: {message}", is_error=True)
