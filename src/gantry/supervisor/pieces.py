"""Content that is read in a thread, piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, Iterator


async def threaded(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same pieces, each read in a thread, so that the loop never waits for a disk."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
