"""What is made before anybody asks: the pairs that the fleet's devices need, most devices first."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx2

from gantry.contracts.deltas import DeltaContractError, DeltaState, ImageReference, WantedPairs
from gantry.deltas.server.config import Config
from gantry.deltas.server.errors import BusyError, NoSuchImageError, TemporaryError
from gantry.deltas.server.jobs import Job, Jobs, say
from gantry.deltas.server.metrics import Metrics
from gantry.deltas.server.pairs import Pair, Pairs

TIMEOUT_SECONDS = 30.0
# After this long the api is asked again before the next pair: other releases may count by now.
ROUND_SECONDS = 60.0
# What failed is tried again by itself for so long after it was asked for last.
RETRIED_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Api:
    """The doorway to the api's `/services/deltas/wanted` (docs/api.md)."""

    client: httpx2.AsyncClient
    config: Config

    async def wanted(self) -> list[Pair]:
        """The pairs that devices need, most devices first.

        Raises:
            TemporaryError: the api does not say.
        """
        key = self.config.service_key.get_secret_value()
        try:
            answer = await self.client.get(
                f"{self.config.api_url}/services/deltas/wanted",
                headers={"Authorization": f"Bearer {key}"},
                timeout=TIMEOUT_SECONDS,
            )
            answer.raise_for_status()
            told = WantedPairs.from_json(answer.json())
            return [
                Pair.of(
                    map(ImageReference.parse, each.pair.src), ImageReference.parse(each.pair.dest)
                )
                for each in told.pairs
            ]
        except (httpx2.HTTPError, DeltaContractError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise TemporaryError(f"the api does not say what is wanted: {reason}") from error


class Ahead:
    """One pair at a time: the other workers, and the next turn of this one, are for who waits."""

    def __init__(
        self,
        api: Api,
        jobs: Jobs,
        pairs: Pairs,
        metrics: Metrics,
        *,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._jobs = jobs
        self._pairs = pairs
        self._metrics = metrics
        self._seconds = seconds
        self._clock = clock
        # Pairs that could not be begun, and when that was tried last: monotonic seconds by name.
        self._failed: dict[str, float] = {}

    async def run(self) -> None:
        """Rounds, until cancelled."""
        is_told = False
        while True:
            try:
                await self.round()
                is_told = False
            except TemporaryError as error:
                if not is_told:
                    print(f"nothing is made ahead of time for now: {error}", flush=True)
                is_told = True
            await asyncio.sleep(self._seconds)

    async def round(self) -> None:
        """Make what is wanted now, and what is to be tried again.

        Raises:
            TemporaryError: the api is away, or the index cannot be used.
        """
        wanted = await self._wanted()
        await asyncio.to_thread(self._pairs.use, [each.name for each in wanted], self._clock())
        await self._make(wanted)
        due = await asyncio.to_thread(self._due)
        await self._make(due)
        names = {each.name for each in (*wanted, *due)}
        self._failed = {name: at for name, at in self._failed.items() if name in names}

    async def _wanted(self) -> list[Pair]:
        try:
            wanted = await self._api.wanted()
        except TemporaryError:
            self._metrics.api_up.set(0)
            raise
        self._metrics.api_up.set(1)
        return wanted

    async def _make(self, pairs: Sequence[Pair]) -> None:
        """One after the other. Those that could not be begun come last, the one that was tried last
        the very last: they keep nothing from being made, however long it takes to find out."""
        until = time.monotonic() + ROUND_SECONDS
        new: list[tuple[Pair, TemporaryError]] = []
        for each in sorted(pairs, key=lambda each: self._failed.get(each.name, 0.0)):
            try:
                found = await self._jobs.ask(each, demanded=False)
            except (NoSuchImageError, BusyError):
                continue
            except TemporaryError as error:
                if each.name not in self._failed:
                    new.append((each, error))
                self._failed[each.name] = time.monotonic()
            else:
                self._failed.pop(each.name, None)
                if not isinstance(found, Job):
                    continue
                await found.done.wait()
            if time.monotonic() > until:
                break
        for first, why in new[:1]:
            # Without a registry it is all of them.
            others = f", nor {len(new) - 1} others" if len(new) > 1 else ""
            say(first, f"not made ahead of time for now{others}: {why}")

    def _due(self) -> list[Pair]:
        now = self._clock()
        return [
            each.pair
            for each in self._pairs.all(DeltaState.FAILED)
            if each.retry_at <= now and each.used_at > now - RETRIED_SECONDS
        ]
