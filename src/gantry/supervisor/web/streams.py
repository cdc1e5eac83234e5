"""Answers that go on until their reader goes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Slots:
    """So many streams at once and no more: each keeps a connection, of which there are few, and the
    health check needs one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._taken = 0

    @property
    def full(self) -> bool:
        """Whether no other may begin now."""
        return self._taken >= self.number

    def take(self) -> None:
        """One begins."""
        self._taken += 1

    def give_back(self) -> None:
        """One ended."""
        self._taken -= 1


class Peeked:
    """Pieces of which the first was asked for already: whether there will be any is known then."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._first: asyncio.Future[bytes] | None = asyncio.ensure_future(anext(pieces, b""))

    async def peek(self, seconds: float) -> None:
        """Wait so long for the first piece. What the generator raises instead of it is raised."""
        if self._first is not None:
            await asyncio.wait({self._first}, timeout=seconds)
            if self._first.done():
                self._first.result()

    def __aiter__(self) -> "Peeked":
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return await first
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """End the generator, wherever it is."""
        if self._first is not None:
            self._first.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._first
        await self._pieces.aclose()


class Stream(StreamingResponse):
    """An answer that has a slot, and closes what it reads from in whatever way it ends."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None] | Peeked, slots: Slots, **how: Any
    ) -> None:
        super().__init__(pieces, **how)
        self._pieces = pieces
        self._slots = slots
        slots.take()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._slots.give_back()
            await self._pieces.aclose()
