"""All that brings the engine to a desired state and holds it there, with a fleet or before one."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import interventions, lockfiles
from gantry.supervisor.engine import Engine
from gantry.supervisor.exclusion import Exclusion
from gantry.supervisor.execute import Executor
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.handover import HandOvers
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.restart import Restarts, boot_id
from gantry.supervisor.intervene import Interventions
from gantry.supervisor.journal import Journal
from gantry.supervisor.labels import Label
from gantry.supervisor.locks import Locks
from gantry.supervisor.reboots import UpdateReboots
from gantry.supervisor.reconcile import Reconciler
from gantry.supervisor.settings import Settings
from gantry.supervisor.state import CurrentState
from gantry.supervisor.store import Store


@dataclass(frozen=True, slots=True)
class Hearers:
    """Who hears of what is done. `drain` and `changed` as of the executor, `observed` and
    `registries` as of the reconciler."""

    drain: Callable[[str], Awaitable[None]]
    changed: Callable[[], None]
    observed: Callable[[CurrentState], None]
    registries: Callable[[], Collection[str] | None]


class Holding:
    """The reconciler and what it works with. `open` comes first, then its loops are run."""

    reconciler: Reconciler
    interventions: Interventions

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        journal: Journal,
        fetcher: Fetcher,
        hearers: Hearers,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._hearers = hearers
        self.fetcher = fetcher
        self.executor = Executor(engine, journal, hearers.drain, hearers.changed, self._prepare)
        self.locks = Locks(settings.runtime_path, store)
        self.locks.is_alive = self._is_alive
        self.handovers = HandOvers(settings.runtime_path)
        self.exclusion = Exclusion(self.locks, journal)
        self.reboots = UpdateReboots(
            store,
            Restarts(store, boot_id(), "update_restart"),
            Door(settings.host_door),
            journal,
        )

    async def open(self) -> None:
        """Take up what the store has of locks and of what was asked at the device."""
        await self.locks.open()
        await self.reboots.open()
        asked = interventions.from_document(await self._store.get("interventions"))
        self.interventions = Interventions(
            self.locks,
            lambda: self.reconciler.wake(),
            lambda asked: self._store.put("interventions", asked or None),
            # As with the family, what was stopped by hand runs again after a start.
            interventions.without_stops(asked),
        )
        self.reconciler = Reconciler(
            self._engine,
            self._settings.instance,
            self.executor,
            self.fetcher,
            self._hearers.observed,
            self._hearers.registries,
            self.exclusion,
            self.handovers,
            self.interventions,
            self.reboots,
        )
        self.reconciler.ended = self._ended

    def _is_alive(self, app_id: int, service: str) -> bool:
        """Whether a container of this service runs, as far as is known. One that was started just
        now may have taken its lock before the engine is looked at again."""
        if not self.reconciler.looked or (app_id, service) in self.executor.started:
            return True
        return any(e.state.is_up for e in self.reconciler.current.of_service(app_id, service))

    async def _ended(self, event: Mapping[str, Any]) -> None:
        """A container ended, whether or not the engine starts it again: locks that its processes
        made end with them. While another of its service runs, they may be that one's."""
        actor = event["Actor"]
        attributes = actor.get("Attributes") or {}
        app_id, service = str(attributes.get(Label.APP_ID)), str(attributes.get(Label.SERVICE_NAME))
        if not app_id.isdecimal() or not self.reconciler.looked:
            return
        mine = self.reconciler.current.of_service(int(app_id), service)
        others = any(each.state.is_up for each in mine if each.id != actor["ID"])
        if others or (int(app_id), service) in self.executor.started:
            return
        services, at = self._settings.runtime_path / "services", int(event.get("timeNano") or 0)
        await asyncio.to_thread(lockfiles.end_of_life, services, int(app_id), service, at)

    async def _prepare(self, app_id: int, service: str) -> None:
        """Make ready what a new container finds in its runtime directory."""
        services = self._settings.runtime_path / "services"
        await asyncio.to_thread(lockfiles.prepare, services, app_id, service)
        await asyncio.to_thread(self.handovers.clear, app_id, service)
