"""The work folder: unpacked layers, fetched once, shared by all pairs that need them.

They are kept, the longest unused go first, within a limit. Whoever works with a layer holds it.
"""

import asyncio
import contextlib
import errno
import os
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from gantry.deltas.server.errors import FullError, TemporaryError, WholeError
from gantry.deltas.server.images import Layer
from gantry.deltas.server.registry import Registry
from gantry.deltas.server.unpack import Unpacker
from gantry.deltas.threads import to_the_end

PART = ".part"


class Layers:
    """Layer tars in `folder`, named by their diffIDs, of at most `limit` bytes together."""

    def __init__(self, folder: Path, limit: int, registry: Registry) -> None:
        self._folder = folder
        self._limit = limit
        self._registry = registry
        # Bytes by diffID, the longest unused first.
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held: Counter[str] = Counter()
        # One of them fetches a layer; the others wait.
        self._arriving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._parts = 0

    @property
    def size(self) -> int:
        """Bytes that the folder has, also of what is arriving."""
        return sum(self._sizes.values()) + self._parts

    def open(self) -> None:
        """Take over what an earlier run left: whole layers stay, parts go.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        found: list[tuple[float, str, int]] = []
        for each in self._folder.iterdir():
            if each.suffix == ".tar":
                status = each.stat()
                diff_id = f"sha256:{each.stem}"
                found.append((status.st_mtime, diff_id, status.st_size))
            else:
                each.unlink()
        self._sizes.update((diff_id, size) for _, diff_id, size in sorted(found))
        self._make_room()

    @asynccontextmanager
    async def held(
        self, layers: Sequence[Layer], most: int, done: Callable[[int], None]
    ) -> AsyncIterator[dict[str, Path]]:
        """The tars of these layers by their diffIDs, until the context ends.

        `most` is what they may have together in bytes; `done` is told of blob bytes that are there.

        Raises:
            NoSuchImageError: the registry does not have one any more.
            WholeError: they have more than that, or one is not what its image says.
            TemporaryError: the registry does not answer, sends something else, or the disk is full.
        """
        paths: dict[str, Path] = {}
        async with AsyncExitStack() as stack:
            total = 0
            for each in layers:
                paths[each.diff_id] = self._hold(stack, each)
                lock = self._arriving.setdefault(each.diff_id, asyncio.Lock())
                async with lock:
                    if each.diff_id not in self._sizes:
                        await self._fetch(each, paths[each.diff_id], most - total)
                self._sizes.move_to_end(each.diff_id)
                total += self._sizes[each.diff_id]
                _within(total, most)
                done(each.size)
            yield paths

    def drop(self) -> None:
        """Remove all that nobody holds: the disk is full."""
        for diff_id in [each for each in self._sizes if not self._held[each]]:
            self._remove(diff_id)

    def _hold(self, stack: AsyncExitStack, layer: Layer) -> Path:
        self._held[layer.diff_id] += 1

        def release() -> None:
            self._held[layer.diff_id] -= 1
            if not self._held[layer.diff_id]:
                del self._held[layer.diff_id]

        stack.callback(release)
        return self._folder / f"{layer.diff_id.partition(':')[2]}.tar"

    async def _fetch(self, layer: Layer, path: Path, most: int) -> None:
        part, unpacker, counted = path.with_suffix(PART), Unpacker(layer), 0
        try:
            with part.open("wb") as file:
                async with self._registry.blob(layer.repository, layer.digest) as pieces:
                    async for piece in pieces:
                        await to_the_end(_write, unpacker, piece, file.fileno(), most)
                        self._parts += unpacker.size - counted
                        counted = unpacker.size
                        self._make_room()
                unpacker.finish()
                await to_the_end(os.fsync, file.fileno())
            part.rename(path)
            self._sizes[layer.diff_id] = unpacker.size
        except OSError as error:
            kind = FullError if error.errno == errno.ENOSPC else TemporaryError
            raise kind(f"no layer can be kept in {self._folder}: {error}") from error
        finally:
            self._parts -= counted
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove what nobody holds, until the limit is kept.

        Raises:
            TemporaryError: all that is left is held.
        """
        excess = self.size - self._limit
        if excess <= 0:
            return
        for diff_id in [each for each in self._sizes if not self._held[each]]:
            excess -= self._sizes[diff_id]
            self._remove(diff_id)
            if excess <= 0:
                return
        raise TemporaryError(
            f"layers that are being worked with fill the limit of {self._limit} bytes"
        )

    def _remove(self, diff_id: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / f"{diff_id.partition(':')[2]}.tar").unlink(missing_ok=True)
        self._sizes.pop(diff_id, None)


def _write(unpacker: Unpacker, piece: bytes, file: int, most: int) -> None:
    for each in unpacker.feed(piece):
        _within(unpacker.size, most)
        view = memoryview(each)
        while view:
            view = view[os.write(file, view) :]


def _within(size: int, most: int) -> None:
    if size > most:
        raise WholeError("the images are too large, unpacked, for a delta to be made here")
