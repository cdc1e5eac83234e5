"""Tells the api who comes and goes, in order and once it is there again; and that we live."""

import asyncio
import contextlib
import time
from collections import deque

from gantry.vpn.api import Api, Event
from gantry.vpn.devices import Devices
from gantry.vpn.errors import RefusedError, VpnError
from gantry.vpn.metrics import Metrics
from gantry.vpn.process import Run

BATCH_SECONDS = 0.5
BATCH_EVENTS = 500
MAX_EVENTS = 20_000
"""More than these are not kept: what is true then is said anew."""

BEAT_SECONDS = 10.0
LIST_SECONDS = 60.0
RETRY_SECONDS = (1.0, 10.0)
# The api takes a server that it does not hear of for a minute for dead, with all of its devices.
OUTAGE_SECONDS = 20.0


class Reporter:
    """One task sends everything, so that a list of devices never overtakes an event."""

    def __init__(self, api: Api, devices: Devices, metrics: Metrics) -> None:
        self._api = api
        self._devices = devices
        self._metrics = metrics
        self._events: deque[tuple[str, Event]] = deque()
        self._news = asyncio.Event()
        self._boot = ""
        self._listed = self._beaten = -LIST_SECONDS
        self._restate = False

    def add(self, run: Run, event: Event) -> None:
        """Something to tell."""
        if len(self._events) >= MAX_EVENTS:
            self._events.clear()
            self._restate = True
        self._events.append((run.boot, event))
        self._metrics.unsent.set(len(self._events))
        self._news.set()

    def begin(self, run: Run) -> None:
        """A new run of openvpn: nobody is there."""
        self._boot = run.boot
        self._listed = -LIST_SECONDS
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause, failed_at = RETRY_SECONDS[0], 0.0
        while True:
            try:
                await self._send()
            except VpnError as error:
                if not failed_at:
                    print(f"events are kept for now: {error.sentence}", flush=True)
                    failed_at = time.monotonic()
                self._metrics.api_up.set(0)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
                continue
            if failed_at:
                print("the api takes events again", flush=True)
                self._restate |= time.monotonic() - failed_at > OUTAGE_SECONDS
                pause, failed_at = RETRY_SECONDS[0], 0.0
            self._metrics.api_up.set(1)
            await self._wait()

    async def flush(self, seconds: float) -> None:
        """Tell what is left, for so long at most: the service stops."""
        with contextlib.suppress(TimeoutError, VpnError):
            async with asyncio.timeout(seconds):
                await self._send_events()

    async def _wait(self) -> None:
        if self._restate:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._beaten + BEAT_SECONDS - time.monotonic())):
                await self._news.wait()
        # Others that come at the same time go with the first.
        await asyncio.sleep(BATCH_SECONDS)

    async def _send(self) -> None:
        self._news.clear()
        if self._restate:
            self._restate = False
            self._listed = -LIST_SECONDS
            for run, event in self._devices.restate():
                self.add(run, event)
        await self._send_events()
        now = time.monotonic()
        if not self._boot or (now < self._beaten + BEAT_SECONDS and self._listed >= 0):
            return
        whole, boot = now >= self._listed + LIST_SECONDS, self._boot
        connected = self._devices.connected
        await self._api.beat(boot, sorted(connected) if whole else None)
        # Meanwhile openvpn may have been started anew: that is told at once.
        if boot == self._boot:
            self._beaten = now
            self._listed = now if whole else self._listed

    async def _send_events(self) -> None:
        while self._events:
            boot = self._events[0][0]
            batch: list[Event] = []
            while self._events and self._events[0][0] == boot and len(batch) < BATCH_EVENTS:
                batch.append(self._events.popleft()[1])
            try:
                await self._api.report(boot, batch)
            except RefusedError:
                # What the api will not hear must not keep the rest from it: what is true is.
                self._restate = True
                raise
            except BaseException:
                self._events.extendleft((boot, each) for each in reversed(batch))
                raise
            finally:
                self._metrics.unsent.set(len(self._events))
