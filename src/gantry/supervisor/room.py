"""Whether an image fits on the disk. What is refused could not fit whatever was done."""

import asyncio
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Left to all else that writes, in bytes: the engine itself, logs, the database.
RESERVE = 64 * 1024**2
# The engine's words, and the kernel's.
_FULL = "no space left on device"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its uncompressed content's digest, and its compressed size in bytes."""

    name: str
    size: int


class NoRoomError(Exception):
    """The disk is too full for an image."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(
            f"not enough room on the disk: at least {_megabytes(needed)} MB are needed, "
            f"{_megabytes(free)} MB are free"
        )


def missing(layers: Iterable[Layer], here: Iterable[tuple[str, ...]]) -> list[int]:
    """The compressed sizes of the layers that a pull has to fetch. `here` are the layers of each
    image that is here, lowest first; the engine reuses one only upon the same lower ones."""
    wanted = tuple(layers)
    names = tuple(each.name for each in wanted)
    common = max((_common(names, other) for other in here), default=0)
    return [each.size for each in wanted[common:]]


def needed(sizes: Iterable[int]) -> int:
    """The bytes that an image needs at the very least, of which these layers are missing.

    They are unpacked, to at least their compressed size, and while one is, its compressed form is
    there too.
    """
    found = tuple(sizes)
    return sum(found) + max(found, default=0)


def _common(names: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for mine, theirs in zip(names, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


async def check(directory: Path, image: int) -> None:
    """Refuse an image that needs so many bytes on the disk of this directory.

    Raises:
        NoRoomError: it cannot fit.
    """
    free = (await asyncio.to_thread(shutil.disk_usage, directory)).free
    if image and image + RESERVE > free:
        raise NoRoomError(image + RESERVE, free)


def is_full(message: str) -> bool:
    """Whether this error of the engine says that the disk is full."""
    return _FULL in message.lower()


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)
