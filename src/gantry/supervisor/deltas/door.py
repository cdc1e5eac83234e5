"""Deltas, as far as a supervisor needs them that has none under way: whether one is to be had, how
often it is tried, and what is said of it. All else is imported when the first one comes."""

import asyncio
import importlib
import logging
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gantry.contracts.bundle import local_tag
from gantry.supervisor import loopback
from gantry.supervisor.config import ConfigError, DeviceConfig
from gantry.supervisor.deltas.hopeless import Hopeless
from gantry.supervisor.deltas.pairing import source_images
from gantry.supervisor.engine import Credentials, Engine, EngineError, EngineInfo
from gantry.supervisor.host.variables import DeltaSettings
from gantry.supervisor.journal import Journal
from gantry.supervisor.pace import Pace
from gantry.supervisor.progress import Moved
from gantry.supervisor.settings import Settings
from gantry.supervisor.state import CurrentState
from gantry.supervisor.steps import FetchImage

if TYPE_CHECKING:
    from gantry.contracts.deltas import DeltaAnswer
    from gantry.supervisor.deltas.bring import Bringing
    from gantry.supervisor.deltas.means import Means
    from gantry.supervisor.deltas.patience import Patience

_LOG = logging.getLogger(__name__)
_MODULE = "gantry.supervisor.deltas.bring"
# After a cut that brought something, in seconds: the server is there.
_GO_ON = 1.0
# Of the repositories that the engine pulls deltas from.
KIND = "gantry-delta"


@dataclass(slots=True)
class DeltaFigures:
    """Since the supervisor's start: images that came by delta, and that had to come whole; bytes
    that were downloaded, and those that a pull would have fetched more."""

    images: int = 0
    whole: int = 0
    downloaded: int = 0
    saved: int = 0


class Deltas:
    """Brings images by delta. `current` is what is in the engine, `variables` what the device's
    say, `successor` the image of the supervisor that the target names."""

    def __init__(
        self,
        settings: Settings,
        config: DeviceConfig,
        engine: Engine,
        info: EngineInfo,
        credentials: Callable[[str], Credentials | None],
        context: Callable[[], ssl.SSLContext],
        journal: Journal,
        current: Callable[[], CurrentState],
        variables: Callable[[], DeltaSettings],
        hopeless: Hopeless,
        pace: Pace,
        successor: Callable[[], str | None],
    ) -> None:
        self._settings = settings
        self._config = config
        self._engine = engine
        self._info = info
        self._credentials = credentials
        self._context = context
        self._journal = journal
        self._current = current
        self._variables = variables
        self._folder = settings.data_directory / "deltas"
        self._turn = asyncio.Semaphore(1)
        self._hopeless = hopeless
        self.pace = pace
        self._successor = successor
        # The supervisor's image that was begun last.
        self._begun: str | None = None
        self._is_tidy = False
        self.figures = DeltaFigures()

    async def tidy(self, wanted: Collection[str]) -> None:
        """Take away what an end in the middle has left, but for what is wanted still: once. And
        what has come of a supervisor that is no longer wanted: each time."""
        await self._forget_begun()
        if self._is_tidy:
            return
        self._is_tidy = True
        successor = self._successor()
        if successor is not None and successor not in self._current().references():
            wanted = (*wanted, successor)
        if not await asyncio.to_thread(self._folder.is_dir):
            return
        folder = importlib.import_module("gantry.supervisor.deltas.folder")
        await asyncio.to_thread(folder.tidy, self._folder, [folder.key(each) for each in wanted])
        try:
            await loopback.clean(self._engine, KIND, self._settings.instance)
        except EngineError as error:
            _LOG.warning("what a delta left behind in the engine stays for now: %s", error)

    async def forget(self, reference: str) -> None:
        """This image is here, or nothing wants it any more: no file of it stays."""
        if await asyncio.to_thread(self._folder.is_dir):
            folder = importlib.import_module("gantry.supervisor.deltas.folder")
            await asyncio.to_thread(folder.remove, self._folder, folder.key(reference))

    async def _forget_begun(self) -> None:
        if self._begun not in (None, self._successor()):
            await self.forget(str(self._begun))
            self._begun = None

    async def bring_successor(
        self,
        step: FetchImage,
        turns: asyncio.Semaphore,
        moved: Moved,
        sources: tuple[str, ...],
    ) -> None:
        """`bring` for an image of the supervisor: where another one is wanted meanwhile, the file
        is not kept."""
        await self._forget_begun()
        self._begun = step.reference
        try:
            await self.bring(step, turns, moved, sources)
        finally:
            await self._forget_begun()

    async def bring(
        self,
        step: FetchImage,
        turns: asyncio.Semaphore,
        moved: Moved,
        sources: tuple[str, ...] | None = None,
    ) -> bool:
        """Have this image in the engine, by delta; False where it has to be pulled. `turns` is
        whose it is to download, `sources` are the images to make it from, if not the application's.
        Where it is cancelled, the file is kept, and nothing else."""
        variables = self._variables()
        if not variables.enabled or self._config.delta_endpoint is None:
            return False
        # What is not the fleet's, or not named by digest, the server does not know.
        if self._credentials(step.reference) is None or local_tag(step.reference) is None:
            return False
        if sources is None:
            sources = source_images(step, self._current())
        pair = (step.reference, *sorted(sources))
        if pair in self._hopeless:  # it was told of
            self.figures.whole += 1
            return False
        if not sources:
            return self._pulled(step, "nothing is here that it could be made from")
        module = await asyncio.to_thread(importlib.import_module, _MODULE)
        try:
            await _Tries(self, module, step, sources, variables).run(turns, moved)
        except module.NoDeltaError as error:
            if error.is_lasting:
                await self._hopeless.add(pair, error.is_kept, self._current().references())
            if error.is_lasting or error.is_in_the_way:
                await self.forget(step.reference)
            return self._pulled(step, str(error))
        except Exception as error:
            # A fault of ours keeps no image away.
            _LOG.exception("delta for %s", step.reference)
            await self._hopeless.add(pair, False, self._current().references())
            await self.forget(step.reference)
            return self._pulled(step, f"the supervisor failed on it: {error!r:.200}")
        await self.forget(step.reference)
        return True

    def _pulled(self, step: FetchImage, reason: str) -> bool:
        self.figures.whole += 1
        self._journal.write(
            f"No delta for image '{step.reference}': {reason}; downloading it whole",
            step.service_id or None,
        )
        return False

    def means(self, module: Any) -> "Means":
        """What bringing needs of the device.

        Raises:
            NoDeltaError: the engine's storage cannot be read, or the configuration is broken.
        """
        storage = importlib.import_module("gantry.supervisor.storage")
        try:
            context = self._context()
            opened = storage.open_storage(self._settings.engine_storage, self._info.storage_driver)
        except (ConfigError, storage.StorageError) as error:
            raise module.NoDeltaError(str(error)) from error
        found: Means = module.Means(
            engine=self._engine,
            config=self._config,
            context=context,
            credentials=self._credentials,
            storage=opened,
            folder=self._folder,
            instance=self._settings.instance,
            machine=self._info.architecture,
            turn=self._turn,
            pace=self.pace,
        )
        return found

    def say(self, text: str, step: FetchImage, is_error: bool = False) -> None:
        """A line of the journal."""
        self._journal.write(text, step.service_id or None, is_error=is_error)


