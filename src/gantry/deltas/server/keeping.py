"""What is kept, and for how long. One at a time changes storage and index together."""

import asyncio
import time
from collections.abc import Callable

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.errors import RequestError, TemporaryError
from gantry.deltas.server.making import Made
from gantry.deltas.server.pairs import Pair, Pairs, Record
from gantry.deltas.server.registry import Registry
from gantry.deltas.server.storage import Storage

DAY_SECONDS = 86_400.0
ROUND_SECONDS = 3600.0
RETRY_SECONDS = 60.0


class Keeper:
    """A delta is in the index only while it is in the storage: stored first, removed last."""

    def __init__(
        self,
        pairs: Pairs,
        storage: Storage,
        registry: Registry,
        *,
        limit: int,
        days: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pairs = pairs
        self._storage = storage
        self._registry = registry
        self._limit = limit
        self._seconds = days * DAY_SECONDS
        self._clock = clock
        self._lock = asyncio.Lock()

    async def keep(self, pair: Pair, made: Made) -> None:
        """Put a delta into the storage, then into the index; make room for it.

        Raises:
            TemporaryError: the storage does not take it.
        """
        async with self._lock:
            await self._storage.put(made.path, made.digest)
            await asyncio.to_thread(
                self._pairs.ready, pair.name, made.digest, made.size, made.whole, made.seconds
            )
            await self._make_room(but=pair.name)

    async def remove(self, record: Record) -> None:
        """Forget a pair, and remove its delta if no other has it. Raises TemporaryError."""
        async with self._lock:
            await self._remove(record)

    async def run(self) -> None:
        """Rounds, until cancelled. What cannot be asked now is asked in the next one."""
        while True:
            try:
                await self.round()
                pause = ROUND_SECONDS
            except (TemporaryError, RequestError, OSError) as error:
                print(f"old deltas are not removed for now: {error}", flush=True)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def round(self) -> None:
        """Remove what is old, what nobody can want any more, and what the index does not know.

        Raises:
            TemporaryError: the storage or the registry cannot be asked.
        """
        await self._match()
        await self._expire()
        async with self._lock:
            await self._make_room()
        await self._forget_gone()

    async def _match(self) -> None:
        """Index and storage know the same deltas."""
        async with self._lock:
            stored = await self._storage.sizes()
            ready = await asyncio.to_thread(self._pairs.all, DeltaState.READY)
            for each in ready:
                if stored.get(each.digest or "") != each.size:
                    await asyncio.to_thread(self._pairs.remove, each.pair.name)
            known = {each.digest for each in ready}
            for digest in stored.keys() - known:
                await self._storage.remove(digest)

    async def _expire(self) -> None:
        oldest = self._clock() - self._seconds
        for state in (DeltaState.READY, DeltaState.WHOLE, DeltaState.FAILED):
            for each in await asyncio.to_thread(self._pairs.all, state):
                if each.used_at < oldest:
                    await self.remove(each)

    async def _make_room(self, but: str = "") -> None:
        _, total = await asyncio.to_thread(self._pairs.counts)
        if total <= self._limit:
            return
        for each in await asyncio.to_thread(self._pairs.all, DeltaState.READY):
            if each.pair.name != but:
                await self._remove(each)
                _, total = await asyncio.to_thread(self._pairs.counts)
            if total <= self._limit:
                return

    async def _forget_gone(self) -> None:
        """Pairs of images that the registry does not have any more."""
        has: dict[tuple[str, str], bool] = {}
        for state in (DeltaState.READY, DeltaState.WHOLE, DeltaState.FAILED):
            for each in await asyncio.to_thread(self._pairs.all, state):
                for image in each.pair.images:
                    name = (image.name, image.digest)
                    if name not in has:
                        has[name] = await self._registry.has(*name)
                if not all(has[image.name, image.digest] for image in each.pair.images):
                    await self.remove(each)

    async def _remove(self, record: Record) -> None:
        await asyncio.to_thread(self._pairs.remove, record.pair.name)
        digest = record.digest
        if digest and not await asyncio.to_thread(self._pairs.needs, digest):
            await self._storage.remove(digest)
