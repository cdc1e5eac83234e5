"""Telling the api how the device is: what changed, soon and not too often."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.metrics import changed_enough
from gantry.supervisor.watchdog import Promise

_LOG = logging.getLogger(__name__)

# So many reports may come quickly, after a time of silence: an update has about so many stages.
_BURST = 6


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often is reported, in seconds: the family's pace of reports; how long changes are
    collected into one; how often the machine's figures are told; the first and the longest pause
    after a failure."""

    pace: float = 10.0
    collect: float = 0.3
    figures: float = 300.0
    first_retry: float = 5.0
    last_retry: float = 300.0

    def faster(self, scale: float) -> "Rhythm":
        """The same so many times as fast."""
        return Rhythm(*(value / scale for value in astuple(self)))


class Pace:
    """Allows `burst` reports at once, and one more every `pace` seconds."""

    def __init__(self, burst: int, pace: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._pace = pace
        self._clock = clock
        self._tokens = float(burst)
        self._last = clock()

    def wait(self) -> float:
        """Seconds until a report may be sent."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._last) / self._pace)
        self._last = now
        return max(0.0, (1.0 - self._tokens) * self._pace)

    def spend(self) -> None:
        """A report is sent."""
        self.wait()
        self._tokens -= 1.0


def difference(new: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of `new` the api does not know yet; all of it when it is not sure what it knows."""
    if old is None:
        return dict(new)
    found = {key: value for key, value in new.items() if key != "apps" and old.get(key) != value}
    before = old.get("apps", {})
    apps = {uuid: app for uuid, app in new.get("apps", {}).items() if before.get(uuid) != app}
    # An application that is gone is told by an empty entry of the whole.
    if apps or set(before) - set(new.get("apps", {})):
        found["apps"] = dict(new.get("apps", {}))
    return found


def without_progress(report: object) -> object:
    """The report without figures that move all the time: a change of the rest is worth haste."""
    if isinstance(report, Mapping):
        return {
            key: without_progress(value)
            for key, value in report.items()
            if key != "download_progress"
        }
    return report


class Reporter:
    """Sends reports. `state` gives the device's whole state, `measure` its figures."""

    def __init__(
        self,
        cloud: Cloud,
        state: Callable[[], dict[str, Any]],
        measure: Callable[[], dict[str, Any]],
        rhythm: Rhythm = Rhythm(),
    ) -> None:
        self._cloud = cloud
        self._state = state
        self._measure = measure
        self._changed = asyncio.Event()
        self._online = asyncio.Event()
        self._known: dict[str, Any] | None = None
        self._figures: dict[str, Any] = {}
        self._rhythm = rhythm
        self._figures_at = -rhythm.figures
        self._pace = Pace(_BURST, rhythm.pace, time.monotonic)
        self._sent_at = -rhythm.pace
        self.heard: Callable[[], None] = lambda: None
        self.promise = Promise("report")

    def changed(self) -> None:
        """Something about the device changed; `heard` is told too, and does not wait for a pace."""
        self._changed.set()
        self.heard()

    def measure(self) -> None:
        """What is measured, or whether, changed: it is done now."""
        self._figures_at = -self._rhythm.figures
        self._changed.set()

    def hurry(self) -> None:
        """The api is back, perhaps from a backup: it is told everything again."""
        self._known = None
        self._online.set()
        self._changed.set()

    async def run(self) -> None:
        """Report for ever."""
        trouble = Backoff(self._rhythm.first_retry, self._rhythm.last_retry)
        while True:
            self._changed.clear()
            self.promise.within(60.0)
            body = await self._body()
            if body:
                try:
                    self._pace.spend()
                    self._sent_at = time.monotonic()
                    self._online.clear()
                    await self._cloud.report(difference(body, self._known))
                except CloudError as error:
                    # Whether it was taken is not known: all of it is told again.
                    self._known = None
                    delay = max(trouble.next(), error.retry_after or 0.0)
                    _LOG.warning("not reported: %s; next try in %.0f s", error, delay)
                    self.promise.within(delay)
                    await self._until(self._online, delay)
                    self._changed.set()
                    await asyncio.sleep(self._rhythm.collect)
                    continue
                trouble.reset()
                self._known = body
            self.promise.within(self._rhythm.figures)
            await self._until(self._changed, self._rhythm.figures)
            await self._collect()

    async def _body(self) -> dict[str, Any]:
        """The whole state when something of it is to be told, else nothing."""
        now = time.monotonic()
        if now - self._figures_at >= self._rhythm.figures:
            figures = await asyncio.to_thread(self._measure)
            if self._known is None or changed_enough(figures, self._figures):
                self._figures = figures
            self._figures_at = now
        body = {**self._state(), **self._figures}
        return body if difference(body, self._known) else {}

    async def _collect(self) -> None:
        """Let changes gather; those of progress alone keep the family's pace."""
        while True:
            self.promise.within(60.0)
            await asyncio.sleep(self._rhythm.collect)
            wait = self._pace.wait()
            if self._only_progress():
                wait = max(wait, self._sent_at + self._rhythm.pace - time.monotonic())
            if wait <= 0:
                return
            self._changed.clear()
            await self._until(self._changed, wait)

    def _only_progress(self) -> bool:
        news = difference(self._state(), self._known)
        known = {key: (self._known or {}).get(key) for key in news}
        return without_progress(news) == without_progress(known)

    @staticmethod
    async def _until(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
