"""How one delta is made: fetch, unpack, generate, weigh, keep."""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gantry.contracts.deltas import SUFFIX
from gantry.deltas.names import Names
from gantry.deltas.reader import Delta, DeltaError
from gantry.deltas.server.config import Limits
from gantry.deltas.server.errors import FullError, TemporaryError, WholeError
from gantry.deltas.server.generate_order import Order
from gantry.deltas.server.generator import generate
from gantry.deltas.server.images import Plan, plan
from gantry.deltas.server.layers import Layers
from gantry.deltas.server.pairs import Pair
from gantry.deltas.server.registry import Registry
from gantry.deltas.threads import to_the_end

# Of the whole way, in percent, what fetching counts for.
FETCHING = 20


@dataclass(frozen=True, slots=True)
class Made:
    """A delta that is not yet kept. `whole`: what a pull would fetch instead."""

    path: Path
    digest: str
    size: int
    whole: int
    seconds: float


class Maker:
    """Makes deltas in the folder `work`, each in one of its own there."""

    def __init__(self, registry: Registry, layers: Layers, work: Path, limits: Limits) -> None:
        self._registry = registry
        self._layers = layers
        self._work = work
        self._limits = limits

    async def plan(self, pair: Pair) -> Plan:
        """What a pair's delta is made of.

        Raises:
            NoSuchImageError: the registry does not have one of the images.
            WholeError: there will be none.
            TemporaryError: the registry cannot say.
        """
        images = [await self._registry.image(each) for each in pair.images]
        made = plan(images[:-1], images[-1])
        packed = sum(each.size for each in {*made.sources, *made.targets})
        if packed > self._limits.pair_bytes:
            raise WholeError(
                f"the images' layers have {packed} bytes, and deltas are made of at most "
                f"{self._limits.pair_bytes}"
            )
        return made

    @asynccontextmanager
    async def made(self, pair: Pair, on_percent: Callable[[int], None]) -> AsyncIterator[Made]:
        """Make it. The file is there until the context ends, but for who moves it away before, and
        with it goes whatever else a process that was killed has left. Raises as `plan`."""
        folder = self._work / pair.name
        try:
            yield await self._make(pair, folder, on_percent)
        finally:
            await to_the_end(shutil.rmtree, folder, ignore_errors=True)

    async def _make(self, pair: Pair, folder: Path, on_percent: Callable[[int], None]) -> Made:
        started = time.monotonic()
        planned = await self.plan(pair)
        out = folder / f"{pair.name}{SUFFIX}"
        try:
            await asyncio.to_thread(folder.mkdir, exist_ok=True)
            await self._generate(planned, out, on_percent)
            size, digest = await asyncio.to_thread(_weigh, out, planned.names)
        except FullError:
            # The next try has what room there is.
            self._layers.drop()
            raise
        except OSError as error:
            raise TemporaryError(f"no delta can be made in {self._work}: {error}") from error
        return Made(out, digest, size, planned.whole, time.monotonic() - started)

    async def _generate(self, planned: Plan, out: Path, on_percent: Callable[[int], None]) -> None:
        layers = list(
            {each.diff_id: each for each in (*planned.sources, *planned.targets)}.values()
        )
        total, fetched = sum(each.size for each in layers) or 1, 0

        def on_fetched(size: int) -> None:
            nonlocal fetched
            fetched += size
            on_percent(FETCHING * fetched // total)

        async with self._layers.held(layers, self._limits.pair_bytes, on_fetched) as paths:
            order = Order(
                sources=tuple((each.diff_id, str(paths[each.diff_id])) for each in planned.sources),
                targets=tuple((each.diff_id, str(paths[each.diff_id])) for each in planned.targets),
                config=planned.config,
                out=str(out),
                memory=self._limits.memory_bytes,
                processes=self._limits.processes,
                limit=planned.whole * self._limits.percent // 100,
            )
            await generate(
                order,
                self._limits.seconds,
                lambda percent: on_percent(FETCHING + percent * (99 - FETCHING) // 100),
            )


def _weigh(path: Path, names: Names) -> tuple[int, str]:
    """Bytes and digest of a delta that devices will be able to open.

    Raises:
        WholeError: they will not.
    """
    try:
        Delta.open(path, names)
    except DeltaError as error:
        raise WholeError(f"the delta that was made cannot be opened: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return path.stat().st_size, f"sha256:{digest}"
