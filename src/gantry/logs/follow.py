"""From JetStream to a reader: what was, then what comes, as JSON, NDJSON or server-sent events."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from gantry.logs.access import Access, Caller, Consent
from gantry.logs.errors import TooManyError
from gantry.logs.lines import StoredLine
from gantry.logs.store import Place, Store

HEARTBEAT_SECONDS = 15.0
RECHECK_SECONDS = 20.0
STALLED_SECONDS = 60.0
"""A reader who takes nothing for so long is let go; it goes on from its cursor later."""

MAX_READERS = 500
MAX_READERS_PER_DEVICE = 50
"""So that those of one device leave room for everybody else's."""

_PATIENCE_SECONDS = 300.0
_HISTORY_SILENCE = 2.0
_TICK_SECONDS = 1.0


class Form(StrEnum):
    """How lines are written, by their media types."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a reader asked for."""

    caller: Caller
    place: Place
    form: Form

    @property
    def follow(self) -> bool:
        """Whether lines that come later are wanted."""
        return self.form is not Form.JSON


class Readers:
    """All who read, bounded in number; each is as fast as its own connection."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access
        self._numbers: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Lets every reader's response end: the service stops."""
        self._closing.set()

    async def open(self, wish: Wish) -> StreamingResponse:
        """The response, once it is known that it can be given.

        Raises:
            LogsError: not allowed, too many readers, or JetStream is away.
        """
        consent = await self._access.check(wish.caller)
        if self._numbers.total() >= MAX_READERS:
            raise TooManyError("too many readers follow logs: try again later", retry_after=30)
        if self._numbers[wish.caller.device] >= MAX_READERS_PER_DEVICE:
            raise TooManyError("too many readers follow this device's log", retry_after=30)
        start, amount = await self._store.locate(wish.caller.device, wish.place)
        beat = _TICK_SECONDS if wish.follow else _HISTORY_SILENCE
        lines = self._store.read(wish.caller.device, start, beat=beat, patience=_PATIENCE_SECONDS)
        past = _since(lines, amount, wish)
        content = _array(past) if wish.form is Form.JSON else self._live(past, wish, consent)
        return _Patient(self._counted(content, wish.caller.device), media_type=wish.form.value)

    async def _counted(self, content: AsyncIterator[bytes], device: str) -> AsyncIterator[bytes]:
        self._numbers[device] += 1
        try:
            async for piece in content:
                yield piece
        finally:
            self._numbers[device] -= 1
            if not self._numbers[device]:
                del self._numbers[device]

    async def _live(
        self, lines: AsyncIterator[StoredLine | None], wish: Wish, consent: Consent
    ) -> AsyncIterator[bytes]:
        beat = b":\n\n" if wish.form is Form.SSE else b"\n"
        yield beat  # the headers go out at once
        spoken = checked = time.monotonic()
        async for line in lines:
            now = time.monotonic()
            if self._closing.is_set():
                return
            if now - checked >= RECHECK_SECONDS or not consent.holds(now):
                still = await self._access.still_allowed(wish.caller, consent)
                if still is None:
                    return
                consent, checked = still, now
            if line is not None:
                yield _event(line) if wish.form is Form.SSE else line.json + b"\n"
                spoken = now
            elif now - spoken >= HEARTBEAT_SECONDS:
                yield beat
                spoken = now


class _Patient(StreamingResponse):
    """A streamed response that gives up when its reader takes nothing for STALLED_SECONDS."""

    def __init__(self, content: AsyncIterator[bytes], media_type: str) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def bounded(message: Message) -> None:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await send(message)
            except TimeoutError as error:
                raise OSError("the reader takes nothing") from error

        await super().__call__(scope, receive, bounded)


async def _since(
    lines: AsyncGenerator[StoredLine | None, None], amount: int, wish: Wish
) -> AsyncIterator[StoredLine | None]:
    """Leaves out what a device wrote before the time that was asked for, among the `amount` lines
    that were there at the beginning; ends after those when nothing later is wanted.
    """
    since = wish.place.since_ms
    async with aclosing(lines):
        if amount == 0 and not wish.follow:
            return
        async for line in lines:
            if line is None:
                if not wish.follow:
                    return  # the rest of what was there has been pushed out meanwhile
                yield None
                continue
            amount -= 1
            if since is None or amount < 0 or line.timestamp >= since:
                yield line
            if amount == 0 and not wish.follow:
                return


async def _array(lines: AsyncIterator[StoredLine | None]) -> AsyncIterator[bytes]:
    before = b"["
    async for line in lines:
        if line is not None:
            yield before + line.json
            before = b","
    yield b"[]" if before == b"[" else b"]"


def _event(line: StoredLine) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (line.sequence, line.json)