class _Tries:
    """The tries for one image."""

    def __init__(
        self,
        deltas: Deltas,
        module: Any,
        step: FetchImage,
        sources: tuple[str, ...],
        variables: DeltaSettings,
    ) -> None:
        self._deltas = deltas
        self._module = module
        self._step = step
        self._sources = sources
        self._variables = variables
        self._failed = 0
        self._waited = 0.0
        self._told = ""

    async def run(self, turns: asyncio.Semaphore, moved: Moved) -> None:
        """Try until it is here.

        Raises:
            NoDeltaError: it will not be.
        """
        contract = importlib.import_module("gantry.contracts.deltas")
        pair = contract.DeltaPair(self._sources, self._step.reference)
        means = await asyncio.to_thread(self._deltas.means, self._module)
        bringing: Bringing = self._module.Bringing(
            means, pair, self._variables.request_timeout, moved
        )
        try:
            while True:
                try:
                    answer = await bringing.ask(self._patience, self._say_waiting)
                    async with turns:
                        await self._once(bringing, answer)
                    return
                except self._module.TryAgainError as error:
                    await self._wait(error)
        finally:
            await bringing.close()

    @property
    def _patience(self) -> "Patience":
        patience = importlib.import_module("gantry.supervisor.deltas.patience")
        found: Patience = patience.Patience(self._variables.wait_timeout, self._deltas.pace.rate)
        return found

    async def _once(self, bringing: "Bringing", answer: "DeltaAnswer") -> None:
        size, whole = int(answer.size or 0), int(answer.whole or 0)
        self._say_once(answer, size, whole)
        path = await bringing.download(answer)
        seconds = self._variables.apply_timeout
        try:
            async with asyncio.timeout(seconds or None):
                await bringing.pull(path)
        except TimeoutError as error:
            raise self._module.NoDeltaError(f"it was not applied within {seconds:.0f} s") from error
        figures = self._deltas.figures
        figures.images += 1
        figures.downloaded += size
        figures.saved += max(0, whole - size)

    def _say_waiting(self, answer: "DeltaAnswer") -> None:
        about = f", for about {answer.seconds} s" if answer.seconds is not None else ""
        text = f"Waiting for the delta for image '{self._step.reference}'"
        self._deltas.say(f"{text}: it is being made{about}", self._step)

    def _say_once(self, answer: "DeltaAnswer", size: int, whole: int) -> None:
        if self._told != answer.digest:
            self._told = str(answer.digest)
            instead = f" instead of {_megabytes(whole)}" if whole else ""
            text = f"Downloading delta for image '{self._step.reference}'"
            self._deltas.say(f"{text} ({_megabytes(size)}{instead})", self._step)

    async def _wait(self, error: Any) -> None:
        """Wait for the next try, where there is one."""
        self._failed += bool(error.counts)
        if self._failed >= max(1, self._variables.retry_count):
            tries = f"{self._failed} failed tries, the last one: " if self._failed > 1 else ""
            raise self._module.NoDeltaError(f"{tries}{error}", is_lasting=False) from error
        interval = self._variables.retry_interval
        if not error.counts:
            interval = min(interval, _GO_ON)
        wait = max(interval, error.wait or 0.0)
        # What the server asks for beyond that is patience too.
        self._waited += wait - interval
        if self._waited > self._patience.limit(None):
            limit = f"it is waited for {self._patience.limit(None):.0f} s at most"
            raise self._module.NoDeltaError(f"{error}; {limit}", is_lasting=False) from error
        self._deltas.say(
            f"Failed to download delta for image '{self._step.reference}': {error}; "
            f"next try in {wait:.0f} s",
            self._step,
            is_error=True,
        )
        await asyncio.sleep(wait)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 100_000 else f"{size / 1000:.1f} kB"
