"""A queue of deltas with its workers. Making is a wait that the test ends: the real one is in
tests/integration/deltas."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from pydantic import SecretStr

from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.server.ahead import Ahead, Api
from gantry.deltas.server.config import Config, Limits
from gantry.deltas.server.images import Plan
from gantry.deltas.server.jobs import Job, Jobs
from gantry.deltas.server.keeping import Keeper
from gantry.deltas.server.layers import Layers
from gantry.deltas.server.making import Made, Maker
from gantry.deltas.server.metrics import Metrics
from gantry.deltas.server.pairs import Pair, Pairs, Record
from gantry.deltas.server.registry import Registry
from gantry.deltas.server.storage import FolderStorage

# Between two rounds of what goes on by itself.
PAUSE = 0.05
CONFIG = Config(
    fleet="devbots",
    service="delta.example.org",
    registry="registry.example.org",
    realm="https://api.example.org/auth/v1/token",
    issuer="api.example.org",
    api_url="http://127.0.0.1:1",
    registry_url="http://127.0.0.1:1",
    service_key=SecretStr("0123456789abcdef"),
    token_certificate_pem="none",
)


def pair(letter: str) -> Pair:
    def image(digit: str) -> ImageReference:
        return ImageReference("registry.example.org", f"v2/{letter}", "sha256:" + digit * 64)

    return Pair.of([image("a")], image("b"))


def named(pair: Pair) -> str:
    """The letter of a pair."""
    return pair.target.name.removeprefix("v2/")


class Slow(Maker):
    """Makes nothing until it may. `plans` are errors instead of plans, `asked` who was planned;
    `ends` is how making ends, the first one the next time. Plans are as late as `slow`.
    """

    def __init__(self, registry: Registry, layers: Layers, work: Path) -> None:
        super().__init__(registry, layers, work, Limits())
        self._folder = work
        self.may: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.moved = asyncio.Event()
        self.plans: dict[str, Exception] = {}
        self.slow: asyncio.Event | None = None
        self.asked: list[str] = []
        self.ends: defaultdict[str, list[Exception]] = defaultdict(list)
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def plan(self, pair: Pair) -> Plan:
        name = named(pair)
        self.asked.append(name)
        if self.slow:
            await self.slow.wait()
        if name in self.plans:
            raise self.plans[name]
        return Plan((), (), "", 1000)

    @asynccontextmanager
    async def made(self, pair: Pair, on_percent: Callable[[int], None]) -> AsyncIterator[Made]:
        name = named(pair)
        self.begun.append(name)
        self.moved.set()
        try:
            on_percent(10)
            await self.may[name].wait()
        finally:
            self.ended.append(name)
        if self.ends[name]:
            raise self.ends[name].pop(0)
        path, content = self._folder / name, name.encode()
        path.write_bytes(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        yield Made(path, digest, len(content), 1000, 0.1)


class Clock:
    """Stands still, but where a test moves it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Wants(Api):
    """An api that is not asked: it wants what it was given."""

    pairs: tuple[Pair, ...]

    async def wanted(self) -> list[Pair]:
        return [*self.pairs]


class Place:
    """A queue with its workers."""

    def __init__(
        self, maker: Slow, jobs: Jobs, pairs: Pairs, keeper: Keeper, metrics: Metrics, clock: Clock
    ) -> None:
        self.maker = maker
        self.jobs = jobs
        self.pairs = pairs
        self.keeper = keeper
        self.metrics = metrics
        self.clock = clock

    def ahead(self, *wanted: Pair) -> Ahead:
        """What makes these ahead of time."""
        return self.ahead_by(Wants(httpx2.AsyncClient(), CONFIG, wanted))

    def ahead_by(self, api: Api) -> Ahead:
        """What makes ahead of time what an api wants."""
        return Ahead(api, self.jobs, self.pairs, self.metrics, seconds=PAUSE)

    def metric(self, name: str) -> float:
        """One figure, by its whole name with labels."""
        lines = self.metrics.text().decode().splitlines()
        (value,) = [each.rpartition(" ")[2] for each in lines if each.startswith(f"{name} ")]
        return float(value)

    async def ask(self, letter: str, demanded: bool = True) -> Job:
        found = await self.jobs.ask(pair(letter), demanded=demanded)
        assert isinstance(found, Job)
        return found

    async def settled(self, letter: str) -> Record:
        """Where it stands once nothing is made of it."""
        found = await self.jobs.ask(pair(letter))
        if isinstance(found, Job):
            self.maker.may[letter].set()
            async with asyncio.timeout(10):
                await found.done.wait()
        record = self.pairs.find(pair(letter).name)
        assert record
        return record

    async def until(self, *begun: str) -> None:
        """Until just these were begun, in this order."""
        async with asyncio.timeout(10):
            while len(self.maker.begun) < len(begun):
                await self.maker.moved.wait()
                self.maker.moved.clear()
        await asyncio.sleep(0.02)
        assert self.maker.begun == [*begun]

    async def made(self, letter: str, job: Job) -> None:
        """Let it be made, and see that it is."""
        self.maker.may[letter].set()
        async with asyncio.timeout(10):
            await job.done.wait()
        record = self.pairs.find(pair(letter).name)
        assert record
        assert record.state is DeltaState.READY


@asynccontextmanager
async def place(folder: Path, limits: Limits) -> AsyncIterator[Place]:
    async with httpx2.AsyncClient() as client:
        registry = Registry(client, CONFIG)
        pairs = Pairs(folder / "pairs.sqlite")
        storage = FolderStorage(folder / "deltas")
        maker = Slow(registry, Layers(folder / "layers", 1000, registry), folder)
        keeper = Keeper(pairs, storage, registry, limit=10**9, days=1)
        metrics, clock = Metrics(), Clock()
        jobs = Jobs(pairs, maker, keeper, metrics, limits=limits, retry_seconds=1, clock=clock)
        running = asyncio.create_task(jobs.run())
        try:
            yield Place(maker, jobs, pairs, keeper, metrics, clock)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            pairs.close()


Scenario = Callable[[Place], Awaitable[None]]


def run(folder: Path, workers: int, scenario: Scenario, **limits: int) -> None:
    """Let it happen at a queue of nine, in a folder that outlives it."""

    async def all_of_it() -> None:
        async with place(folder, Limits(workers=workers, queue=9, **limits)) as one:
            await scenario(one)

    asyncio.run(all_of_it())


async def eventually(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
