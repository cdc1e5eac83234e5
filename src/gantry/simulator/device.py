"""One simulated device: the supervisor's loops, with an engine that only remembers."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2

from gantry.simulator import engine
from gantry.simulator.cloud import MeasuredCloud
from gantry.simulator.figures import Figures
from gantry.simulator.machine import Machine
from gantry.supervisor import wire
from gantry.supervisor.backoff import Backoff, jitter
from gantry.supervisor.cloud import CloudError, TargetAnswer
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.desired import DesiredState, desired_state
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.logbuffer import container_line, system_line
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.observe import owned_images, registry_of
from gantry.supervisor.plan import plan
from gantry.supervisor.poll import Poller, poll_interval
from gantry.supervisor.provision import RETRY, registration_body
from gantry.supervisor.report import Reporter, Rhythm
from gantry.supervisor.state import CurrentState
from gantry.supervisor.status import device_state, report_apps, settled_commits
from gantry.supervisor.steps import FetchImage, Step
from gantry.supervisor.store import LogPosition
from gantry.supervisor.target import TargetState, read_target

OS_VERSION = "Gantry simulator"
# Of RFC 5737: no machine has it.
_ADDRESSES = ("192.0.2.1", "02:00:00:00:00:01")
# So often a download's progress is looked at.
_PARTS = 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the devices of one simulation have in common.

    `scale` says how many times as fast as a real one's their time goes; `lines` are the log lines
    of each service in a minute of it.
    """

    context: ssl.SSLContext
    client: httpx2.AsyncClient
    figures: Figures
    scale: float
    lines: float


