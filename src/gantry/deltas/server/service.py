"""The whole service: its parts, made once from the configuration, and what they answer."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx2

from gantry.contracts.deltas import (
    FILES_PATH,
    DeltaAnswer,
    DeltaPair,
    DeltaState,
    Figures,
    PairFigures,
)
from gantry.deltas.server.ahead import Ahead, Api
from gantry.deltas.server.config import Config
from gantry.deltas.server.errors import (
    BusyError,
    NoSuchImageError,
    NotFoundError,
    TemporaryError,
)
from gantry.deltas.server.jobs import Job, Jobs
from gantry.deltas.server.keeping import Keeper
from gantry.deltas.server.layers import Layers
from gantry.deltas.server.making import Maker
from gantry.deltas.server.metrics import Metrics
from gantry.deltas.server.pairs import Pair, Pairs, Record
from gantry.deltas.server.registry import TIMEOUT, Registry
from gantry.deltas.server.storage import FolderStorage, Storage, empty
from gantry.deltas.server.tokens import Tokens

RETRY_SECONDS = 5
AWAY_SECONDS = 15


class Service:
    """Every part, and who knows whom. Raises OSError: the data folder cannot be used."""

    def __init__(self, config: Config, client: httpx2.AsyncClient) -> None:
        limits = config.limits
        self.config = config
        self.metrics = Metrics()
        self.tokens = Tokens(
            config.token_certificate_pem,
            issuer=config.issuer,
            service=config.service,
            realm=config.realm,
        )
        work = config.data / "work"
        empty(work)
        self.pairs = Pairs(config.data / "pairs.sqlite")
        self.registry = Registry(client, config)
        self.layers = Layers(config.data / "layers", limits.cache_bytes, self.registry)
        self.layers.open()
        self.storage = _storage(config)
        self.keeper = Keeper(
            self.pairs, self.storage, self.registry, limit=limits.storage_bytes, days=limits.days
        )
        maker = Maker(self.registry, self.layers, work, limits)
        self.jobs = Jobs(
            self.pairs,
            maker,
            self.keeper,
            self.metrics,
            limits=limits,
            retry_seconds=config.retry_seconds,
        )
        self.ahead = Ahead(
            Api(client, config), self.jobs, self.pairs, self.metrics, seconds=config.ahead_seconds
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._counting: set[asyncio.Task[None]] = set()

    @property
    def is_healthy(self) -> bool:
        """Whether all that is to go on does."""
        return bool(self._tasks) and not any(each.done() for each in self._tasks)

    async def start(self) -> None:
        """Go on where an earlier run was ended, and begin to work."""
        if count := await self.jobs.resume():
            print(f"{count} deltas that were being made are made now", flush=True)
        for name, run in (
            ("workers", self.jobs.run),
            ("expiry", self.keeper.run),
            ("ahead of time", self.ahead.run),
        ):
            self._tasks.append(asyncio.create_task(run(), name=name))

    async def stop(self) -> None:
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, *self._counting, return_exceptions=True)
        self.storage.close()
        self.pairs.close()

    async def ask(self, pair: Pair, wait: float) -> DeltaAnswer:
        """Where a pair stands, after at most `wait` seconds of waiting for it.

        Raises:
            NotFoundError: the registry does not have one of the images.
            BusyError: too many wait, or it could not be made just now.
        """
        try:
            found = await self.jobs.ask(pair)
        except NoSuchImageError as error:
            raise NotFoundError(str(error)) from error
        except TemporaryError as error:
            raise BusyError(str(error), retry_after=AWAY_SECONDS) from error
        if isinstance(found, Job):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(found.done.wait(), wait)
            if not found.done.is_set():
                return self._working(found)
            record = await self.find(pair)
        else:
            record = found
        return await self._answer(pair, record)

    def _working(self, job: Job) -> DeltaAnswer:
        seconds, size = self.jobs.expected(job)
        return DeltaAnswer(
            DeltaState.WORKING,
            size=size,
            whole=job.whole,
            percent=job.percent,
            retry_after=RETRY_SECONDS,
            seconds=None if seconds is None else math.ceil(seconds),
        )

    async def find(self, pair: Pair) -> Record | None:
        """What the index says of it."""
        return await asyncio.to_thread(self.pairs.find, pair.name)

    async def ready(self, pair: Pair, digest: str) -> Record:
        """The pair's record, where this very delta can be fetched.

        Raises:
            NotFoundError: it cannot.
        """
        record = await self.find(pair)
        if record is None or record.state is not DeltaState.READY or record.digest != digest:
            raise NotFoundError(f"there is no delta {digest[:80]} of this pair: ask for it first")
        return record

    async def lost(self, record: Record) -> None:
        """The storage does not have a delta that the index has: it is made again when asked for."""
        print(f"the delta {record.digest} is lost: its pair is forgotten", flush=True)
        await self.keeper.remove(record)

    def downloaded(self, record: Record) -> None:
        """The last byte was handed to a connection. One that breaks off near the end, and goes on
        in another, counts twice."""
        self.metrics.downloaded(record.size or 0, record.whole or 0)
        counting = asyncio.create_task(self._count(record))
        self._counting.add(counting)
        counting.add_done_callback(self._counting.discard)

    async def _count(self, record: Record) -> None:
        try:
            await asyncio.to_thread(self.pairs.downloaded, record.pair.name)
        except TemporaryError as error:
            print(f"a download of {record.digest} is not counted: {error}", flush=True)

    async def figures(self, asked: Sequence[tuple[DeltaPair, Pair]]) -> Figures:
        """Of each pair, as asked for and in that order."""
        return Figures(tuple([_figures(told, pair, await self.find(pair)) for told, pair in asked]))

    async def measure(self) -> bytes:
        """All metrics as they are now."""
        states, stored = await asyncio.to_thread(self.pairs.counts)
        self.metrics.count(states, stored)
        self.metrics.waiting.set(self.jobs.waiting)
        self.metrics.working.set(self.jobs.busy)
        self.metrics.cached.set(self.layers.size)
        return self.metrics.text()

    async def _answer(self, pair: Pair, record: Record | None) -> DeltaAnswer:
        if record is None:
            raise NotFoundError("one of the images is not in the registry any more")
        await self._use(pair)
        match record.state:
            case DeltaState.READY:
                url = f"{FILES_PATH}/{record.digest}?{_told(pair).query()}"
                return DeltaAnswer(
                    DeltaState.READY, record.digest, record.size, record.whole, url=url
                )
            case DeltaState.WHOLE:
                return DeltaAnswer(DeltaState.WHOLE, whole=record.whole, reason=record.reason)
        later = max(1, round(record.retry_at - time.time()))
        raise BusyError(record.reason or "the delta could not be made", retry_after=later)

    async def _use(self, pair: Pair) -> None:
        try:
            await asyncio.to_thread(self.pairs.use, [pair.name], time.time())
        except TemporaryError as error:
            # On a full disk, say: what is there is handed out all the same.
            print(f"that a delta is used is not noted: {error}", flush=True)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Service]:
    """A service that works, until the context ends. Raises OSError."""
    limits = httpx2.Limits(max_connections=32, max_keepalive_connections=16)
    async with httpx2.AsyncClient(timeout=TIMEOUT, limits=limits) as client:
        service = Service(config, client)
        try:
            await service.start()
            yield service
        finally:
            await service.stop()


def _storage(config: Config) -> Storage:
    if config.bucket is None:
        return FolderStorage(config.data / "deltas")
    from gantry.deltas.server.bucket_storage import BucketStorage

    return BucketStorage(config.bucket.as_storage())


def _told(pair: Pair) -> DeltaPair:
    return DeltaPair(tuple(str(each) for each in pair.sources), str(pair.target))


def _figures(told: DeltaPair, pair: Pair, record: Record | None) -> PairFigures:
    if record is None:
        return PairFigures(told.src, told.dest, DeltaState.UNKNOWN)
    return PairFigures(
        told.src,
        told.dest,
        record.state,
        record.size,
        record.whole,
        record.downloads,
        record.seconds,
        record.reason,
    )
