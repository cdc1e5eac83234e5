"""Which delta is made when: each pair once, whoever asks; who waits for it comes first."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from gantry.contracts.deltas import DeltaState
from gantry.deltas.server.config import Limits
from gantry.deltas.server.errors import (
    BusyError,
    NoSuchImageError,
    NotFoundError,
    NotTodayError,
    TemporaryError,
    WholeError,
)
from gantry.deltas.server.expecting import REMEMBERED, History, Taken, begins, seconds_left
from gantry.deltas.server.generator import DiedError
from gantry.deltas.server.keeping import Keeper
from gantry.deltas.server.making import Maker
from gantry.deltas.server.metrics import Metrics, Outcome
from gantry.deltas.server.pairs import Pair, Pairs, Record, Verdict

LONGEST_RETRY_SECONDS = 3600.0
FULL_RETRY_SECONDS = 30
# A process that dies again and again dies of this pair.
MAX_DEATHS = 3
# How long a verdict holds that came of how busy the machine was.
TODAY_SECONDS = 86_400.0


@dataclass(eq=False)
class Job:
    """A pair that waits or is being made. `percent` is None while it waits, `started` is the
    monotonic clock's. While it has a `term` it can be ended."""

    pair: Pair
    is_demanded: bool
    whole: int | None = None
    percent: int | None = None
    started: float = 0.0
    term: asyncio.Timeout | None = None
    gives_way: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def give_way(self) -> None:
        """End what is being made: it is begun anew later."""
        if self.term is not None:
            self.gives_way = True
            self.term.reschedule(asyncio.get_running_loop().time())


