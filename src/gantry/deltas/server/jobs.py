"""Which delta is made when: each pair once, whoever asks; who waits for it comes first."""

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.errors import (
    BusyError,
    NoSuchImageError,
    NotFoundError,
    TemporaryError,
    WholeError,
)
from gantry.deltas.server.generator import DiedError
from gantry.deltas.server.keeping import Keeper
from gantry.deltas.server.making import Maker, TooLargeError
from gantry.deltas.server.metrics import Metrics, Outcome
from gantry.deltas.server.pairs import Pair, Pairs, Record

LONGEST_RETRY_SECONDS = 3600.0
FULL_RETRY_SECONDS = 30
# A process that dies again and again dies of this pair.
MAX_DEATHS = 3


@dataclass(eq=False)
class Job:
    """A pair that waits or is being made. `percent` is None while it waits."""

    pair: Pair
    is_demanded: bool
    whole: int | None = None
    percent: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Jobs:
    """The queue, and those who work it off. All of it lives on one event loop."""

    def __init__(
        self,
        pairs: Pairs,
        maker: Maker,
        keeper: Keeper,
        metrics: Metrics,
        *,
        workers: int,
        queue: int,
        retry_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pairs = pairs
        self._maker = maker
        self._keeper = keeper
        self._metrics = metrics
        self._workers = workers
        self._limit = queue
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._demanded: deque[Job] = deque()
        self._ahead: deque[Job] = deque()
        self._news = asyncio.Event()
        self.busy = 0

    @property
    def waiting(self) -> int:
        """Jobs that nobody works on yet."""
        return len(self._demanded) + len(self._ahead)

    async def ask(self, pair: Pair, *, demanded: bool = True) -> Record | Job:
        """Where a pair stands; it is made, if nobody has asked for it yet.

        Raises:
            NoSuchImageError: the registry does not have one of the images.
            TemporaryError: the registry cannot say.
            BusyError: too many wait.
        """
        if job := self._joined(pair, demanded):
            return job
        record = await asyncio.to_thread(self._pairs.find, pair.name)
        if record and self._is_settled(record):
            return record
        try:
            planned = await self._maker.plan(pair)
        except WholeError as error:
            return await self._note_whole(pair, str(error))
        if job := self._joined(pair, demanded):
            return job
        if demanded and len(self._demanded) >= self._limit:
            raise BusyError(
                f"{self._limit} deltas wait to be made: ask later, or pull the image",
                retry_after=FULL_RETRY_SECONDS,
            )
        return self._add(Job(pair, demanded, planned.whole))

    async def resume(self) -> int:
        """Go on with what an earlier run has not finished; how many these are."""
        left = await asyncio.to_thread(self._pairs.all, DeltaState.WORKING)
        for each in left:
            self._add(Job(each.pair, is_demanded=True, whole=each.whole))
        return len(left)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"delta worker {number}")

    async def _work(self) -> None:
        while True:
            job = await self._next()
            self.busy += 1
            try:
                await self._make(job)
            except (sqlite3.Error, OSError) as error:
                # Whoever asks again begins it anew.
                _say(job.pair, f"the index cannot be written: {error}")
            finally:
                self.busy -= 1
                self._jobs.pop(job.pair.name, None)
                job.done.set()

    async def _next(self) -> Job:
        while True:
            if self._demanded:
                return self._demanded.popleft()
            if self._ahead:
                return self._ahead.popleft()
            self._news.clear()
            await self._news.wait()

    def _joined(self, pair: Pair, demanded: bool) -> Job | None:
        job = self._jobs.get(pair.name)
        if job and demanded and not job.is_demanded:
            # Somebody waits for it now: it overtakes what nobody waits for.
            job.is_demanded = True
            if job in self._ahead:
                self._ahead.remove(job)
                self._demanded.append(job)
        return job

    def _add(self, job: Job) -> Job:
        self._jobs[job.pair.name] = job
        (self._demanded if job.is_demanded else self._ahead).append(job)
        self._news.set()
        return job

    def _is_settled(self, record: Record) -> bool:
        match record.state:
            case DeltaState.READY | DeltaState.WHOLE:
                return True
            case DeltaState.FAILED:
                return record.retry_at > self._clock()
        return False

    async def _make(self, job: Job) -> None:
        """Cancelled, it leaves the pair in the index as one that is to be made.

        Raises:
            sqlite3.Error: the index cannot be written.
        """
        name, started = job.pair.name, time.monotonic()
        job.percent = 0
        record = await asyncio.to_thread(self._pairs.begin, job.pair, self._clock(), job.whole)
        try:
            async with AsyncExitStack() as stack:
                made = await self._maker.make(job.pair, lambda now: setattr(job, "percent", now))
                stack.callback(made.path.unlink, missing_ok=True)
                await self._keeper.keep(job.pair, made)
            self._metrics.made(made)
            _say(job.pair, f"{made.size} bytes instead of {made.whole}, {made.seconds:.1f} s")
        except NoSuchImageError as error:
            self._metrics.outcomes.labels(Outcome.GONE).inc()
            await asyncio.to_thread(self._pairs.remove, name)
            _say(job.pair, str(error))
        except WholeError as error:
            await self._end_whole(job, error, time.monotonic() - started)
        except (TemporaryError, NotFoundError) as error:
            await self._end_failed(job, record, error)
        except Exception as error:
            await self._end_failed(job, record, TemporaryError(f"{type(error).__name__}: {error}"))

    async def _note_whole(self, pair: Pair, reason: str) -> Record:
        record = await asyncio.to_thread(self._pairs.begin, pair, self._clock())
        await asyncio.to_thread(self._pairs.whole, pair.name, reason, None, record.whole, 0.0)
        self._metrics.outcomes.labels(Outcome.WHOLE).inc()
        return await asyncio.to_thread(self._pairs.find, pair.name) or record

    async def _end_whole(self, job: Job, error: WholeError, seconds: float) -> None:
        size = error.size if isinstance(error, TooLargeError) else None
        self._metrics.outcomes.labels(Outcome.WHOLE).inc()
        await asyncio.to_thread(
            self._pairs.whole, job.pair.name, str(error), size, job.whole, seconds
        )
        _say(job.pair, f"none: {error}")

    async def _end_failed(self, job: Job, record: Record, error: Exception) -> None:
        if isinstance(error, DiedError) and record.tries + 1 >= MAX_DEATHS:
            reason = f"{error}, {MAX_DEATHS} times"
            await self._end_whole(job, WholeError(reason), 0.0)
            return
        self._metrics.outcomes.labels(Outcome.FAILED).inc()
        pause = min(self._retry_seconds * 2 ** min(record.tries, 20), LONGEST_RETRY_SECONDS)
        until = self._clock() + pause
        await asyncio.to_thread(self._pairs.failed, job.pair.name, str(error), until)
        _say(job.pair, f"tried again in {pause:.0f} s: {error}")


def _say(pair: Pair, what: str) -> None:
    sources = ", ".join(f"{each.name}@{each.digest[7:19]}" for each in pair.sources)
    target = f"{pair.target.name}@{pair.target.digest[7:19]}"
    print(f"delta {sources} -> {target}: {what}", flush=True)
