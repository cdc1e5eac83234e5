"""What somebody at the device, or through its tunnel, asks of it over the HTTP API.

Whatever stops an application waits for nobody's lock: it is refused while one is held, unless it
is forced. What is asked of containers goes to the planner as an intervention, so that it is carried
out as updates are, and not against them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gantry.supervisor import interventions, wire
from gantry.supervisor.desired import DesiredApp, DesiredState, Label
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.host import Host
from gantry.supervisor.interventions import Intervention
from gantry.supervisor.journal import Journal
from gantry.supervisor.keys import EVERYTHING, KeyRing, Scope
from gantry.supervisor.pulse import Pulse
from gantry.supervisor.views import Picture

_LOG = logging.getLogger(__name__)
# How long an answer waits for containers to be as was asked, in seconds; it goes on after that.
_PATIENCE = 300.0
_LOOK_EVERY = 1.0
# The family's: false means that only polls and forced updates look for a release.
_INSTANT = ("BALENA_SUPERVISOR_INSTANT_UPDATE_TRIGGER", "RESIN_SUPERVISOR_INSTANT_UPDATE_TRIGGER")
# A new key reaches its asker before the asker is started anew, in seconds.
_KEY_DELAY = 1.0


class ActionError(Exception):
    """It cannot be done; `status` is the HTTP status, the message says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Interventions(Protocol):
    """Who has the planner do what was asked: `intervene.Interventions`."""

    async def ask(self, asked: Intervention) -> None:
        """Returns when the engine shows it."""

    async def start(self, app_id: int, services: Collection[str] | None = None) -> None:
        """Have these services run again, as far as the target wants them to."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What actions act upon.

    `variables` are the device's, of its target. `update` asks for the target and looks at the
    engine now: if forced, no lock keeps the update away; if cancelled, downloads under way end.
    `hold` has the locks of all applications while it lasts, or raises; it is given whether forced.
    `rekey` gives new keys to containers that have old ones; `changed` has the api told what is new
    of the device. `returns` are the states that the
    device may come back to from the one it is held to; it raises ActionError where nobody knows.
    """

    picture: Callable[[], Picture]
    variables: Callable[[], Mapping[str, str]]
    interventions: Interventions
    update: Callable[[bool, bool], None]
    rekey: Callable[[], None]
    changed: Callable[[], None]
    returns: Callable[[], Iterable[DesiredState]]
    engine: Engine
    host: Host
    hold: Callable[[bool], AbstractAsyncContextManager[object]]
    keys: KeyRing
    journal: Journal
    pulse: Pulse
    instance: str