class Jobs:
    """The queue, and those who work it off. All of it lives on one event loop."""

    def __init__(
        self,
        pairs: Pairs,
        maker: Maker,
        keeper: Keeper,
        metrics: Metrics,
        *,
        limits: Limits,
        retry_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pairs = pairs
        self._maker = maker
        self._keeper = keeper
        self._metrics = metrics
        self._workers = limits.workers
        self._limit = limits.queue
        self._making = limits.making
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._demanded: deque[Job] = deque()
        self._ahead: deque[Job] = deque()
        self._news = asyncio.Event()
        self._working: list[Job] = []
        self._history = History()

    @property
    def busy(self) -> int:
        """Jobs that somebody works on."""
        return len(self._working)

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
        if record := await self._settled(pair):
            return record
        try:
            planned = await self._maker.plan(pair)
        except WholeError as error:
            return await self._note_whole(pair, error)
        # Another one's job may have begun meanwhile, or be over already.
        if record := await self._settled(pair):
            return record
        if job := self._joined(pair, demanded):
            return job
        if demanded and len(self._demanded) >= self._limit:
            raise BusyError(
                f"{self._limit} deltas wait to be made: ask later, or pull the image",
                retry_after=FULL_RETRY_SECONDS,
            )
        return self._add(Job(pair, demanded, planned.whole))

    def expected(self, job: Job) -> tuple[float | None, int | None]:
        """In how many seconds it should be there, and how many bytes it should have; None where
        nothing tells."""
        size = self._history.size(job.whole) if job.whole else None
        own = self._left(job)
        if job in self._working or own is None:
            return own, size
        # The others give way.
        at_work = [each for each in self._working if each.is_demanded]
        before = [*takewhile(lambda each: each is not job, self._demanded)]
        working, waiting = self._all_left(at_work), self._all_left(before)
        if working is None or waiting is None:
            return None, size
        return begins(working, waiting, self._workers) + own, size

    def _all_left(self, jobs: Sequence[Job]) -> list[float] | None:
        known = [left for left in map(self._left, jobs) if left is not None]
        return known if len(known) == len(jobs) else None

    def _left(self, job: Job) -> float | None:
        """Seconds of work."""
        expected = self._history.seconds(job.whole) if job.whole else None
        if job.percent is None:
            return expected
        return seconds_left(expected, time.monotonic() - job.started, job.percent)

    async def resume(self) -> int:
        """Go on with what an earlier run has not finished; how many these are. Who waited for it
        asks again."""
        self._history = History(await asyncio.to_thread(self._pairs.taken, REMEMBERED))
        left = await asyncio.to_thread(self._pairs.all, DeltaState.WORKING)
        for each in left:
            self._add(Job(each.pair, is_demanded=False, whole=each.whole))
        return len(left)

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"delta worker {number}")

    async def _work(self) -> None:
        while True:
            job = await self._next()
            self._working.append(job)
            is_over = True
            try:
                is_over = await self._made(job)
            finally:
                self._working.remove(job)
                if is_over:
                    self._jobs.pop(job.pair.name, None)
                    job.done.set()
                else:
                    self._queue(job)

    async def _made(self, job: Job) -> bool:
        """Make it; False where it has given way."""
        try:
            async with asyncio.timeout(None) as job.term:
                await self._make(job)
        except (TemporaryError, OSError) as error:
            if job.gives_way:
                self._metrics.outcomes.labels(Outcome.DEFERRED).inc()
                say(job.pair, "it gives way to one that is waited for")
                return False
            # Whoever asks again begins it anew.
            say(job.pair, str(error))
        finally:
            job.term, job.percent, job.gives_way = None, None, False
        return True

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
                self._queue(job)
        return job

    def _add(self, job: Job) -> Job:
        self._jobs[job.pair.name] = job
        self._queue(job)
        return job

    def _queue(self, job: Job) -> None:
        (self._demanded if job.is_demanded else self._ahead).append(job)
        self._news.set()
        self._make_way()

    def _make_way(self) -> None:
        """Where more wait than there are free workers, what nobody waits for gives way."""
        free = self._workers - sum(not each.gives_way for each in self._working)
        for job in self._working:
            if len(self._demanded) <= free:
                return
            if job.term and not (job.is_demanded or job.gives_way):
                job.give_way()
                free += 1

    async def _settled(self, pair: Pair) -> Record | None:
        record = await asyncio.to_thread(self._pairs.find, pair.name)
        return record if record and self._is_settled(record) else None

    def _is_settled(self, record: Record) -> bool:
        match record.state:
            case DeltaState.READY:
                return True
            case DeltaState.WHOLE:
                is_over = 0 < record.retry_at <= self._clock()
                return record.limits == self._making and not is_over
            case DeltaState.FAILED:
                return record.retry_at > self._clock()
        return False

    async def _make(self, job: Job) -> None:
        """Cancelled, it leaves the pair in the index as one that is to be made.

        Raises:
            TemporaryError: the index cannot be written.
        """
        name = job.pair.name
        job.percent, job.started = 0, time.monotonic()
        record = await asyncio.to_thread(self._pairs.begin, job.pair, self._clock(), job.whole)
        try:
            making = self._maker.made(job.pair, lambda now: setattr(job, "percent", now))
            async with making as made:
                job.term = None
                await self._keeper.keep(job.pair, made)
            self._metrics.made(made)
            self._history.add(Taken(made.size, made.whole, made.seconds))
            say(job.pair, f"{made.size} bytes instead of {made.whole}, {made.seconds:.1f} s")
        except NoSuchImageError as error:
            self._metrics.outcomes.labels(Outcome.GONE).inc()
            await asyncio.to_thread(self._pairs.remove, name)
            say(job.pair, str(error))
        except WholeError as error:
            await self._end_whole(job, error)
        except (TemporaryError, NotFoundError) as error:
            await self._end_failed(job, record, error)
        except Exception as error:
            await self._end_failed(job, record, TemporaryError(f"{type(error).__name__}: {error}"))

    async def _note_whole(self, pair: Pair, error: WholeError) -> Record:
        record = await asyncio.to_thread(self._pairs.begin, pair, self._clock())
        self._metrics.outcomes.labels(Outcome.WHOLE).inc()
        verdict = self._verdict(error, None, 0.0)
        await asyncio.to_thread(self._pairs.whole, pair.name, verdict)
        return await asyncio.to_thread(self._pairs.find, pair.name) or record

    async def _end_whole(self, job: Job, error: WholeError) -> None:
        self._metrics.outcomes.labels(Outcome.WHOLE).inc()
        verdict = self._verdict(error, job.whole, time.monotonic() - job.started)
        await asyncio.to_thread(self._pairs.whole, job.pair.name, verdict)
        say(job.pair, f"none: {error}")

    def _verdict(self, error: WholeError, whole: int | None, seconds: float) -> Verdict:
        is_of_today = isinstance(error, NotTodayError)
        until = self._clock() + TODAY_SECONDS if is_of_today else 0.0
        return Verdict(str(error), whole, seconds, self._making, until)

    async def _end_failed(self, job: Job, record: Record, error: Exception) -> None:
        died = isinstance(error, DiedError)
        if died and record.deaths + 1 >= MAX_DEATHS:
            await self._end_whole(job, NotTodayError(f"{error}, {MAX_DEATHS} times"))
            return
        self._metrics.outcomes.labels(Outcome.FAILED).inc()
        pause = min(self._retry_seconds * 2 ** min(record.tries, 20), LONGEST_RETRY_SECONDS)
        until = self._clock() + pause
        await asyncio.to_thread(self._pairs.failed, job.pair.name, str(error), until, died=died)
        say(job.pair, f"tried again in {pause:.0f} s: {error}")


def say(pair: Pair, what: str) -> None:
    """Tell of a pair in the log."""
    sources = ", ".join(f"{each.name}@{each.digest[7:19]}" for each in pair.sources)
    target = f"{pair.target.name}@{pair.target.digest[7:19]}"
    print(f"delta {sources} -> {target}: {what}", flush=True)