class SimulatedDevice:
    """A device from its registration on. `follows` says whether it keeps the stream open."""

    def __init__(
        self, config: DeviceConfig, around: Surroundings, chance: Random, follows: bool
    ) -> None:
        self._config = config
        self._around = around
        self._chance = chance
        self._follows = follows
        self._cloud = MeasuredCloud(config, around.context, around.client, around.figures)
        self._target: TargetState | None = None
        self._desired = DesiredState()
        self._current = CurrentState()
        self._progress: dict[str, int | None] = {}
        self._doing: dict[tuple[int, str], str] = {}
        self._running: dict[int, str] = {}
        self._registries: set[str] = set()
        self._wake = asyncio.Event()
        rhythm = Rhythm().faster(around.scale)
        self._reporter = Reporter(self._cloud, self._state, Machine(chance).read, rhythm)
        self._shipper = LogShipper(self._confirmed)
        self._poller = Poller(self._cloud, self._interval, self._received, self._online)
        self.is_registered = False

    @property
    def uuid(self) -> str:
        """Its name for the api."""
        return str(self._config.uuid)

    @property
    def is_ready(self) -> bool:
        """Whether it has a target, which is the end of its start."""
        return self._target is not None

    async def run(self) -> None:
        """Live until cancelled."""
        try:
            await self._register()
            async with asyncio.TaskGroup() as loops:
                loops.create_task(self._poller.run())
                loops.create_task(self._reporter.run())
                loops.create_task(self._reconcile())
                if self._follows:
                    loops.create_task(self._poller.listen())
                if self._around.lines:
                    loops.create_task(self._shipper.run(self._cloud))
                    loops.create_task(self._speak())
        finally:
            await self._cloud.close()

    async def _register(self) -> None:
        trouble = Backoff(*RETRY)
        body = registration_body(self._config, OS_VERSION)
        while not self.is_registered:
            try:
                await self._cloud.register(body, str(self._config.provisioning_key))
            except CloudError as error:
                await asyncio.sleep(max(trouble.next(), error.retry_after or 0.0))
            else:
                self.is_registered = True

    def _interval(self) -> float:
        variables = self._target.config if self._target else {}
        return poll_interval(variables, self._config.poll_seconds) / self._around.scale

    def _online(self) -> None:
        self._shipper.hurry()
        self._reporter.hurry()
        self._wake.set()

    async def _confirmed(self, positions: Mapping[str, LogPosition]) -> None:
        """Nothing is kept: who ends the simulation ends the devices."""

    async def _received(self, answer: TargetAnswer) -> bool:
        try:
            target = read_target(answer.document, self.uuid)
        except wire.WireError as error:
            self._around.figures.errors[f"target: {error}"] += 1
            return False
        commits = _commits(target)
        for commit in commits - _commits(self._target) if self._target else ():
            release = self._around.figures.release(commit)
            release.seen.append(self._around.figures.now() - release.begun)
        self._target = target
        self._desired = desired_state(target, self._facts(target))
        for app in self._desired.apps:
            self._registries |= {registry_of(each.image) for each in app.services}
        self._wake.set()
        self._reporter.changed()
        return True

    def _facts(self, target: TargetState) -> DeviceFacts:
        return DeviceFacts(
            uuid=self.uuid,
            name_at_init=target.name,
            device_type=self._config.device_type,
            architecture="",
            os_version=OS_VERSION,
            api_url=str(self._config.api_endpoint),
            device_key="",
            supervisor_keys={},
            supervisor_port=self._config.listen_port,
            bridge_address="",
            docker_socket="",
            runtime_directory="",
            instance="simulated",
        )

    async def _reconcile(self) -> None:
        """Follow targets for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while steps := self._steps():
                before = self._current
                await self._carry_out(steps)
                if self._current == before:
                    break
                self._observed()
            self._observed()

    def _steps(self) -> tuple[Step, ...]:
        return plan(self._current, self._desired, owned_images(self._current, self._registries))

    async def _carry_out(self, steps: tuple[Step, ...]) -> None:
        """All of them, or those before a new target came."""
        aim = self._desired
        fetches = [step for step in steps if isinstance(step, FetchImage)]
        if fetches:
            await self._download(fetches, aim)
        for step in steps:
            if self._desired is not aim:
                return
            if not isinstance(step, FetchImage):
                await self._do(step)

    async def _download(self, fetches: list[FetchImage], aim: DesiredState) -> None:
        took = max(engine.seconds(each, self._chance) for each in fetches)
        for part in range(_PARTS):
            self._progress = {each.reference: part * 100 // _PARTS for each in fetches}
            self._reporter.changed()
            await self._sleep(took / _PARTS)
            if self._desired is not aim:
                break
        else:
            for each in fetches:
                self._current = engine.after(self._current, each)
        self._progress = {}

    async def _do(self, step: Step) -> None:
        doing = engine.DOING.get(type(step))
        subject = getattr(step, "service", None) or getattr(step, "container", None)
        key = (subject.app_id, subject.service) if doing and subject else None
        if doing and key:
            self._doing[key] = doing
            self._say(f"{doing} service '{key[1]}'")
            self._reporter.changed()
        await self._sleep(engine.seconds(step, self._chance))
        self._current = engine.after(self._current, step)
        if key:
            self._doing.pop(key, None)

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds / self._around.scale)

    def _observed(self) -> None:
        settled = settled_commits(self._current, self._desired)
        for app, commit in settled.items():
            if self._running.get(app) != commit and commit in self._around.figures.releases:
                release = self._around.figures.releases[commit]
                release.running.append(self._around.figures.now() - release.begun)
        self._running |= settled
        self._reporter.changed()

    def _state(self) -> dict[str, Any]:
        apps = report_apps(self._current, self._desired, self._progress, self._doing, self._running)
        return device_state(apps if self._target else {}, OS_VERSION, _ADDRESSES)

    def _say(self, text: str) -> None:
        if self._around.lines:
            self._shipper.add(system_line(text))

    async def _speak(self) -> None:
        """Each running service prints its lines, for ever."""
        pause = 60.0 / self._around.lines
        while True:
            await self._sleep(jitter(pause))
            for each in self._current.containers:
                now = LogPosition(time.time_ns(), 1)
                self._shipper.add(
                    container_line(
                        f"{each.service} is at work",
                        self.uuid,
                        now,
                        each.service,
                        each.service_id,
                        False,
                    )
                )


def _commits(target: TargetState | None) -> set[str]:
    apps = target.apps if target else ()
    return {each.release.commit for each in apps if each.release}
