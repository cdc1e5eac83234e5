"""The supervisor's image for each architecture: `gantry/<arch>-supervisor:<version>`."""

import asyncio
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from gantry import __version__
from gantry.builder.buildx import BuildFailedError, BuildJob, Buildx
from gantry.builder.catalogue import ROOT_BASE, Catalogue, CatalogueError
from gantry.builder.engine import Engine, EngineError
from gantry.builder.plan import BaseName
from gantry.builder.progress import Line
from gantry.builder.releases import ReleaseApi, ReleaseApiError
from gantry.contracts.device_types import Architecture

log = logging.getLogger(__name__)


class SupervisorImages:
    """Built from what `resources` holds of the repository: the same files on every builder."""

    def __init__(
        self,
        engine: Engine,
        buildx: Buildx,
        catalogue: Catalogue,
        api: ReleaseApi,
        registry: str,
        resources: Path,
    ) -> None:
        self._engine = engine
        self._buildx = buildx
        self._catalogue = catalogue
        self._api = api
        self._registry = registry
        self._resources = resources
        self._made: set[Architecture] = set()
        self._locks = {arch: asyncio.Lock() for arch in Architecture}

    async def ensure_once(self, arch: Architecture) -> None:
        """As `ensure`, but nothing for what was made since this builder's start. Never fails: a
        push, which asks for it, does not depend on it."""
        if arch in self._made:
            return
        try:
            name = await self.ensure(arch, lambda _: None)
        except (BuildFailedError, CatalogueError, EngineError, ReleaseApiError) as error:
            log.warning("supervisor image for %s: %s (tried again at the next push)", arch, error)
        else:
            log.info("supervisor image: pushed %s", name)

    async def ensure(self, arch: Architecture, say: Callable[[str], None]) -> str:
        """Build, push, tell the api; the name. What is there already takes about a second.

        Raises:
            CatalogueError, BuildFailedError, EngineError, ReleaseApiError: as their makers say.
        """
        base = BaseName(arch, ROOT_BASE)
        name = f"{self._registry}/gantry/{arch}-supervisor"
        tags = [f"{name}:{__version__}", f"{name}:latest"]
        async with self._locks[arch]:
            await self._catalogue.ensure(base, say)
            with tempfile.TemporaryDirectory(prefix="supervisor-") as work:
                job = BuildJob(
                    context=self._resources,
                    dockerfile=self._resources / "images" / "supervisor" / "Dockerfile",
                    platform=arch.platform,
                    tags=tags,
                    args={"BASE": base.reference},
                )
                await self._buildx.build(job, lambda line: say(_text(line)), Path(work))
            digests = [await self._engine.push(tag, say) for tag in tags]
            await self._api.publish_supervisor(arch.value, __version__, name, digests[0])
            self._made.add(arch)
        return tags[0]


def _text(line: Line) -> str:
    return line.text
