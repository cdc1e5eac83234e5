"""Carries out the planner's steps, and waits longer each time that one fails."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from gantry.supervisor.attempts import Attempts
from gantry.supervisor.desired import DesiredService
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.host import HostError
from gantry.supervisor.journal import Journal
from gantry.supervisor.room import is_full
from gantry.supervisor.state import Container
from gantry.supervisor.steps import (
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FetchImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RestartHost,
    ReviveContainer,
    StartContainer,
    Step,
    StopContainer,
)

# An engine that does not answer is no fault of a step, which is tried again so soon, in seconds.
_ENGINE_AWAY = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many steps were carried out, and when the first of those held back may be tried."""

    done: int
    wait: float | None


class Executor:
    """The only one who changes the engine.

    `drain` waits until a stopped container's log has been read, for it goes with the container.
    `prepare` makes ready what a service's new container finds, `free` gives back the lock of a
    service that is about to start, `restart` restarts the host.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        drain: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
        prepare: Callable[[int, str], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._drain = drain
        self._changed = changed
        self._prepare = prepare
        self.free: Callable[[int, str], Awaitable[None]] = _nothing
        self.restart: Callable[[RestartHost], Awaitable[None]] = _no_host
        self._attempts = Attempts()
        self.doing: dict[tuple[int, str], str] = {}
        # Services that were started since the engine was last looked at.
        self.started: set[tuple[int, str]] = set()
        # Whether the disk was too full for the last container that was to be made.
        self.short_of_room = False

    async def run(self, steps: Iterable[Step], still_wanted: Callable[[], bool]) -> Outcome:
        """Carry out these steps, lane by lane side by side; none begins once they are not wanted.

        Lanes that only end containers go first: what they held (ports, devices) may be needed.
        """
        lanes: dict[str, list[Step]] = {}
        for step in steps:
            lanes.setdefault(step.lane, []).append(step)
        ending = [lane for lane in lanes.values() if _only_ends(lane)]
        others = [lane for lane in lanes.values() if not _only_ends(lane)]
        done, waits = 0, []
        for group in (ending, others):
            for count, wait in await asyncio.gather(
                *(self._lane(lane, still_wanted) for lane in group)
            ):
                done += count
                if wait is not None:
                    waits.append(wait)
        return Outcome(done, min(waits, default=None))

    async def _lane(
        self, steps: list[Step], still_wanted: Callable[[], bool]
    ) -> tuple[int, float | None]:
        for done, step in enumerate(steps):
            if not still_wanted() and not _is_amid(steps, done):
                return done, None
            key = _key(step)
            wait = self._attempts.wait(key)
            if wait > 0:
                return done, wait
            try:
                await self._carry_out(step)
            except (EngineError, HostError) as error:
                is_away = isinstance(error, EngineError) and error.status is None
                delay = _ENGINE_AWAY if is_away else self._attempts.failed(key)
                self.short_of_room |= is_full(str(error))
                self._journal.write(
                    f"{_sentence(step)} failed: {error}; next try in {delay:.0f} s",
                    _service_id(step),
                    is_error=True,
                )
                return done, delay
            if isinstance(step, StartContainer | ReviveContainer):
                # A service that ends soon after each start is started less and less often.
                self._attempts.failed(key)
            else:
                self._attempts.forget(key)
            if isinstance(step, CreateContainer):
                # What is new is started at once, though another of its name may have failed.
                self._attempts.forget(_key(StartContainer(step.service)))
        return len(steps), None

    def forget_old_attempts(self) -> None:
        """Drop what was counted for things that are long gone."""
        self._attempts.forget_old()

    async def _carry_out(self, step: Step) -> None:
        engine = self._engine
        match step:
            case CreateNetwork(network):
                await engine.create_network(network.body)
            case RemoveNetwork(network):
                await engine.remove_network(network.id)
            case CreateVolume(volume):
                await engine.create_volume(volume.body)
            case RemoveVolume(name):
                await engine.remove_volume(name)
                self._journal.write(f"Purged volume '{name}'")
            case CreateContainer(service):
                async with self._saying(step, "Installing", "Installed"):
                    await self._prepare(service.app_id, service.service)
                    await engine.create_container(service.container_name, service.body)
                    self.short_of_room = False
                    await self._connect(service)
            case StartContainer(service):
                async with self._saying(step, "Starting", "Started"):
                    await self._connect(service)
                    await self.free(service.app_id, service.service)
                    self.started.add((service.app_id, service.service))
                    await engine.start_container(service.container_name)
            case ReviveContainer(container):
                async with self._saying(step, "Starting", "Started"):
                    self.started.add((container.app_id, container.service))
                    await engine.start_container(container.id)
            case RenameContainer(container, service):
                await engine.rename_container(container.id, service.container_name)
            case StopContainer(container):
                async with self._saying(step, "Killing", "Killed"):
                    await engine.stop_container(container.id)
            case RemoveContainer(container):
                await self._drain(container.id)
                await engine.remove_container(container.id)
            case RemoveImage(reference):
                await engine.remove_image(reference)
                self._journal.write(f"Deleted image '{reference}'")
            case RestartHost():
                await self.restart(step)
            case FetchImage():
                raise RuntimeError("downloads are the fetcher's")

    async def _connect(self, service: DesiredService) -> None:
        """Attach a container to its further networks; it may have been left half attached."""
        if not service.connections:
            return
        document = await self._engine.inspect_container(service.container_name)
        attached = (document.get("NetworkSettings") or {}).get("Networks") or {}
        for each in service.connections:
            if each.network not in attached:
                await self._engine.connect_network(
                    each.network, service.container_name, each.settings
                )

    def _saying(
        self,
        step: CreateContainer | StartContainer | StopContainer | ReviveContainer,
        doing: str,
        done: str,
    ) -> "_Saying":
        subject: Container | DesiredService
        if isinstance(step, StopContainer | ReviveContainer):
            subject = step.container
        else:
            subject = step.service
        return _Saying(self, (subject.app_id, subject.service), subject.service_id, doing, done)

    def begin(self, service: tuple[int, str], doing: str, service_id: int | None) -> None:
        """Note that a step of a service began."""
        self.doing[service] = "Stopping" if doing == "Killing" else doing
        self._journal.write(f"{doing} service '{service[1]}'", service_id)
        self._changed()

    def end(self, service: tuple[int, str], done: str | None, service_id: int | None) -> None:
        """Note that a step of a service ended; `done` is None when it failed."""
        self.doing.pop(service, None)
        if done is not None:
            self._journal.write(f"{done} service '{service[1]}'", service_id)
        self._changed()


@dataclass(frozen=True, slots=True)
class _Saying:
    """Says what is being done to a service, while it is done."""

    executor: Executor
    service: tuple[int, str]
    service_id: int | None
    doing: str
    done: str

    async def __aenter__(self) -> None:
        self.executor.begin(self.service, self.doing, self.service_id)

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self.executor.end(self.service, self.done if kind is None else None, self.service_id)


async def _nothing(_app_id: int, _service: str) -> None:
    """Nobody's lock is held."""


