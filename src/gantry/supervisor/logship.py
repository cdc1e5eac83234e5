"""Sends the buffer's lines to the log service, as they come and until they are confirmed."""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.logbuffer import LogBuffer, LogLine
from gantry.supervisor.store import LogPosition

_LOG = logging.getLogger(__name__)

# In seconds: between flushes; of silence after which a request is ended; a request's longest life.
# A request's end is when the service confirms its lines, so it comes soon and often.
_FLUSH = 0.1
_SILENCE = 1.0
_LIFE = 10.0
# Who reads a container's log waits so long at most for room, so that a burst arrives whole. In an
# outage so much is read a second: its end is worth more than its beginning, and nobody is to write
# the device's processor full with lines.
_ROOM = 15.0
_PIECE_IN_OUTAGE = 32 * 1024
# While logs are switched off, this often what came is thrown away.
_OFF = 5.0


class LogShipper:
    """Takes lines in order and sends them in order. `confirmed` hears how far it has come."""

    def __init__(self, confirmed: Callable[[Mapping[str, LogPosition]], Awaitable[None]]) -> None:
        self.buffer = LogBuffer()
        self._confirmed = confirmed
        self._news = asyncio.Event()
        self._online = asyncio.Event()
        self._closing = False
        self._enabled = True
        self._cooling = False
        self._read_in_outage = 0
        self._roomy = asyncio.Event()
        self._roomy.set()

    @property
    def enabled(self) -> bool:
        """Whether lines are sent; else they are thrown away, and are not sent later either."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        self._news.set()
        self._online.set()

    async def room(self, size: int) -> None:
        """Who has read so many bytes of logs waits here before reading on."""
        if not self.buffer.is_crowded:
            return
        if self._cooling:
            self._read_in_outage += size
            if self._read_in_outage >= _PIECE_IN_OUTAGE:
                self._read_in_outage = 0
                await self._wait_for_room()
            return
        end = time.monotonic() + _ROOM
        while time.monotonic() < end and not self._cooling:
            if await self._wait_for_room():
                return

    async def _wait_for_room(self) -> bool:
        try:
            async with asyncio.timeout(1.0):
                await self._roomy.wait()
        except TimeoutError:
            return False
        return True

    def add(self, line: LogLine) -> None:
        """Send this line after all others."""
        self.buffer.append(line)
        if self.buffer.is_crowded:
            self._roomy.clear()
        self._news.set()

    def hurry(self) -> None:
        """The api is back: try at once."""
        self._online.set()

    def finish(self) -> None:
        """End the request under way; `run` returns once nothing waits, or nothing gets through."""
        self._closing = True
        self._news.set()
        self._online.set()

    async def run(self, cloud: Cloud) -> None:
        """Send until `finish` is called."""
        cooldown = Backoff(5.0, 300.0)
        while not (self._closing and not self.buffer):
            if not self._enabled:
                await self._throw_away()
                continue
            if not self.buffer:
                self._news.clear()
                await self._news.wait()
                continue
            # Said before trying: who comes back while this fails is not waited for.
            self._online.clear()
            try:
                await cloud.send_logs(self._stream())
            except CloudError as error:
                self.buffer.take_back()
                if self._closing:
                    return
                await self._cool_down(cooldown.next(), error)
            else:
                cooldown.reset()
                await self._confirmed(self.buffer.confirm())

    async def _throw_away(self) -> None:
        self.buffer.discard()
        self._roomy.set()
        await self._confirmed(self.buffer.confirm())
        if not self._closing:
            self._news.clear()
            await self._news.wait()
            await asyncio.sleep(0 if self._enabled or self._closing else _OFF)

    async def _cool_down(self, delay: float, error: CloudError) -> None:
        _LOG.warning("logs are held back: %s; next try in %.0f s", error, delay)
        self._cooling = True
        try:
            async with asyncio.timeout(delay):
                await self._online.wait()
        except TimeoutError:
            return
        finally:
            self._cooling = False
        # A short pause all the same, so that a fleet does not return in one moment.
        await asyncio.sleep(1.0)

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        """The gzip body of one request. A small window: memory counts more than the ratio."""
        compressor = zlib.compressobj(level=6, wbits=16 + 12, memLevel=5)
        end = time.monotonic() + _LIFE
        while piece := self.buffer.take():
            if not self.buffer.is_crowded:
                self._roomy.set()
            yield compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
            if self.buffer.request_is_full or not self._enabled or time.monotonic() > end:
                break
            await self._more()
        yield compressor.flush()

    async def _more(self) -> None:
        """Wait for further lines, for a while."""
        if self._closing:
            return
        await asyncio.sleep(_FLUSH)
        if self.buffer or self._closing:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(_SILENCE):
                await self._news.wait()
        except TimeoutError:
            return
