"""The supervisor's doorway to the api, with a look at the clock before and after."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpx2

from gantry.simulator.figures import Figures, Kind
from gantry.supervisor.cloud import Cloud, CloudError, Registration, TargetAnswer
from gantry.supervisor.config import DeviceConfig


class MeasuredCloud(Cloud):
    """A device's client, whose requests count.

    Short requests share the connections of `client`, as behind the fleet's proxy, which keeps a
    few to the api for all devices; the stream of announcements is a connection of its own.
    """

    def __init__(
        self,
        config: DeviceConfig,
        context: ssl.SSLContext,
        client: httpx2.AsyncClient,
        figures: Figures,
    ) -> None:
        super().__init__(config, context, client)
        self._stream = Cloud(config, context)
        self._figures = figures

    async def close(self) -> None:
        """See Cloud."""
        await self._stream.close()
        await super().close()

    async def register(self, body: Mapping[str, Any], key: str) -> Registration:
        """See Cloud."""
        with self._figures.measured(Kind.REGISTER):
            return await super().register(body, key)

    async def target(self, etag: str | None) -> TargetAnswer | None:
        """See Cloud."""
        with self._figures.measured(Kind.STATE):
            return await super().target(etag)

    async def report(self, state: Mapping[str, Any]) -> None:
        """See Cloud."""
        with self._figures.measured(Kind.REPORT):
            await super().report(state)

    async def send_logs(self, stream: AsyncIterator[bytes]) -> None:
        """See Cloud. A request lasts as long as there are lines: its time says little."""
        with self._figures.measured(Kind.LOGS):
            await super().send_logs(stream)

    async def events(self) -> AsyncGenerator[str | None, None]:
        """See Cloud. What is measured is the time until the stream is open."""
        begun, phase = self._figures.asked(Kind.EVENTS), self._figures.phase
        heard = 0
        try:
            async with aclosing(self._stream.events()) as events:
                async for etag in events:
                    heard += 1
                    if heard == 1:
                        self._figures.streams += 1
                        self._figures.answered(Kind.EVENTS, phase, self._figures.now() - begun)
                    elif heard > 2:  # the second one tells what was the target before it opened
                        self._figures.announced()
                    yield etag
        except CloudError as error:
            self._figures.failed(Kind.EVENTS, error)
            raise
        finally:
            self._figures.streams -= 1 if heard else 0
