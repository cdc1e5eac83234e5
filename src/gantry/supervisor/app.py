"""The supervisor: its life from start to end, and the threads between its parts."""

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import suppress

from gantry.supervisor import clock, httpserver, moves, recovery, web
from gantry.supervisor.backoff import Backoff
from gantry.supervisor.bundles import Bundles, Holder
from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.config import DEFAULT_PORT, ConfigError, ConfigFile, DeviceConfig
from gantry.supervisor.device import recall
from gantry.supervisor.engine import Engine, EngineError, EngineInfo
from gantry.supervisor.journal import Journal
from gantry.supervisor.keys import KeyRing, Scope
from gantry.supervisor.local_logs import LogRouter
from gantry.supervisor.logbuffer import system_line
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.loops import keep_going
from gantry.supervisor.managed import Managed
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.parts import Parts
from gantry.supervisor.preloaded import Preloading
from gantry.supervisor.provision import RETRY, provision
from gantry.supervisor.services import Services
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import LogPosition, Store
from gantry.supervisor.tls import ssl_context
from gantry.supervisor.unregistered import Unregistered

_LOG = logging.getLogger(__name__)
# Of the ten seconds that the host gives, in seconds.
_LAST_LOGS = 4.0


class StartError(Exception):
    """The supervisor cannot run on this host at all; the message says why."""


