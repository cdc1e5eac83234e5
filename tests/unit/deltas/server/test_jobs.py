"""Who comes first. Making is a wait here that the test ends: the real one is in
tests/integration/deltas."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.server.config import Config, Limits
from gantry.deltas.server.images import Plan
from gantry.deltas.server.jobs import Job, Jobs
from gantry.deltas.server.keeping import Keeper
from gantry.deltas.server.layers import Layers
from gantry.deltas.server.making import Made, Maker
from gantry.deltas.server.metrics import Metrics
from gantry.deltas.server.pairs import Pair, Pairs
from gantry.deltas.server.registry import Registry
from gantry.deltas.server.storage import FolderStorage

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


class Slow(Maker):
    """Makes nothing until it may."""

    def __init__(self, registry: Registry, layers: Layers, work: Path) -> None:
        super().__init__(registry, layers, work, Limits())
        self._folder = work
        self.may: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.moved = asyncio.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def plan(self, pair: Pair) -> Plan:
        return Plan((), (), "", 1000)

    async def make(self, pair: Pair, on_percent: Callable[[int], None]) -> Made:
        name = pair.target.name.removeprefix("v2/")
        self.begun.append(name)
        self.moved.set()
        try:
            on_percent(10)
            await self.may[name].wait()
        finally:
            self.ended.append(name)
        path, content = self._folder / name, name.encode()
        path.write_bytes(content)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return Made(path, digest, len(content), 1000, 0.1)


class Place:
    """A queue with its workers."""

    def __init__(self, maker: Slow, jobs: Jobs, pairs: Pairs) -> None:
        self.maker = maker
        self.jobs = jobs
        self.pairs = pairs

    async def ask(self, letter: str, demanded: bool = True) -> Job:
        found = await self.jobs.ask(pair(letter), demanded=demanded)
        assert isinstance(found, Job)
        return found

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
async def place(folder: Path, workers: int) -> AsyncIterator[Place]:
    async with httpx2.AsyncClient() as client:
        registry = Registry(client, CONFIG)
        pairs = Pairs(folder / "pairs.sqlite")
        storage = FolderStorage(folder / "deltas")
        maker = Slow(registry, Layers(folder / "layers", 1000, registry), folder)
        keeper = Keeper(pairs, storage, registry, limit=10**9, days=1)
        metrics = Metrics()
        jobs = Jobs(pairs, maker, keeper, metrics, workers=workers, queue=9, retry_seconds=1)
        running = asyncio.create_task(jobs.run())
        try:
            yield Place(maker, jobs, pairs)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            pairs.close()


Scenario = Callable[[Place], Awaitable[None]]


def run(folder: Path, workers: int, scenario: Scenario) -> None:
    async def all_of_it() -> None:
        async with place(folder, workers) as one:
            await scenario(one)

    asyncio.run(all_of_it())


def test_what_nobody_waits_for_gives_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(here: Place) -> None:
        ahead = await here.ask("ahead", demanded=False)
        await here.until("ahead")
        first, second = await here.ask("first"), await here.ask("second")
        await here.until("ahead", "first")
        assert here.maker.ended == ["ahead"]
        assert (here.jobs.busy, here.jobs.waiting) == (1, 2)
        assert ahead.percent is None
        await here.made("first", first)
        await here.until("ahead", "first", "second")
        await here.made("second", second)
        await here.until("ahead", "first", "second", "ahead")
        assert not ahead.done.is_set()
        await here.made("ahead", ahead)

    run(tmp_path, 1, scenario)
    assert capsys.readouterr().out.count("gives way to one that is waited for") == 1


def test_where_a_worker_is_free_nothing_gives_way(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        await here.ask("ahead", demanded=False)
        await here.until("ahead")
        await here.ask("first")
        await here.until("ahead", "first")
        assert here.maker.ended == []
        await here.ask("second")
        await here.until("ahead", "first", "second")
        assert here.maker.ended == ["ahead"]
        # Nor do askers for each other.
        await here.ask("third")
        await here.until("ahead", "first", "second")

    run(tmp_path, 2, scenario)


def test_who_asks_for_the_same_lets_it_go_on(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        ahead = await here.ask("ahead", demanded=False)
        await here.until("ahead")
        assert await here.ask("ahead") is ahead
        first = await here.ask("first")
        await here.until("ahead")
        await here.made("ahead", ahead)
        await here.until("ahead", "first")
        # And while it gives way: it is the next one then.
        other = await here.ask("other", demanded=False)
        await here.made("first", first)
        await here.until("ahead", "first", "other")
        second = await here.ask("second")
        assert await here.ask("other") is other
        await here.until("ahead", "first", "other", "second")
        third = await here.ask("third")
        await here.made("second", second)
        await here.until("ahead", "first", "other", "second", "other")
        await here.made("other", other)
        await here.made("third", third)

    run(tmp_path, 1, scenario)


def test_what_an_earlier_run_left_is_made_after_what_is_asked_for(tmp_path: Path) -> None:
    async def earlier(here: Place) -> None:
        await here.ask("left")
        await here.until("left")

    async def later(here: Place) -> None:
        assert await here.jobs.resume() == 1
        await here.until("left")
        await here.ask("first")
        await here.until("left", "first")

    run(tmp_path, 1, earlier)
    run(tmp_path, 1, later)


def test_what_is_expected_counts_the_queue(tmp_path: Path) -> None:
    async def scenario(here: Place) -> None:
        first = await here.ask("first")
        await here.until("first")
        assert here.jobs.expected(first)[1] is None
        await here.made("first", first)
        second, third = await here.ask("second"), await here.ask("third")
        await here.until("first", "second")
        # One took 0.1 s: the second is at 10 % of its 2 s, and the third has all of them before it.
        (soon, size), (later, _) = here.jobs.expected(second), here.jobs.expected(third)
        assert size == 5
        assert soon is not None
        assert later is not None
        assert 0 < soon <= 2
        assert 2 < later <= 4

    run(tmp_path, 1, scenario)
