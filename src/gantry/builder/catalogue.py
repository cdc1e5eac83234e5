"""The fleet's base images: in the builder's engine when a build names them, and in the registry.

`raspios` of two architectures lies ready in the builder's own image; others are made from the
Debian archive when they are first needed, and language bases are built on them. What is being
made is made once, whoever asks, and goes on when who asked has gone.
"""

import asyncio
import hashlib
import json
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gantry.builder import bases
from gantry.builder.buildx import BuildFailedError, BuildJob, Buildx
from gantry.builder.engine import Engine, EngineError
from gantry.builder.plan import BASE_TAGS, BaseName
from gantry.builder.progress import Line
from gantry.contracts.device_types import Architecture

ROOT_BASE = "raspios"
RECIPE_LABEL = "gantry.recipe"
CHUNK_BYTES = 1024 * 1024
Say = Callable[[str], None]

log = logging.getLogger(__name__)


class CatalogueError(Exception):
    """A base image could not be had; the message says which and why."""


class Making:
    """A base that is being made, and who listens to it."""

    def __init__(self) -> None:
        self.listeners: list[Say] = []
        self.task: asyncio.Task[None] | None = None

    def say(self, line: str) -> None:
        for each in list(self.listeners):
            each(line)


class Catalogue:
    """`resources` holds shipped bases and recipes; `folder` is where bases are made and kept."""

    def __init__(
        self, engine: Engine, buildx: Buildx, registry: str, resources: Path, folder: Path
    ) -> None:
        self._engine = engine
        self._buildx = buildx
        self._registry = registry
        self._resources = resources
        self._folder = folder
        self._making: dict[BaseName, Making] = {}
        self._current: set[BaseName] = set()
        self._pushed: set[BaseName] = set()
        self._pushes: set[asyncio.Task[None]] = set()

    def shipped(self) -> list[BaseName]:
        """The bases that lie in the builder's image."""
        found = [
            BaseName(arch, ROOT_BASE) for arch in Architecture if self._shipped_path(arch).is_file()
        ]
        return sorted(found)

    async def ensure(self, base: BaseName, say: Say) -> None:
        """Make `gantry/<arch>-<name>:<tag>` exist in the engine; its push follows by itself.

        Raises:
            CatalogueError: the Debian archive is out of reach, or a recipe failed.
        """
        if base in self._current and await self._engine.image(base.reference):
            return
        making = self._making.get(base)
        if making is None:
            making = self._making[base] = Making()
            making.task = asyncio.create_task(self._make(base, making))
        making.listeners.append(say)
        try:
            assert making.task is not None  # noqa: S101 - set where it is made
            await asyncio.shield(making.task)
        finally:
            making.listeners.remove(say)

    async def publish(self, base: BaseName) -> None:
        """Push a base of the engine to the fleet's registry.

        Raises:
            EngineError: the registry is out of reach or refuses.
        """
        name = f"{self._registry}/{base.reference}"
        await self._engine.tag(base.reference, name)
        await self._engine.push(name, lambda _: None)
        self._pushed.add(base)
        log.info("base %s is in the registry", base.reference)

    async def _make(self, base: BaseName, making: Making) -> None:
        try:
            if base.name == ROOT_BASE:
                await self._root(base, making.say)
            else:
                await self._language(base, making.say)
            self._current.add(base)
        except (bases.BaseError, BuildFailedError, EngineError, OSError) as error:
            raise CatalogueError(f"base image {base.reference} cannot be made: {error}") from error
        finally:
            del self._making[base]
        if base not in self._pushed:
            task = asyncio.create_task(self._publish_quietly(base))
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)

    async def _publish_quietly(self, base: BaseName) -> None:
        """Tried for two minutes: at the fleet's first start the registry may come up later."""
        for pause in (1, 2, 4, 8, 15, 30, 60):
            try:
                await self.publish(base)
                return
            except EngineError as error:
                log.warning("base %s is not in the registry yet: %s", base.reference, error)
                await asyncio.sleep(pause)

    async def _root(self, base: BaseName, say: Say) -> None:
        made = self._shipped(base.architecture)
        if made is None:
            say(f"base image {base.reference} is not made yet: making it (minutes under emulation)")
            made = await self._bootstrap(base.architecture, say)
        image = await self._engine.image(base.reference)
        if image and image.id == made.image_id:
            return
        say(f"loading {base.reference}")
        await self._engine.load(_uncompressed(made.path))
        await self._engine.tag(made.image_id, base.reference)

    async def _bootstrap(self, arch: Architecture, say: Say) -> bases.BaseImage:
        loop = asyncio.get_running_loop()

        def progress(line: str) -> None:
            loop.call_soon_threadsafe(say, line)

        recipe = bases.read_recipe(self._resources / "images" / ROOT_BASE / "recipe.toml")
        return await asyncio.to_thread(
            bases.make_base, recipe, arch, self._folder / "bases", progress
        )

    async def _language(self, base: BaseName, say: Say) -> None:
        root = BaseName(base.architecture, ROOT_BASE)
        await self.ensure(root, say)
        folder = self._resources / "images" / "bases" / base.name
        below = await self._engine.image(root.reference)
        text = (folder / "Dockerfile").read_text()
        key = hashlib.sha256(f"{below.id if below else ''}\n{text}".encode()).hexdigest()
        image = await self._engine.image(base.reference)
        if image and image.labels.get(RECIPE_LABEL) == key:
            return
        say(f"base image {base.reference} is not made yet: making it (minutes under emulation)")

        def emit(line: Line) -> None:
            say(line.text)

        with tempfile.TemporaryDirectory(prefix="base-", dir=self._folder) as work:
            job = BuildJob(
                context=folder,
                dockerfile=folder / "Dockerfile",
                platform=base.architecture.platform,
                tags=[base.reference],
                args={"BASE": root.reference},
                labels={RECIPE_LABEL: key},
            )
            await self._buildx.build(job, emit, Path(work))

    def _shipped_path(self, arch: Architecture) -> Path:
        return self._resources / "bases" / f"{ROOT_BASE}-{arch}.tar.zst"

    def _shipped(self, arch: Architecture) -> bases.BaseImage | None:
        path = self._shipped_path(arch)
        if not path.is_file():
            return None
        fields = json.loads(path.with_suffix("").with_suffix(".json").read_text())
        return bases.BaseImage(path=path, image_id=fields["image_id"], hash=fields.get("hash", ""))


def known_bases() -> list[str]:
    """The names of all bases, with their tags, for people."""
    return [f"gantry/<architecture>-{name}:{tag}" for name, tag in BASE_TAGS.items()]


async def _uncompressed(path: Path) -> AsyncIterator[bytes]:
    process = await asyncio.create_subprocess_exec(
        "zstd", "-dcq", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None  # noqa: S101 - asked for above
    try:
        while chunk := await process.stdout.read(CHUNK_BYTES):
            yield chunk
    finally:
        if process.returncode is None and not process.stdout.at_eof():
            process.kill()
        code = await process.wait()
    if code:
        raise bases.BaseError(f"{path} cannot be read: zstd ended with {code}")
