"""Leases of pushes: while one is held, nothing that the push may rely on goes from the registry.

The collector, which removes what nobody needs, works in the whiles without pushes
(docs/decisions/0023-registry-space.md).
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from gantry.builder.engine import EngineError

# The collector holds pushes back for seconds; for ten minutes where it stopped amid its work.
PATIENCE_SECONDS = 900.0
PAUSE_SECONDS = 0.5
# Of the lease's time: four renewals are tried in it.
RENEW_PART = 0.25
# This much before the lease's end a push is broken off that could not be renewed.
MARGIN_SECONDS = 10.0

log = logging.getLogger(__name__)


class Leases:
    """The api at `url`, asked with the service key of the builder named `builder`."""

    def __init__(self, url: str, service_key: str, builder: str) -> None:
        self._builder = builder
        self._client = httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {service_key}"}, timeout=10.0
        )

    async def close(self) -> None:
        await self._client.aclose()

    @asynccontextmanager
    async def pushing(self, repository: str) -> AsyncIterator[None]:
        """Hold a lease for a push to a repository (a name without the registry's).

        Raises:
            EngineError: the api gives none, or it could not be renewed: then the push is broken
                off.
        """
        push, seconds = await self._begin(repository)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds - MARGIN_SECONDS) as limit:
                renewing = asyncio.create_task(self._renew(push, seconds, limit))
                try:
                    yield
                finally:
                    renewing.cancel()
                    await asyncio.gather(renewing, return_exceptions=True)
        except TimeoutError as error:
            if limit.expired():
                raise EngineError(
                    f"the push to {repository} was broken off: the api did not renew its lease"
                ) from error
            raise
        finally:
            # Also while this task is being cancelled: others wait for it.
            ending = loop.create_task(self._end(push))
            await asyncio.shield(ending)

    async def _begin(self, repository: str) -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        body = {"builder": self._builder, "repository": repository}
        while True:
            try:
                answer = await self._client.post("/services/builder/pushes", json=body)
            except httpx2.HTTPError as error:
                raise EngineError(f"the fleet's api cannot be reached: {error!r}") from error
            if answer.status_code == 201:
                given = answer.json()
                return int(given["push"]), float(given["seconds"])
            if answer.status_code != 503 or loop.time() > deadline:
                raise EngineError(f"the api gives no lease for a push: {answer.text[:200]}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _renew(self, push: int, seconds: float, limit: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds * RENEW_PART)
            # Before it is asked: the lease's time begins no sooner.
            asked = loop.time()
            try:
                answer = await self._client.put(f"/services/builder/pushes/{push}")
            except httpx2.HTTPError as error:
                log.warning("the lease of push %d was not renewed: %r", push, error)
                continue
            if answer.status_code == 404:
                limit.reschedule(asked)
                return
            if answer.status_code == 204:
                limit.reschedule(asked + seconds - MARGIN_SECONDS)

    async def _end(self, push: int) -> None:
        try:
            await self._client.delete(f"/services/builder/pushes/{push}")
        except httpx2.HTTPError as error:
            # It ends by itself.
            log.warning("the end of push %d could not be told: %r", push, error)
