"""Services whose new container starts after a restart of the host: `requires-reboot`.

Which container waits is known from the boot that it was made in, on its label: whoever restarts the
host, and wherever power is lost, it starts in another boot, and needs no second restart. Here is
what a label cannot tell: which configuration has run already, so that one that is made anew (a
restart by hand, a purge, the end of local mode) is no update; and how often the host was restarted
without another boot coming of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gantry.supervisor.desired import DesiredApp, DesiredService, DesiredState
from gantry.supervisor.facts import Facts
from gantry.supervisor.host import HostError
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.restart import Restarts
from gantry.supervisor.host.side import RESTART_TAKES
from gantry.supervisor.journal import Journal
from gantry.supervisor.matching import best
from gantry.supervisor.state import ContainerState, CurrentState
from gantry.supervisor.steps import RestartHost

_FACT = "rebooted"


class UpdateReboots:
    """Restarts the host for services. `restarts` remembers how often that was tried."""

    def __init__(self, facts: Facts, restarts: Restarts, door: Door, journal: Journal) -> None:
        self._facts = facts
        self._restarts = restarts
        self._door = door
        self._journal = journal
        # By application and service: the last configuration that was started.
        self._started: dict[str, str] = {}
        self._in_vain: frozenset[str] = frozenset()

    async def open(self) -> None:
        """Take up what was remembered."""
        known: Any = await self._facts.get(_FACT)
        if isinstance(known, Mapping):
            self._started = {str(key): str(value) for key, value in known.items()}

    async def applied(self, desired: DesiredState, current: CurrentState) -> DesiredState:
        """The desired state, in which services start at once that need no restart (any more)."""
        started = dict(self._started)
        apps = tuple(self._applied(app, current, started) for app in desired.apps)
        if started != self._started:
            self._started = started
            await self._facts.put(_FACT, started or None)
        return replace(desired, apps=apps)

    def _applied(
        self, app: DesiredApp, current: CurrentState, started: dict[str, str]
    ) -> DesiredApp:
        waiting = {_key(each) for each in app.services if each.boot is not None}
        for key in [each for each in started if each.startswith(f"{app.id} ")]:
            if key not in waiting:
                del started[key]
        return replace(
            app, services=tuple(self._service(each, current, started) for each in app.services)
        )

    def _service(
        self, service: DesiredService, current: CurrentState, started: dict[str, str]
    ) -> DesiredService:
        if service.boot is None:
            return service
        keep = best(current.of_service(service.app_id, service.service), service)
        if keep is not None and keep.state is not ContainerState.CREATED:
            started[_key(service)] = service.config_hash
        is_known = started.get(_key(service)) == service.config_hash
        if is_known or (keep is not None and keep.id in self._in_vain):
            return service.at_once()
        return service

    async def restart(self, step: RestartHost) -> None:
        """Restart the host; returns if it goes on all the same.

        Raises:
            HostError: the host refuses, or the restart could not be remembered.
        """
        names = ", ".join(sorted({f"service '{each.service}'" for each in step.containers}))
        ids = sorted(each.id for each in step.containers)
        await self._restarts.need([names], "\n".join(ids))
        needed = await self._restarts.needed()
        if needed is not None and needed.in_vain:
            self._in_vain |= frozenset(ids)
            self._journal.write(
                f"The host was restarted for {names}, and no other boot came of it: what is new "
                "starts without",
                is_error=True,
            )
            return
        if not await self._restarts.begin():
            raise HostError(
                "it cannot be remembered: the data partition is full or cannot be written"
            )
        self._journal.write(f"The host is restarted for {names}")
        try:
            await self._door.ask("reboot")
        except HostError:
            await self._restarts.not_begun()
            raise
        # Nothing is to begin now: the locks of all applications are kept until the end.
        await asyncio.sleep(RESTART_TAKES)


def _key(service: DesiredService) -> str:
    return f"{service.app_id} {service.service}"
