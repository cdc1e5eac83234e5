"""Offline updates: bundles that lie in a folder of the data partition are applied, one by one.

Whoever brings one (a stick by way of the host, the HTTP API, a copy over SSH) puts it there whole,
by renaming. It stays until it is applied or refused: a device that lost power amid one begins it
again and finds in the engine what it had already. Until all images are there nothing that runs is
touched.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from gantry.contracts.bundle import BundleError
from gantry.supervisor import bundle_folder, loopback, wire
from gantry.supervisor.backoff import Backoff
from gantry.supervisor.bundle_folder import BundleStatus, Progress, Stage
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.engine import Engine, EngineError, EngineInfo
from gantry.supervisor.journal import Journal
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import Store

_LOG = logging.getLogger(__name__)
# How often the folder is looked at, in seconds; who knows of a bundle says so.
_LOOK_EVERY = 5.0
_TRIES = 4


class Holder(Protocol):
    """Who holds the device at its target: with its fleet, or before it has one."""

    @property
    def config(self) -> DeviceConfig:
        """Who the device is."""

    @property
    def info(self) -> EngineInfo:
        """What the engine says of its host."""

    async def follow_offline(self) -> None:
        """The offline release is another."""


class Bundles:
    """Applies bundles. `holder` is None while the device has not begun to live."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: Store,
        offline: OfflineReleases,
        journal: Journal,
        holder: Callable[[], Holder | None],
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._offline = offline
        self._journal = journal
        self._holder = holder
        self._wake = asyncio.Event()
        self._failures = 0
        self.folder = settings.data_mount / "bundles"
        self._progress = Progress(self.folder)

    @property
    def status(self) -> BundleStatus | None:
        """How the bundle fares that is being applied, or was last."""
        return self._progress.status

    def wake(self) -> None:
        """There is a new bundle."""
        self._wake.set()

    async def run(self) -> None:
        """Apply what lies there, for ever."""
        trouble = Backoff(2.0, 300.0)
        looking = bundle_folder.Folder(self.folder)
        await self._clean()
        while True:
            self._wake.clear()
            delay = _LOOK_EVERY
            holder = self._holder()
            path = None
            if holder is not None and not looking.is_still_empty():
                path = await asyncio.to_thread(looking.first)
            if holder is not None and path is not None:
                if await self._handle(path, holder):
                    trouble.reset()
                    continue
                delay = trouble.next()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _clean(self) -> None:
        try:
            await loopback.clean(self._engine, bundle_folder.KIND, self._settings.instance)
        except EngineError as error:
            _LOG.warning("what a bundle left behind stays for now: %s", error)

    async def _handle(self, path: Path, holder: Holder) -> bool:
        """Apply one bundle; False when it has to be tried again later."""
        try:
            message, commit = await self._apply(path, holder)
        except (BundleError, wire.WireError, OSError) as error:
            await self._refuse(path, str(error))
        except EngineError as error:
            self._failures += 1
            full = "no space left" in str(error)
            if not full and self._failures < _TRIES:
                await self._progress.tell(Stage.WAITING, f"{error}; trying again")
                _LOG.warning("%s: %s; trying again", path.name, error)
                return False
            reason = f"too little room: {error}" if full else str(error)
            await self._refuse(path, reason)
        except Exception as error:
            # A fault of ours must not come back with the same file for ever.
            _LOG.exception("%s", path.name)
            await self._refuse(path, f"the supervisor failed on it: {error!r:.200}")
        else:
            # Told first: what power ends in between is found applied already, and told again.
            await self._progress.tell(Stage.APPLIED, message, 100, commit)
            self._journal.write(f"Bundle {path.name}: {message}")
            await asyncio.to_thread(path.unlink, True)
        self._failures = 0
        await self._clean()
        return True

    async def _refuse(self, path: Path, reason: str) -> None:
        """Set a bundle aside, so that it is not tried again."""
        await self._progress.tell(Stage.REFUSED, reason)
        self._journal.write(f"Bundle {path.name} refused: {reason}", is_error=True)
        await asyncio.to_thread(bundle_folder.set_aside, path)

    async def _apply(self, path: Path, holder: Holder) -> tuple[str, str]:
        """See bundle_apply. Bundles are rare: what reads them is not kept in memory before one
        comes."""
        from gantry.supervisor.bundle_apply import Applying

        applying = Applying(
            self._settings,
            self._engine,
            self._store,
            self._offline,
            self._journal,
            self._holder,
            self._progress,
        )
        return await applying.apply(path, holder)
