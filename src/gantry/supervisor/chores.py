"""Work that nobody waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Chores:
    """Keeps each until it is done: the event loop alone would let it go."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have this done, beside all else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Until those that were begun are done."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
