"""While the api is away: is the network? Asked every 10 s, so that who is back is noticed at once
and not at the end of a long pause; and told by the LED, four flashes, as the family does."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from urllib.parse import urlsplit

from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.doorway import HostError

_LOG = logging.getLogger(__name__)
_EVERY = 10.0
_FLASHES = 4


async def reachable(url: str, seconds: float = 10.0) -> bool:
    """Whether the host of this URL takes a connection."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError, UnicodeError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class Connectivity:
    """Looks while `away` is set. `back` hears when the network is there again."""

    def __init__(
        self,
        url: str,
        host: DeviceHost,
        away: asyncio.Event,
        enabled: Callable[[], bool],
        back: Callable[[], None],
        every: float = _EVERY,
    ) -> None:
        self._url = url
        self._host = host
        self._away = away
        self._enabled = enabled
        self._back = back
        self._every = every

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._away.wait()
            async with AsyncExitStack() as signal:
                await self._trouble(signal)

    async def _trouble(self, signal: AsyncExitStack) -> None:
        """One time without the api, to its end. An api that answers and refuses is no matter of the
        network: it is left to the poll's own patience."""
        was_there = True
        while self._away.is_set():
            there = not self._enabled() or await reachable(self._url)
            if there and not was_there:
                _LOG.info("the network is there again")
                self._back()
                await signal.aclose()
            elif was_there and not there:
                _LOG.warning("no connection to %s", self._url)
                with suppress(HostError):
                    await signal.enter_async_context(self._host.signal(_FLASHES))
            was_there = there
            await asyncio.sleep(self._every)
