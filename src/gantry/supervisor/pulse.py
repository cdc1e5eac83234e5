"""Waking those who wait for any change: what changed they look up themselves."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Listener:
    """One who waits. Nothing is queued: who is slow sees the newest."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def hear(self) -> None:
        """Something changed."""
        self._changed.set()

    async def wait(self, longest: float) -> None:
        """Until something has changed since the last wait, for so many seconds at most."""
        try:
            async with asyncio.timeout(longest):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


class Pulse:
    """One beat for each change."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def beat(self) -> None:
        """Something changed."""
        for each in self._listeners:
            each.hear()

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Hear of every change from now on."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
