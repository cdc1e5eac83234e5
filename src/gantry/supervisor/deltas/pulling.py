"""From a delta that is here to the image: the engine pulls it from what is made of it."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from gantry.contracts.bundle import local_tag
from gantry.contracts.deltas import DeltaPair
from gantry.deltas.names import names_of_pair
from gantry.deltas.reader import Delta, DeltaError
from gantry.supervisor import loopback, room
from gantry.supervisor.deltas import door, manifest
from gantry.supervisor.deltas.manifest import MissingLayerError, PlannedLayer, Way
from gantry.supervisor.deltas.means import (
    FullError,
    Means,
    NoDeltaError,
    NotApplicableError,
    TryAgainError,
)
from gantry.supervisor.deltas.rebuilding import Rebuilder, RebuildError
from gantry.supervisor.engine import EngineError
from gantry.supervisor.loopback import Served
from gantry.supervisor.pieces import threaded
from gantry.supervisor.progress import PullProgress
from gantry.supervisor.registry import ImageDocuments, RegistryError, image_documents
from gantry.supervisor.storage import layer_folders
from gantry.supervisor.tarsplit import TarSplitError

_LOG = logging.getLogger(__name__)


class Pulling:
    """One image, by a delta that is here. `moved` hears the engine's percentage."""

    def __init__(self, means: Means, pair: DeltaPair, moved: Callable[[int], None]) -> None:
        self._means = means
        self._pair = pair
        self._moved = moved

    async def pull(self, path: Path) -> None:
        """Have the engine pull the image, and see that it is the one.

        Raises:
            NoDeltaError, TryAgainError: it could not.
        """
        means, dest = self._means, self._pair.dest
        try:
            documents = await image_documents(
                dest, means.credentials(dest), means.context, means.machine
            )
        except RegistryError as error:
            raise TryAgainError(str(error)) from error
        try:
            here = await self._layers_here()
            names = names_of_pair(here, documents.config.digest, documents.diff_ids)
            delta = await asyncio.to_thread(Delta.open, path, names)
            folders = await asyncio.to_thread(layer_folders, means.storage, here)
            planned = await asyncio.to_thread(self._plan, documents, delta)
        except (DeltaError, MissingLayerError) as error:
            raise NotApplicableError(str(error)) from error
        except EngineError as error:
            raise TryAgainError(str(error)) from error
        except OSError as error:
            raise NoDeltaError(str(error), is_lasting=False) from error
        sizes = [each.descriptor.size for each in planned if each.way is not Way.KEPT]
        await means.check_room(sum(sizes) + max(sizes, default=0))
        missing = [each for each in delta.sources if each not in folders]
        if missing:
            raise NotApplicableError(f"its source layer {missing[0]} is not here")
        needed = {name: folders[name] for name in delta.sources}
        await self._serve(documents, planned, Rebuilder(delta, needed, means.turn))

    def _plan(self, documents: ImageDocuments, delta: Delta) -> tuple[PlannedLayer, ...]:
        storage = self._means.storage

        def stored_size(chain: str) -> int | None:
            tar = storage.tar(chain)
            return tar.size() if tar is not None else None

        rebuilt = {each.diff_id: each.size for each in delta.layers}
        return manifest.plan_layers(documents, storage, rebuilt, stored_size)

    async def _layers_here(self) -> list[Sequence[str]]:
        """The layers of the source images. Raises NoDeltaError where one has gone."""
        found: list[Sequence[str]] = []
        for reference in self._pair.src:
            for name in (reference, local_tag(reference)):
                try:
                    found.append(await self._means.engine.layers(str(name)))
                    break
                except EngineError as error:
                    if error.status != 404:
                        raise
            else:
                raise NoDeltaError(f"its source image {reference} is not here any more")
        return found

    async def _serve(
        self, documents: ImageDocuments, planned: tuple[PlannedLayer, ...], rebuilder: Rebuilder
    ) -> None:
        failures: asyncio.Queue[OSError] = asyncio.Queue()
        found = self._served(documents, planned, rebuilder, failures)
        top = next(each.digest for each in found.values() if each.is_manifest)
        try:
            async with loopback.registry(found.get, door.KIND, self._means.instance) as name:
                source = f"{name}@{top}"
                try:
                    await self._pull(source, failures)
                    await self._name(source, documents)
                except asyncio.CancelledError:
                    await self._drop(source)
                    raise
        except EngineError as error:
            if room.is_full(str(error)):
                raise FullError(str(error)) from error
            raise TryAgainError(str(error)) from error
        finally:
            rebuilder.close()

    def _served(
        self,
        documents: ImageDocuments,
        planned: tuple[PlannedLayer, ...],
        rebuilder: Rebuilder,
        failures: asyncio.Queue[OSError],
    ) -> dict[str, Served]:
        content = manifest.encode(documents, planned)
        top = f"sha256:{hashlib.sha256(content).hexdigest()}"
        config = documents.config
        served = {
            top: Served(top, len(content), documents.media_type, partial(_whole, content), True),
            config.digest: Served(
                config.digest,
                len(documents.configuration),
                config.media_type,
                partial(_whole, documents.configuration),
            ),
        }
        for each in planned:
            told = each.descriptor
            read = partial(self._tar, each, rebuilder, failures)
            if each.way is not Way.KEPT:
                served[told.digest] = Served(told.digest, told.size, told.media_type, read)
        return served

    async def _tar(
        self, layer: PlannedLayer, rebuilder: Rebuilder, failures: asyncio.Queue[OSError]
    ) -> AsyncGenerator[bytes, None]:
        """A layer's tar. That it fails is told at once: the engine would ask again and again."""
        try:
            if layer.way is Way.REBUILT:
                pieces = rebuilder.tar(layer.diff_id)
            else:
                tar = await asyncio.to_thread(self._means.storage.tar, layer.chain)
                if tar is None:
                    raise RebuildError(f"layer {layer.diff_id} is no longer here")
                pieces = threaded(tar.pieces())
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except OSError as error:
            failures.put_nowait(error)
            raise

    async def _pull(self, source: str, failures: asyncio.Queue[OSError]) -> None:
        """Pull, or end at the first failure of what is pulled from."""
        pulling = asyncio.create_task(self._messages(source))
        failing = asyncio.create_task(failures.get())
        try:
            await asyncio.wait({pulling, failing}, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                raise _of_failure(failing.result())
            await pulling
        finally:
            for task in (pulling, failing):
                task.cancel()
            await asyncio.gather(pulling, failing, return_exceptions=True)

    async def _messages(self, source: str) -> None:
        progress = PullProgress()
        async with aclosing(self._means.engine.pull(source, None)) as messages:
            async for message in messages:
                before = progress.percent
                if progress.add(message) != before:
                    self._moved(progress.percent)

    async def _name(self, source: str, documents: ImageDocuments) -> None:
        """Give the image its name, if it is the one."""
        engine, tag = self._means.engine, local_tag(self._pair.dest)
        found = await engine.layers(source)
        if found != documents.diff_ids or tag is None:
            await engine.remove_image(source)
            raise NotApplicableError("the engine has another image than the target's")
        await engine.tag_image(source, tag)
        await engine.remove_image(source)

    async def _drop(self, source: str) -> None:
        """Given up just as the engine had it: under this name nothing stays."""
        try:
            await self._means.engine.remove_image(source)
        except EngineError as error:
            _LOG.warning("%s stays until the supervisor's next start: %s", source, error)


def _of_failure(error: OSError) -> Exception:
    if isinstance(error, RebuildError | TarSplitError):
        return NotApplicableError(f"it cannot be applied: {error}")
    return TryAgainError(f"it was not applied: {error}")


async def _whole(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
