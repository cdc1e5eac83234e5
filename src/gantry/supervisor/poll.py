"""Hearing of targets: the poll that always works, and the event stream that is quicker."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress

from gantry.supervisor import wire
from gantry.supervisor.backoff import Backoff, jitter
from gantry.supervisor.cloud import POLL_TIMEOUT, Cloud, CloudError, TargetAnswer
from gantry.supervisor.watchdog import Promise

_LOG = logging.getLogger(__name__)
# The family's first pause after a failed poll, in seconds; it doubles up to the poll interval.
_FIRST_RETRY = 15.0
_REFUSED = (
    "; the api does not know this device by its key: give config.json the right deviceApiKey, or "
    "take uuid, deviceApiKey, deviceId and registered_at out of it and give it an apiKey, so that "
    "the device registers anew. What runs goes on running"
)
_VARIABLES = ("BALENA_SUPERVISOR_POLL_INTERVAL", "RESIN_SUPERVISOR_POLL_INTERVAL")


def poll_interval(variables: Mapping[str, str], otherwise: float) -> float:
    """Seconds between polls: the device's variable (milliseconds), else `otherwise`."""
    for name in _VARIABLES:
        with suppress(wire.WireError):
            if name in variables:
                return max(1.0, wire.number(variables[name], name) / 1000)
    return otherwise


class Poller:
    """Asks for the target at once, then every `interval` seconds, or when told.

    `received` takes a new target; False from it says that it could not be used, and the same
    answer must be asked for again. `online` hears that the api answers after it had not.
    """

    def __init__(
        self,
        cloud: Cloud,
        interval: Callable[[], float],
        received: Callable[[TargetAnswer], Awaitable[bool]],
        online: Callable[[], None],
        etag: str | None = None,
    ) -> None:
        self._cloud = cloud
        self._interval = interval
        self._received = received
        self._online = online
        self._etag = etag
        self._now = asyncio.Event()
        self.away = asyncio.Event()  # set while the api does not answer at all
        self.instant = True  # whether an announcement leads to a poll
        self.last_attempt = time.monotonic()
        self.last_success: float | None = None
        self.failures = 0
        self.promise = Promise("poll")

    def ask_now(self) -> None:
        """Poll as soon as possible."""
        self._now.set()

    async def run(self) -> None:
        """Poll for ever."""
        trouble = Backoff(_FIRST_RETRY, _FIRST_RETRY)
        while True:
            self._now.clear()
            self.promise.within(max(POLL_TIMEOUT, self._cloud.request_seconds))
            delay = jitter(self._interval())
            try:
                await self._poll()
                trouble = Backoff(_FIRST_RETRY, max(1.0, self._interval()))
            except CloudError as error:
                self.failures += 1
                if error.status is None:
                    self.away.set()
                delay = max(trouble.next(), error.retry_after or 0.0)
                advice = _REFUSED if error.status == 401 and self.failures == 1 else ""
                _LOG.warning("no target: %s; next try in %.0f s%s", error, delay, advice)
            self.promise.within(delay)
            try:
                async with asyncio.timeout(delay):
                    await self._now.wait()
            except TimeoutError:
                continue

    async def _poll(self) -> None:
        self.last_attempt = time.monotonic()
        answer = await self._cloud.target(self._etag)
        self.last_success = time.monotonic()
        self.away.clear()
        if self.failures:
            _LOG.info("the api answers again")
            self.failures = 0
            self._online()
        if answer is not None and await self._received(answer):
            self._etag = answer.etag

    async def listen(self) -> None:
        """Follow the api's announcements for ever; each one that is news leads to a poll."""
        trouble = Backoff(1.0, 30.0)
        broken = False
        while True:
            try:
                async with aclosing(self._cloud.events()) as events:
                    async for etag in events:
                        trouble.reset()
                        if broken:
                            broken = False
                            self.away.clear()
                            self._online()
                            self._now.set()
                        if etag is not None and self.instant and not _same(etag, self._etag):
                            self._now.set()
                    broken = True
            except CloudError as error:
                if error.status is None:
                    self.away.set()
                if not broken:
                    _LOG.warning("not told of new releases for now: %s", error)
                broken = True
                # A server without this stream is polled, and asked for it again now and then.
                delay = 600.0 if error.status in (404, 405, 501) else trouble.next()
                await asyncio.sleep(max(delay, error.retry_after or 0.0))


def _same(one: str, other: str | None) -> bool:
    """Whether two ETags name the same content; a proxy that compresses makes them weak."""
    return other is not None and _bare(one) == _bare(other)


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
