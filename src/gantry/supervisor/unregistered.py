"""A device that its fleet does not know yet: it runs what came with the card, or by bundle."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gantry.supervisor import device, wire
from gantry.supervisor.config import ConfigError, ConfigFile, DeviceConfig
from gantry.supervisor.desired import desired_state
from gantry.supervisor.device import Memory
from gantry.supervisor.engine import Engine, EngineInfo
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.holding import Hearers, Holding
from gantry.supervisor.journal import Journal
from gantry.supervisor.loops import keep_going
from gantry.supervisor.observe import registry_of
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import Store
from gantry.supervisor.target import read_target

_LOG = logging.getLogger(__name__)


class Unregistered:
    """Holds the engine at the stored target until the fleet answers. Nothing is reported, and logs
    wait in the engine."""

    def __init__(
        self,
        settings: Settings,
        file: ConfigFile,
        store: Store,
        engine: Engine,
        info: EngineInfo,
        memory: Memory,
        offline: OfflineReleases,
        journal: Journal,
    ) -> None:
        self._settings = settings
        self._file = file
        self._store = store
        self._memory = memory
        self._offline = offline
        self._journal = journal
        self._registries: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.info = info
        self.config = DeviceConfig()
        self._fetcher = Fetcher(
            engine, lambda _reference: None, journal, self._fetched, _nothing_to_check
        )
        hearers = Hearers(
            drain=_nothing_to_drain,
            changed=lambda: None,
            observed=lambda _current: None,
            registries=lambda: offline.removable(self._registries),
        )
        self._held = Holding(settings, engine, store, journal, self._fetcher, hearers)

    @property
    def is_running(self) -> bool:
        """Whether it holds the device."""
        return bool(self._tasks)

    async def start(self) -> None:
        """Hold the stored target; without a config.json that has a name for the device, not yet."""
        if self._tasks:
            return
        with suppress(ConfigError):
            self.config = await asyncio.to_thread(self._file.read)
        if self.config.uuid is None:
            return
        self._registries = set(await self._store.get("registries") or ())
        await self._held.open()
        reconciler = self._held.reconciler
        await self.follow_offline()
        self._tasks = [
            asyncio.create_task(keep_going(name, work), name=f"{name}, not registered")
            for name, work in {
                "reconcile": reconciler.run,
                "engine events": reconciler.follow_events,
            }.items()
        ]

    async def stop(self) -> None:
        """Let go. What runs runs on, and whoever comes next finds it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._fetcher.close()

    async def follow_offline(self) -> None:
        """See bundles.Holder."""
        uuid = str(self.config.uuid)
        document: Mapping[str, Any] = await self._store.get("target") or {
            uuid: {"name": "", "config": {}, "apps": {}}
        }
        try:
            target = read_target(await self._offline.over(document, uuid), uuid)
        except wire.WireError as error:
            _LOG.warning("the stored target is not used: %s", error)
            return
        if not target.apps:
            return
        # Keys that its containers get now are those that they will have with the fleet.
        if self._memory.keys.provide(app.id for app in target.apps):
            await self._memory.keys.save()
        desired = desired_state(
            target, device.facts(self._settings, self.config, self.info, self._memory, target.name)
        )
        for rejection in desired.rejections:
            self._journal.write(
                f"Release {rejection.commit} cannot be run: {rejection.reason}", is_error=True
            )
        for app in desired.apps:
            self._registries |= {registry_of(each.image) for each in app.services}
        self._held.reconciler.aim(desired)

    def _fetched(self, ended: bool) -> None:
        if ended:
            self._held.reconciler.wake()


async def _nothing_to_drain(_container: str) -> None:
    return


async def _nothing_to_check(_reference: str) -> None:
    """Without a key, no registry tells the size of an image."""
