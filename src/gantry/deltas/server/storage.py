"""Where deltas are kept, named by their SHA-256: a folder, or a bucket (`bucket_storage`).

Either has a delta whole or not at all, whenever the power fails.
"""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from anyio.to_thread import run_sync

from gantry.contracts.deltas import SUFFIX
from gantry.deltas.server.errors import NotFoundError, TemporaryError
from gantry.deltas.threads import to_the_end

PIECE = 256 * 1024
NAME = re.compile(r"[0-9a-f]{64}" + re.escape(SUFFIX))


class Storage(Protocol):
    """All raise TemporaryError when the storage does not do its part."""

    def close(self) -> None:
        """Nothing is asked of it any more."""

    async def put(self, path: Path, digest: str) -> None:
        """Keep the file at `path`, which has this digest; the file goes."""

    def read(self, digest: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end`. Raises NotFoundError: it is not there."""

    async def remove(self, digest: str) -> None:
        """Remove it, if it is there."""

    async def sizes(self) -> dict[str, int]:
        """All that are there: bytes by digest."""


class FolderStorage:
    """Deltas as files in a folder, which is on the same file system as what is put there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self) -> None:
        """Nothing is open."""

    async def put(self, path: Path, digest: str) -> None:
        try:
            await to_the_end(self._put, path, self._path(digest))
        except OSError as error:
            raise TemporaryError(f"no delta can be kept in {self._folder}: {error}") from error

    async def read(self, digest: str, start: int, end: int) -> AsyncIterator[bytes]:
        try:
            file = await run_sync(os.open, self._path(digest), os.O_RDONLY)
        except OSError as error:
            raise NotFoundError(f"the delta {digest} is not here any more") from error
        try:
            while start < end:
                # Cancelled, it waits for the thread: the file is closed when nobody reads it.
                piece = await run_sync(os.pread, file, min(PIECE, end - start), start)
                if not piece:
                    raise TemporaryError(f"the delta {digest} ends at {start}, before {end}")
                start += len(piece)
                yield piece
        finally:
            os.close(file)

    async def remove(self, digest: str) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._path(digest).unlink)

    async def sizes(self) -> dict[str, int]:
        try:
            return await asyncio.to_thread(self._sizes)
        except OSError as error:
            raise TemporaryError(f"{self._folder} cannot be read: {error}") from error

    def _sizes(self) -> dict[str, int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, int] = {}
        for each in self._folder.iterdir():
            if NAME.fullmatch(each.name):
                found[f"sha256:{each.name.removesuffix(SUFFIX)}"] = each.stat().st_size
        return found

    @staticmethod
    def _put(path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.partition(':')[2]}{SUFFIX}"


def empty(folder: Path) -> None:
    """Make `folder` exist with nothing in it. Raises OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
