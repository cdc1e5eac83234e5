"""The image of the supervisor that is to come next: brought by delta before the host is asked.

The host finds it by its tag; what is not brought, it pulls.
"""

import logging

from gantry.contracts.bundle import local_tag
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.fetch import Fetcher
from gantry.supervisor.state import read_image
from gantry.supervisor.steps import FetchImage

_LOG = logging.getLogger(__name__)


class OwnImage:
    """See `bring`."""

    def __init__(self, engine: Engine, fetcher: Fetcher) -> None:
        self._engine = engine
        self._fetcher = fetcher

    async def bring(self, image: str, running: frozenset[str]) -> None:
        """Have this image here, from the one that runs under these names, if it has one of the
        fleet's registry. What is in the way of the delta is said, and is no error.

        Raises:
            EngineError: the engine does not answer.
        """
        prefix = f"{image.partition('@')[0]}@"
        found = [read_image(each, frozenset()) for each in await self._engine.images()]
        here = {each for one in found for each in one.references if each.startswith(prefix)}
        if image in here:
            return
        for each in here - running:
            await self._remove(each)
        sources = sorted(each for each in running if each.startswith(prefix))
        if sources:
            step = FetchImage(image, app_id=0, service="supervisor", service_id=0)
            await self._fetcher.beforehand(step, (sources[0],))

    async def _remove(self, image: str) -> None:
        """One that was brought, and never ran since another one was wanted then."""
        try:
            await self._engine.remove_tag(str(local_tag(image)))
        except EngineError as error:
            _LOG.warning("%s stays for now: %s", image, error)
