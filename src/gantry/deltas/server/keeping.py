"""What is kept, and for how long. One at a time changes storage and index together."""

import asyncio
import time
from collections.abc import Callable, Collection

from gantry.contracts.delta_space import DeltaSpace
from gantry.contracts.deltas import DeltaState
from gantry.deltas.server import leaving
from gantry.deltas.server.errors import RequestError, TemporaryError
from gantry.deltas.server.leaving import Place
from gantry.deltas.server.making import Made
from gantry.deltas.server.pairs import Pair, Pairs, Record
from gantry.deltas.server.registry import Registry
from gantry.deltas.server.storage import Storage

DAY_SECONDS = 86_400.0
ROUND_SECONDS = 3600.0
RETRY_SECONDS = 60.0
# Questions to the registry at once.
QUESTIONS = 8
# All but those that are being made.
SETTLED = (DeltaState.READY, DeltaState.WHOLE, DeltaState.FAILED)


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

    async def look(self, going: Collection[Place] = ()) -> DeltaSpace:
        """What is kept, and what would go in a round if the images `going` had gone.

        Raises:
            TemporaryError: the storage or the registry cannot be asked.
        """
        gone = await self._gone(going)
        async with self._lock:
            planned = await self._plan(gone)
        return planned.told(is_done=False)

    async def round(self) -> DeltaSpace:
        """Remove what is old, what nobody can want any more, and what the index does not know;
        what that freed. Without the registry the images count as being there, and that is told
        when all else is done.

        Raises:
            TemporaryError: the storage or the registry cannot be asked.
        """
        gone: Collection[Place] = ()
        problem = None
        try:
            gone = await self._gone()
        except TemporaryError as error:
            problem = error
        async with self._lock:
            planned = await self._plan(gone)
            await asyncio.to_thread(self._pairs.forget, planned.pairs)
            for digest in planned.files:
                await self._storage.remove(digest)
        done = planned.told(is_done=True)
        if done.removed:
            print(f"{done.removed} deltas removed, {done.freed} bytes freed", flush=True)
        if problem:
            raise problem
        return done

    async def _plan(self, gone: Collection[Place]) -> leaving.Plan:
        stored = await self._storage.sizes()
        oldest = self._clock() - self._seconds
        return leaving.plan(await self._settled(), stored, gone, oldest=oldest, limit=self._limit)

    async def _settled(self) -> list[Record]:
        return [
            each for state in SETTLED for each in await asyncio.to_thread(self._pairs.all, state)
        ]

    async def _gone(self, known: Collection[Place] = ()) -> set[Place]:
        """The images of pairs that the registry does not have any more, and the `known` ones."""
        places = {
            leaving.place(image) for each in await self._settled() for image in each.pair.images
        }
        gone = set(known)
        asked = sorted(places - gone)
        for first in range(0, len(asked), QUESTIONS):
            some = asked[first : first + QUESTIONS]
            has = await asyncio.gather(*(self._registry.has(*each) for each in some))
            gone.update(each for each, is_there in zip(some, has, strict=True) if not is_there)
        return gone

    async def _make_room(self, but: str) -> None:
        ready = await asyncio.to_thread(self._pairs.all, DeltaState.READY)
        for each in leaving.over(ready, self._limit, but):
            await self._remove(each)

    async def _remove(self, record: Record) -> None:
        await asyncio.to_thread(self._pairs.remove, record.pair.name)
        digest = record.digest
        if digest and not await asyncio.to_thread(self._pairs.needs, digest):
            await self._storage.remove(digest)
