"""An image by delta: asked for, downloaded, and pulled by the engine from what it makes."""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gantry.contracts.bundle import local_tag
from gantry.contracts.deltas import DeltaAnswer, DeltaPair, DeltaState
from gantry.deltas.reader import Delta, DeltaError
from gantry.supervisor import loopback, room
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.deltas import door, manifest
from gantry.supervisor.deltas.folder import DamagedError, DeltaFile, key
from gantry.supervisor.deltas.manifest import MissingLayerError, PlannedLayer, Way
from gantry.supervisor.deltas.rebuilding import Rebuilder, RebuildError
from gantry.supervisor.deltas.server import DeltaServer, DeltaServerError
from gantry.supervisor.engine import Credentials, Engine, EngineError
from gantry.supervisor.loopback import Served
from gantry.supervisor.pieces import threaded
from gantry.supervisor.progress import PullProgress
from gantry.supervisor.registry import ImageDocuments, RegistryError, image_documents
from gantry.supervisor.room import NoRoomError
from gantry.supervisor.storage import Storage, layer_folders

_LOG = logging.getLogger(__name__)
# Pieces of the download are gathered to this, in bytes, before they are written.
_GATHER = 64 * 1024
# The download's share of the percentage.
_DOWNLOADED = 60
# A cut download that has brought so much is no failed try, in bytes.
_WORTH = 64 * 1024


class NoDeltaError(Exception):
    """This image comes otherwise; the message says why. `is_lasting`: the same pair would fail
    again."""

    def __init__(self, message: str, is_lasting: bool = True) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class TryAgainError(Exception):
    """It failed, and may do better; the message says why. `wait`: what the server asked for, in
    seconds. `counts`: whether it is one of the tries that there are."""

    def __init__(self, message: str, wait: float | None = None, counts: bool = True) -> None:
        super().__init__(message)
        self.wait = wait
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Means:
    """What bringing needs of the device. `folder` is where deltas are kept, `turn` whose it is to
    rebuild."""

    engine: Engine
    config: DeviceConfig
    context: ssl.SSLContext
    credentials: Callable[[str], Credentials | None]
    storage: Storage
    folder: Path
    instance: str
    machine: str
    turn: asyncio.Semaphore


