"""The disk of the builder: enough before a build, not too much during it, tidied after it."""

import asyncio
import logging
import shutil
from pathlib import Path

from gantry.builder.engine import Engine, EngineError

# With less the engine cannot unpack a base, and the host's other services suffer.
RESERVE_BYTES = 1024**3
KEPT_IMAGES = 2
_POLL_SECONDS = 2.0

log = logging.getLogger(__name__)


class DiskError(Exception):
    """Not enough room; the message says how much there is and what to do."""


def free_bytes(folder: Path) -> int:
    """What is free on the disk of `folder`."""
    return shutil.disk_usage(folder).free


async def make_room(engine: Engine, folder: Path, needed_bytes: int) -> None:
    """Check that a build has room; the layer cache goes before a build is refused.

    Raises:
        DiskError: also without the cache there is not enough.
    """
    if free_bytes(folder) >= needed_bytes:
        return
    freed = await engine.prune_cache(0)
    log.info("disk: freed %d MiB of layer cache", freed // 1024**2)
    if free_bytes(folder) < needed_bytes:
        raise DiskError(
            f"the builder's disk has {free_bytes(folder) // 1024**2} MiB free, and a build needs "
            f"{needed_bytes // 1024**2} MiB: make room on the host of the fleet's cloud side"
        )


async def watch(folder: Path, limit_bytes: int) -> str:
    """Wait until a build has used too much; why it must end. Never returns otherwise."""
    before = free_bytes(folder)
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        free = free_bytes(folder)
        if before - free > limit_bytes:
            return f"the build used more than {limit_bytes // 1024**2} MiB of disk, its limit"
        if free < RESERVE_BYTES // 2:
            return f"the builder's disk is full ({free // 1024**2} MiB free)"


async def tidy(engine: Engine, repositories: list[str], keep_bytes: int) -> None:
    """Remove older images of what was just built, and cache over the limit. Never fails a build."""
    try:
        for repository in repositories:
            for tag in (await engine.tags(repository))[KEPT_IMAGES:]:
                await engine.untag(tag)
        await engine.prune_images()
        await engine.prune_contexts()
        await engine.prune_cache(keep_bytes)
    except EngineError as error:
        log.warning("tidying failed: %s", error)
