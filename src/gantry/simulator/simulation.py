"""A simulation from the first device's registration to the last figure."""

import asyncio
import gc
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gantry.simulator.device import SimulatedDevice, Surroundings
from gantry.simulator.figures import Figures, Kind, Phase
from gantry.simulator.identities import identities
from gantry.simulator.loopback import require_loopback
from gantry.simulator.results import results
from gantry.simulator.servers import Usage, look
from gantry.supervisor.cloud import http_client
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.tls import ssl_context

# Connections for all short requests together: more than the api has threads.
_CONNECTIONS = 128
_PROGRESS_SECONDS = 5.0
# Beyond the ramp, for the last devices to get their first target.
_START_SECONDS = 180.0
_LOOK_SECONDS = 0.2
# So many devices may be without a target before the next one is started: fleets grow by and by.
_STARTING = 50
_USUAL = gc.get_threshold()

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. Times are in real seconds.

    `ramp` is the time over which devices are started, `duration` what follows once all are. Within
    devices time goes `scale` times as fast. `streams` is the share of them that follow
    announcements, `lines` the log lines of each service in one of its minutes. `release_after` is
    the time into `duration` at which the release is made.
    """

    devices: int
    duration: float
    ramp: float
    scale: float = 1.0
    seed: int | None = None
    streams: float = 1.0
    lines: float = 0.0
    release_after: float | None = None


@dataclass(slots=True)
class Sample:
    """A look at the servers: when, in which phase, and what each took."""

    at: float
    phase: Phase
    usage: Mapping[str, Usage]


@dataclass
class Simulation:
    """Devices made of one config.json.

    `release` makes a release and returns its commit; it runs in a thread. `servers` are the first
    processes of servers whose memory is looked at, by name.
    """

    document: Mapping[str, Any]
    plan: Plan
    say: Say
    release: Callable[[], str] | None = None
    servers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = DeviceConfig(self.document)
        require_loopback(config.api_endpoint or "")
        if self.plan.lines:
            require_loopback(config.logs_endpoint or "")
        self.figures = Figures()
        self.devices: list[SimulatedDevice] = []
        self.samples: list[Sample] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._patience = _START_SECONDS

    async def run(self, stop: asyncio.Event) -> dict[str, Any]:
        """Simulate until the time is over or `stop` is set; the figures."""
        # What goes wrong is counted: ten thousand devices would say it ten thousand times.
        logging.getLogger("gantry.supervisor").setLevel(logging.CRITICAL)
        context = ssl_context(DeviceConfig(self.document).root_ca)
        client = http_client(context, _CONNECTIONS)
        plan = self.plan
        around = Surroundings(context, client, self.figures, plan.scale, plan.lines)
        self._make(around)
        # Its own pauses would count as the api's: what a device is made of lives until the end.
        gc.freeze()
        gc.set_threshold(5_000, 10, 1_000)
        self.figures.begun = time.monotonic()
        watch = asyncio.create_task(self._watch())
        try:
            if await self._start(stop):
                await self._hold(stop)
            await self._sample()
        finally:
            for task in (watch, *self._tasks):
                task.cancel()
            await asyncio.gather(watch, *self._tasks, return_exceptions=True)
            await client.aclose()
            gc.set_threshold(*_USUAL)
            gc.unfreeze()
        return results(self)

    def _make(self, around: Surroundings) -> None:
        plan = self.plan
        chance = random.Random(plan.seed)  # noqa: S311 (no secret)
        for config in identities(self.document, plan.devices, plan.seed):
            own = random.Random(chance.random())  # noqa: S311
            follows = chance.random() < plan.streams
            self.devices.append(SimulatedDevice(config, around, own, follows))

    async def _start(self, stop: asyncio.Event) -> bool:
        """Start one device after the other, and no faster than the api lets them in; False when
        told to stop."""
        begun = self.figures.now()
        for number, device in enumerate(self.devices):
            due = begun + self.plan.ramp * number / len(self.devices)
            if await _stopped(stop, due - self.figures.now()):
                return False
            if await self._has_no_room(number, stop):
                return False
            task = asyncio.create_task(device.run())
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        deadline = self.figures.now() + _START_SECONDS
        while self.ready < len(self.devices):
            if await _stopped(stop, _LOOK_SECONDS):
                return False
            if self.figures.now() > deadline:
                self.figures.errors["start: no target in time"] += len(self.devices) - self.ready
                break
        return True

    async def _has_no_room(self, started: int, stop: asyncio.Event) -> bool:
        """Wait until few enough devices are at their start; True when told to stop meanwhile."""
        latest = self.figures.now() + self._patience
        while started - self.ready >= _STARTING:
            if self.figures.now() > latest:
                # Those that do not get in at all hold up nobody any more.
                self._patience = 0.0
                return False
            if await _stopped(stop, _LOOK_SECONDS):
                return True
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A device ends only when it is told to: anything else is a fault of the simulator's."""
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            self.figures.errors[f"simulator: {type(error).__name__}: {error}"] += 1

    async def _hold(self, stop: asyncio.Event) -> None:
        """Let time pass, with a release in it where one is to be made."""
        self.figures.phase = Phase.STEADY
        end = self.figures.now() + self.plan.duration
        if self.release is not None and self.plan.release_after is not None:
            if await _stopped(stop, min(self.plan.release_after, self.plan.duration)):
                return
            await self._sample()
            self.figures.phase = Phase.RELEASE
            begun = self.figures.now()
            commit = await asyncio.to_thread(self.release)
            self.say(f"released {commit}")
            release = self.figures.release(commit)
            release.begun = begun
            while len(release.running) < len(self.devices) and self.figures.now() < end:
                if await _stopped(stop, _LOOK_SECONDS):
                    return
            await self._sample()
            self.figures.phase = Phase.STEADY
        await _stopped(stop, end - self.figures.now())

    @property
    def ready(self) -> int:
        """How many devices have a target."""
        return sum(device.is_ready for device in self.devices)

    async def _watch(self) -> None:
        """Say how it goes, and look at the servers, for ever."""
        before, at = 0, self.figures.now()
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            await self._sample()
            total, now = self.figures.total(), self.figures.now()
            self.say(self._line((total - before) / (now - at)))
            before, at = total, now

    async def _sample(self) -> None:
        if self.servers:
            phase = self.figures.phase
            usage = await asyncio.to_thread(look, self.servers)
            self.samples.append(Sample(self.figures.now(), phase, usage))

    def _line(self, rate: float) -> str:
        figures = self.figures
        polls = figures.histogram(Kind.STATE)
        parts = [
            f"{figures.now():5.0f} s {figures.phase}",
            f"{self.ready}/{len(self.devices)} devices",
            f"{figures.streams} streams",
            f"{rate:.0f} requests/s",
            f"polls p99 {polls.quantile(0.99) * 1000:.0f} ms",
            f"{sum(figures.errors.values())} errors",
        ]
        if self.samples:
            memory = sum(each.memory for each in self.samples[-1].usage.values())
            parts.append(f"{memory / 1024**2:.0f} MiB")
        parts += [
            f"{commit[:7]}: {len(release.seen)} seen, {len(release.running)} running"
            for commit, release in figures.releases.items()
        ]
        return ", ".join(parts)


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long; True when told to stop meanwhile."""
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()
    return stop.is_set()