async def _no_host(_step: RestartHost) -> None:
    raise HostError("there is no way to the host")


def _is_amid(steps: list[Step], done: int) -> bool:
    """Whether this lane has stopped a service and not yet started it again: no safe point to end
    at, for whatever is wanted next may take long to come."""
    stopped = any(isinstance(each, StopContainer) for each in steps[:done])
    return stopped and any(isinstance(each, StartContainer) for each in steps[done:])


def _only_ends(steps: Iterable[Step]) -> bool:
    return all(isinstance(step, StopContainer | RemoveContainer) for step in steps)


def _key(step: Step) -> str:
    match step:
        case CreateContainer(service) | StartContainer(service):
            subject = service.container_name
        case StopContainer(container) | RemoveContainer(container) | ReviveContainer(container):
            subject = container.id
        case RenameContainer(container, service):
            subject = f"{container.id} {service.container_name}"
        case _:
            subject = step.lane
    return f"{type(step).__name__} {subject}"


def _service_id(step: Step) -> int | None:
    match step:
        case CreateContainer(service) | StartContainer(service) | RenameContainer(_, service):
            return service.service_id
        case StopContainer(container) | RemoveContainer(container) | ReviveContainer(container):
            return container.service_id
        case _:
            return None


def _sentence(step: Step) -> str:
    match step:
        case CreateContainer(service):
            return f"Installing service '{service.service}'"
        case StartContainer(service):
            return f"Starting service '{service.service}'"
        case ReviveContainer(container):
            return f"Starting service '{container.service}'"
        case RemoveVolume(name):
            return f"Purging volume '{name}'"
        case RenameContainer(_, service):
            return f"Updating service '{service.service}'"
        case StopContainer(container):
            return f"Killing service '{container.service}'"
        case RemoveContainer(container):
            return f"Removing service '{container.service}'"
        case CreateNetwork(network):
            return f"Creating network '{network.name}'"
        case RemoveNetwork(network):
            return f"Removing network '{network.name}'"
        case CreateVolume(volume):
            return f"Creating volume '{volume.name}'"
        case RestartHost():
            return "Restarting the host"
        case FetchImage(reference) | RemoveImage(reference):
            return f"Handling image '{reference}'"
