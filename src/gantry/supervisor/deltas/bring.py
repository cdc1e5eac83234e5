"""An image by delta: asked for, downloaded, and pulled by the engine from what it makes."""

import asyncio
import errno
import math
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

from gantry.contracts.deltas import DeltaAnswer, DeltaPair, DeltaState
from gantry.deltas.threads import to_the_end
from gantry.supervisor.deltas.folder import DamagedError, DeltaFile, is_sound, key
from gantry.supervisor.deltas.means import (
    FullError,
    Means,
    NoDeltaError,
    NotApplicableError,
    TryAgainError,
)
from gantry.supervisor.deltas.patience import Patience
from gantry.supervisor.deltas.pulling import Pulling
from gantry.supervisor.deltas.server import DeltaServer, DeltaServerError
from gantry.supervisor.progress import DownloadWay, Moved, Received

# Pieces of the download are gathered to this, in bytes, before they are written.
_GATHER = 64 * 1024
# The download's share of the percentage.
_DOWNLOADED = 60
# Between two questions, in seconds.
_LEAST_WAIT = 1.0
# A cut download that has brought so much is no failed try, in bytes.
_WORTH = 64 * 1024


class Bringing:
    """One image on its way. `moved` hears how far it is."""

    def __init__(self, means: Means, pair: DeltaPair, seconds: float, moved: Moved) -> None:
        self._means = means
        self._pair = pair
        self._moved = moved
        # The delta's, in bytes.
        self._size = 0
        # Seconds, in all tries.
        self._waited = 0.0
        # Bytes of deltas, in all tries.
        self._received = 0
        self._was_damaged = False
        self._server = DeltaServer(means.config, means.context, pair, seconds)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def ask(self, patience: Patience, waits: Callable[[DeltaAnswer], None]) -> DeltaAnswer:
        """The delta that there is. One that is being made is waited for, which `waits` hears; what
        was waited in earlier tries counts.

        Raises:
            NoDeltaError, TryAgainError: there is none.
        """
        begun = time.monotonic() - self._waited
        try:
            answer = await self._ask(patience, waits, begun)
        except DeltaServerError as error:
            raise _of_server(error) from error
        finally:
            self._waited = time.monotonic() - begun
        if answer.state is DeltaState.WHOLE:
            raise NoDeltaError(answer.reason or "the delta server says so")
        if answer.whole is not None and int(answer.size or 0) > answer.whole:
            raise NoDeltaError(f"a delta of {answer.size} bytes instead of {answer.whole} is none")
        return answer

    async def _ask(
        self, patience: Patience, waits: Callable[[DeltaAnswer], None], begun: float
    ) -> DeltaAnswer:
        """`ready` or `whole`. It is asked without a wait first: where waiting is worse than
        pulling, that should be known soon."""
        answer = await self._server.ask(0.0)
        is_told = False
        while answer.state is DeltaState.WORKING:
            asked = time.monotonic()
            if reason := patience.verdict(answer, asked - begun):
                raise NoDeltaError(reason, is_lasting=False)
            if not is_told:
                waits(answer)
                is_told = True
            left = patience.limit(answer.whole) - (asked - begun)
            answer = await self._server.ask(math.ceil(left))
            if answer.state is DeltaState.WORKING:
                # What was waited for on the server's side counts.
                pause = float(answer.retry_after or 0) - (time.monotonic() - asked)
                await asyncio.sleep(min(max(pause, _LEAST_WAIT), max(left, _LEAST_WAIT)))
        return answer

    async def download(self, answer: DeltaAnswer) -> Path:
        """Have the file, verified; what is there of it is not fetched again.

        Raises:
            NoDeltaError, TryAgainError: it cannot be had.
        """
        self._size = size = int(answer.size or 0)
        file = DeltaFile(self._means.folder, key(self._pair.dest), str(answer.digest), size)
        try:
            had = await asyncio.to_thread(file.open)
            await self._means.check_room(size - had + int(answer.whole or 0))
            self._tell(had)
            if had < size:
                self._check_worth(answer.whole or 2 * size)
                begun = time.monotonic()
                await self._receive(file, answer, size)
                await self._means.pace.add(size - had, time.monotonic() - begun)
            await asyncio.to_thread(file.finish)
            self._tell(size)
        except DeltaServerError as error:
            raise _of_server(error, counts=file.length - had < _WORTH) from error
        except DamagedError as error:
            raise TryAgainError(str(error)) from error
        except (DiskError, OSError) as error:
            raise _of_disk(file.path, error) from error
        finally:
            file.close()
        return file.path

    def _check_worth(self, most: int) -> None:
        """A server that makes another delta after each cut would have it come for ever."""
        if self._received >= most > 0:
            text = f"{self._received} bytes came for it, and at most {most} are worth their while"
            raise NoDeltaError(text, is_lasting=False)

    async def _receive(self, file: DeltaFile, answer: DeltaAnswer, size: int) -> None:
        gathered = bytearray()
        try:
            async with self._server.body(str(answer.url), file.length, size) as (begin, pieces):
                if begin != file.length:
                    await _on_disk(file.begin_anew)
                async with aclosing(pieces):
                    async for piece in pieces:
                        gathered += piece
                        self._received += len(piece)
                        if len(gathered) >= _GATHER:
                            await _keep(file, gathered)
                            self._tell(file.length)
        except BaseException:
            # What has come is kept, however this ends; should that fail too, the first end counts.
            with suppress(DiskError):
                await _keep(file, gathered)
            raise
        await _keep(file, gathered)

    def _tell(self, done: int) -> None:
        """So many bytes of the delta are here."""
        percent = _DOWNLOADED * done // max(self._size, 1)
        self._moved(percent, Received(DownloadWay.DELTA, done, self._size))

    async def pull(self, path: Path) -> None:
        """Have the engine pull the image, and see that it is the one.

        Raises:
            NoDeltaError, TryAgainError: it could not.
        """

        def moved(percent: int) -> None:
            told = _DOWNLOADED + (99 - _DOWNLOADED) * percent // 99
            self._moved(told, Received(DownloadWay.DELTA, self._size, self._size))

        try:
            await Pulling(self._means, self._pair, moved).pull(path)
        except NotApplicableError as error:
            if await asyncio.to_thread(is_sound, path):
                raise
            with suppress(OSError):
                await asyncio.to_thread(path.unlink, missing_ok=True)
            said = f"the delta was damaged on the disk here ({error})"
            if self._was_damaged:
                raise NoDeltaError(f"{said}, twice", is_lasting=False) from error
            self._was_damaged = True
            raise TryAgainError(said) from error


class DiskError(Exception):
    """The disk failed. No OSError: amid an answer, that is the network's."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _on_disk(work: Callable[..., None], *what: bytes) -> None:
    """Something done to a file, which is closed only when that has ended."""
    try:
        await to_the_end(work, *what)
    except OSError as error:
        raise DiskError(error) from error


async def _keep(file: DeltaFile, gathered: bytearray) -> None:
    if gathered:
        some = bytes(gathered)
        gathered.clear()
        await _on_disk(file.add, some)


def _of_disk(path: Path, error: DiskError | OSError) -> NoDeltaError:
    cause = error.cause if isinstance(error, DiskError) else error
    text = f"{path}: {cause.strerror}"
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return FullError(text)
    return NoDeltaError(text, is_lasting=False)


def _of_server(error: DeltaServerError, counts: bool = True) -> Exception:
    if error.is_final:
        return NoDeltaError(str(error))
    return TryAgainError(str(error), error.wait, counts)