class App:
    """One supervisor on one host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = ConfigFile(settings.config_path)
        self._store = Store(settings.database_path)
        self._engine = Engine(settings.docker_socket)
        self._shipper = LogShipper(self._confirmed)
        self._logs = LogRouter(self._shipper.add)
        self._journal = Journal(lambda text, service: self._logs.add(system_line(text, service)))
        self._managed: Managed | None = None
        self._keys: KeyRing | None = None
        self._unregistered: Unregistered | None = None
        self._offline = OfflineReleases(self._store, self._journal)
        self._preloading = Preloading(settings, self._store, self._journal)
        self._bundles = Bundles(
            settings, self._engine, self._store, self._offline, self._journal, self._holder
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._positions: dict[str, LogPosition] = {}
        self._saved_at = 0.0

    async def run(self, stop: asyncio.Event) -> bool:
        """Run until `stop` is set, or until config.json makes another device of this one: then
        True, and the supervisor is to begin anew. Containers of applications run on.

        Raises:
            StartError: the data directory or the port cannot be used.
        """
        try:
            await self._store.open()
        except (OSError, sqlite3.Error) as error:
            path = self._settings.database_path
            raise StartError(f"{path} cannot be opened: {error}; mount a writable /data") from error
        server = await self._listen()
        life = asyncio.create_task(self._live(), name="life")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                life.result()  # raises what ended it
            return life.done()
        finally:
            _LOG.info("stopping; applications run on")
            server.close()
            for task in (life, stopping):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._end()

    async def _listen(self) -> asyncio.Server:
        """Answer on the device's port from the first moment, provisioned or not."""
        port = self._settings.listen_port or DEFAULT_PORT
        if self._settings.listen_port is None:
            with suppress(ConfigError):
                port = (await asyncio.to_thread(self._file.read)).listen_port
        address = self._settings.listen_address
        try:
            server = await httpserver.serve(web.application(self), address, port)
        except OSError as error:
            raise StartError(f"cannot listen on {address}:{port}: {error.strerror}") from error
        _LOG.info("listening on %s:%d", address, port)
        return server

    async def _live(self) -> None:
        """Become a device of the fleet, and then be one for as long as config.json says so."""
        info = await self._host()
        await recovery.remember(self._store, self._engine, self._settings.instance)
        memory = await recall(self._store)
        self._keys = memory.keys
        unregistered = Unregistered(
            self._settings,
            self._file,
            self._store,
            self._engine,
            info,
            memory,
            self._offline,
            self._journal,
        )
        self._unregistered = unregistered
        bundles = asyncio.create_task(keep_going("bundles", self._bundles.run), name="bundles")
        self._tasks.append(bundles)
        try:
            config = await self._provision(info, unregistered)
        finally:
            await unregistered.stop()
        cloud = Cloud(config, ssl_context(config.root_ca))
        parts = Parts(
            settings=self._settings,
            config=config,
            store=self._store,
            engine=self._engine,
            info=info,
            memory=memory,
            cloud=cloud,
            shipper=self._shipper,
            journal=self._journal,
            logs=self._logs,
            offline=self._offline,
        )
        managed = Managed(parts)
        await managed.open()
        self._managed = managed
        for name, work in managed.loops().items():
            self._tasks.append(asyncio.create_task(keep_going(name, work), name=name))
        await moves.until_changed(self._file, config)

    async def _host(self) -> EngineInfo:
        """What the engine says of the host, once it answers."""
        trouble = Backoff(1.0, 30.0)
        while True:
            try:
                return await self._engine.info()
            except EngineError as error:
                _LOG.warning("%s", error)
                await asyncio.sleep(trouble.next())

    def _holder(self) -> Holder | None:
        """Who holds the device at its target now."""
        if self._managed is not None:
            return self._managed
        waiting = self._unregistered
        return waiting if waiting is not None and waiting.is_running else None

    async def _provision(self, info: EngineInfo, unregistered: Unregistered) -> DeviceConfig:
        """Be provisioned, however long it takes; what came with the card runs meanwhile."""
        trouble = Backoff(*RETRY)
        said = ""
        while True:
            try:
                return await self._try_to_provision(info)
            except (ConfigError, CloudError) as error:
                await unregistered.start()
                wait = trouble.next()
                if isinstance(error, ConfigError):
                    # Somebody is likely to be at the device, and to look whether it works now.
                    wait = min(wait, 10.0)
                if str(error) != said:
                    said = str(error)
                    _LOG.error("not provisioned: %s; trying again", error)
                await clock.sleep(wait)

    async def _try_to_provision(self, info: EngineInfo) -> DeviceConfig:
        clouds: list[Cloud] = []

        def connect(config: DeviceConfig) -> Cloud:
            clouds.append(Cloud(config, ssl_context(config.root_ca)))
            return clouds[-1]

        try:
            await self._preloading.take(self._file)
            config = await provision(self._file, connect, info.operating_system)
            ssl_context(config.root_ca)  # a wrong certificate is told here, and waited for
            if await self._preloading.has_pin():
                await self._preloading.pin(connect(config))
            return config
        finally:
            for cloud in clouds:
                await cloud.close()

    async def _end(self) -> None:
        managed = self._managed
        if managed is not None:
            await managed.pause()
            # The loop that sends logs is left to end by itself: what it has is still sent.
            self._shipper.finish()
            shipping = [task for task in self._tasks if task.get_name() == "logs"]
            if shipping:
                await asyncio.wait(shipping, timeout=_LAST_LOGS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._save_positions()
        if managed is not None:
            await managed.close()
        await self._engine.close()
        await self._store.close()

    async def _confirmed(self, positions: Mapping[str, LogPosition]) -> None:
        """Remember how far logs have come: not at each line, for the card's sake."""
        self._positions.update(positions)
        now = asyncio.get_running_loop().time()
        if now - self._saved_at > 5.0:
            self._saved_at = now
            await self._save_positions()

    async def _save_positions(self) -> None:
        if self._managed is not None and (self._positions or self._managed.followed()):
            saved, self._positions = self._positions, {}
            await self._store.save_log_positions(saved, self._managed.followed())

    def scope_of(self, key: str) -> Scope | None:
        """See web.Supervisor."""
        return self._keys.scope_of(key) if self._keys is not None else None

    def asks_no_key(self) -> bool:
        """See web.Supervisor."""
        return self._managed is not None and self._managed.asks_no_key()

    def complaints(self) -> list[str]:
        """See web.Supervisor. A device that waits for its config.json is healthy."""
        return [] if self._managed is None else self._managed.complaints()

    def bundles(self) -> Bundles:
        """See web.Supervisor."""
        return self._bundles

    def services(self) -> Services | None:
        """See web.Supervisor."""
        return self._managed