class Actions:
    """Everything that may be asked. Each returns when it is done.

    Raises of all: LockedError when an application is locked, HostError and EngineError when those
    refuse, ActionError for the rest.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._chores: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what was put off."""
        for each in self._chores:
            each.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    def service_of(self, app_id: int, name: str, image_id: int | None) -> str:
        """The service of this name, or with this image's id.

        Raises:
            ActionError: 404, with what is not there.
        """
        here = self._around.picture().services(app_id)
        if not here:
            raise ActionError(404, f"App not found: nothing of app {app_id} is on this device")
        for service, container in here.items():
            if service == name or (image_id is not None and container.image_id == image_id):
                return service
        asked = repr(name) if name else f"with imageId {image_id}"
        raise ActionError(404, f"Service {asked} not found; there is {', '.join(sorted(here))}")

    async def stop(self, app_id: int, service: str, force: bool = False) -> None:
        """Stop a service and keep its container; it starts with the supervisor's next start."""
        app = self._app(app_id, service)
        await self._around.interventions.ask(interventions.stop(app, [service], force))

    async def start(self, app_id: int, service: str, _force: bool = False) -> None:
        """Start a service; one that has done its work does it again. Locks do not matter."""
        self._app(app_id, service)
        around = self._around
        await around.interventions.start(app_id, [service])
        container = around.picture().services(app_id).get(service)
        if container is not None and not container.state.is_up:
            try:
                await around.engine.start_container(container.id)
            except EngineError as error:
                raise ActionError(503, f"service {service!r} does not start: {error}") from error

        def begun() -> bool:
            found = around.picture().services(app_id).get(service)
            return found is not None and (found.state.is_up or found.exit_code == 0)

        await self._until(begun, f"service {service!r} to run")

    async def restart_service(self, app_id: int, service: str, force: bool = False) -> None:
        """Replace a service's container by a new one."""
        app = self._app(app_id, service)
        current = self._around.picture().current
        await self._around.interventions.ask(interventions.restart(app, current, [service], force))

    async def restart(self, app_id: int, force: bool = False) -> None:
        """Replace all containers of an application by new ones."""
        app = self._app(app_id)
        current = self._around.picture().current
        await self._around.interventions.ask(interventions.restart(app, current, None, force))

    async def purge(self, app_id: int, force: bool = False) -> None:
        """Replace all containers of an application, with its volumes empty."""
        app = self._app(app_id)
        current = self._around.picture().current
        self._around.journal.write(f"Purging data for app {app_id}")
        await self._around.interventions.ask(interventions.purge(app, current, force))
        self._around.journal.write(f"Purged data for app {app_id}")

    def update(self, force: bool = False, cancel: bool = False) -> bool:
        """Ask for the target now; False when the device's variables say that nobody may."""
        variables = self._around.variables()
        instant = next((variables[name] for name in _INSTANT if name in variables), None)
        if not force and not wire.flag(instant, default=True):
            return False
        self._around.update(force, cancel)
        return True

    async def reboot(self, force: bool = False) -> None:
        """Restart the host, with the locks of all applications."""
        async with self._around.hold(force):
            self._around.journal.write("Rebooting")
            await self._around.host.reboot()

    async def shutdown(self, force: bool = False) -> None:
        """Switch the host off, with the locks of all applications."""
        async with self._around.hold(force):
            self._around.journal.write("Shutting down")
            await self._around.host.shutdown()

    async def cleanup_volumes(self, scope: Scope) -> None:
        """Remove the volumes of this device's applications, as far as the scope goes, that no
        target names any more. Those stay of what the device may come back to (the fleet's release
        in local mode, the good one in a trial), and of a release that cannot be run."""
        around = self._around
        states = (around.picture().desired, *around.returns())
        wanted = {each.name for state in states for app in state.apps for each in app.volumes}
        rejected = {each.id for state in states for each in state.rejections}
        for document in await around.engine.labelled_volumes(f"{Label.INSTANCE}={around.instance}"):
            name = str(document["Name"])
            owner = str((document.get("Labels") or {}).get(Label.APP_ID, ""))
            app_id = int(owner) if owner.isdecimal() else -1
            if name in wanted or app_id in rejected or not scope.covers(app_id):
                continue
            try:
                await around.engine.remove_volume(name)
                around.journal.write(f"Removed volume '{name}'")
            except EngineError as error:
                if error.status != 409:  # a container that is about to go still has it
                    raise
                _LOG.info("volume %s is in use: %s", name, error)

    async def regenerate_key(self, scope: Scope) -> str:
        """Another key for whoever asks. Containers that have the old one are started anew, a moment
        later, for the one that asks may be among them; the api is told the one that is its own."""
        key = await self._around.keys.regenerate(scope)
        if scope == EVERYTHING:
            self._around.changed()
        else:
            self._later(_KEY_DELAY, self._around.rekey)
        return key

    def _app(self, app_id: int, service: str | None = None) -> DesiredApp:
        app = self._around.picture().app(app_id)
        if app is None or not self._around.picture().services(app_id):
            raise ActionError(503, f"Application with ID {app_id} is not on this device")
        if service is not None and service not in {each.service for each in app.services}:
            raise ActionError(404, f"Service {service!r} does not exist in the target release")
        return app

    async def _until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _PATIENCE
        with self._around.pulse.listen() as changed:
            while not done():
                if time.monotonic() > end:
                    raise ActionError(503, f"waited {_PATIENCE:.0f} s for {what}: see the log")
                await changed.wait(_LOOK_EVERY)

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay)
            work()

        task = asyncio.create_task(wait())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