class Bringing:
    """One image on its way. `moved` hears its percentage."""

    def __init__(
        self, means: Means, pair: DeltaPair, seconds: float, moved: Callable[[int], None]
    ) -> None:
        self._means = means
        self._pair = pair
        self._moved = moved
        self._server = DeltaServer(means.config, means.context, pair, seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def ask(self) -> DeltaAnswer:
        """The delta that there is.

        Raises:
            NoDeltaError, TryAgainError: there is none.
        """
        try:
            answer = await self._server.ask()
        except DeltaServerError as error:
            raise _of_server(error) from error
        if answer.state is DeltaState.WHOLE:
            raise NoDeltaError(answer.reason or "the delta server says so")
        if answer.whole is not None and int(answer.size or 0) > answer.whole:
            raise NoDeltaError(f"a delta of {answer.size} bytes instead of {answer.whole} is none")
        return answer

    async def download(self, answer: DeltaAnswer) -> Path:
        """Have the file, verified; what is there of it is not fetched again.

        Raises:
            NoDeltaError, TryAgainError: it cannot be had.
        """
        size = int(answer.size or 0)
        file = DeltaFile(self._means.folder, key(self._pair.dest), str(answer.digest), size)
        try:
            had = await asyncio.to_thread(file.open)
            await self._check_room(size - had + int(answer.whole or 0))
            if had < size:
                await self._receive(file, answer, size)
            await asyncio.to_thread(file.finish)
        except DeltaServerError as error:
            raise _of_server(error, counts=file.length - had < _WORTH) from error
        except DamagedError as error:
            raise TryAgainError(str(error)) from error
        except OSError as error:
            raise NoDeltaError(f"{file.path}: {error.strerror}", is_lasting=False) from error
        finally:
            file.close()
        return file.path

    async def _check_room(self, needed: int) -> None:
        self._means.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            await room.check(self._means.folder, needed)
        except NoRoomError as error:
            raise NoDeltaError(str(error), is_lasting=False) from error

    async def _receive(self, file: DeltaFile, answer: DeltaAnswer, size: int) -> None:
        gathered = bytearray()
        failure: OSError | None = None
        async with self._server.body(str(answer.url), file.length, size) as (begin, pieces):
            try:
                if begin != file.length:
                    await asyncio.to_thread(file.begin_anew)
                async with aclosing(pieces):
                    async for piece in pieces:
                        gathered += piece
                        if len(gathered) >= _GATHER:
                            some = bytes(gathered)
                            gathered.clear()
                            await asyncio.to_thread(file.add, some)
                            self._moved(_DOWNLOADED * file.length // size)
            except OSError as error:
                # The disk's: the network's are another kind already.
                failure = error
            finally:
                # What has come is kept, however this ends.
                if gathered and failure is None:
                    file.add(bytes(gathered))
        if failure is not None:
            raise failure

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
            delta = await asyncio.to_thread(Delta.open, path)
            here = await self._layers_here()
            folders = await asyncio.to_thread(layer_folders, means.storage, here)
            planned = await asyncio.to_thread(self._plan, documents, delta)
        except (DeltaError, MissingLayerError) as error:
            raise NoDeltaError(str(error)) from error
        except EngineError as error:
            raise TryAgainError(str(error)) from error
        except OSError as error:
            raise NoDeltaError(str(error), is_lasting=False) from error
        if delta.config != documents.config.digest:
            raise NoDeltaError("the delta is for another image")
        sizes = [each.descriptor.size for each in planned if each.way is not Way.KEPT]
        await self._check_room(sum(sizes) + max(sizes, default=0))
        missing = [each for each in delta.sources if each not in folders]
        if missing:
            raise NoDeltaError(f"its source layer {missing[0]} is not here")
        needed = {name: folders[name] for name in delta.sources}
        await self._serve(documents, planned, Rebuilder(path, needed, means.turn))

    def _plan(self, documents: ImageDocuments, delta: Delta) -> tuple[PlannedLayer, ...]:
        storage = self._means.storage

        def stored_size(chain: str) -> int | None:
            tar = storage.tar(chain)
            return tar.size() if tar is not None else None

        rebuilt = {each.diff_id: each.size for each in delta.layers}
        return manifest.plan_layers(documents, storage, rebuilt, stored_size)

    async def _layers_here(self) -> list[Sequence[str]]:
        """The layers of the source images."""
        found: list[Sequence[str]] = []
        for reference in self._pair.src:
            for name in (reference, local_tag(reference)):
                try:
                    found.append(await self._means.engine.layers(str(name)))
                    break
                except EngineError as error:
                    if error.status != 404:
                        raise
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
                raise NoDeltaError(str(error), is_lasting=False) from error
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
                raise NoDeltaError(f"it cannot be applied: {failing.result()}")
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
                    self._moved(_DOWNLOADED + (99 - _DOWNLOADED) * progress.percent // 99)

    async def _name(self, source: str, documents: ImageDocuments) -> None:
        """Give the image its name, if it is the one."""
        engine, tag = self._means.engine, local_tag(self._pair.dest)
        found = await engine.layers(source)
        if found != documents.diff_ids or tag is None:
            await engine.remove_image(source)
            raise NoDeltaError("the engine has another image than the target's")
        await engine.tag_image(source, tag)
        await engine.remove_image(source)

    async def _drop(self, source: str) -> None:
        """Given up just as the engine had it: under this name nothing stays."""
        try:
            await self._means.engine.remove_image(source)
        except EngineError as error:
            _LOG.warning("%s stays until the supervisor's next start: %s", source, error)


def _of_server(error: DeltaServerError, counts: bool = True) -> Exception:
    if error.is_final:
        return NoDeltaError(str(error))
    return TryAgainError(str(error), error.wait, counts)


async def _whole(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
