"""From a device's request to JetStream: every line in order, acknowledged only when stored."""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from gantry.logs.access import Access, Caller, Consent
from gantry.logs.body import Splitter, Unpacker
from gantry.logs.errors import (
    BadRequestError,
    IdleError,
    RefusedError,
    TooLargeError,
    TooManyError,
)
from gantry.logs.limits import RateLimiter
from gantry.logs.lines import MAX_RAW, BadLineError, Line, from_fields, parse, system_line
from gantry.logs.store import Store, Writer

IDLE_SECONDS = 120.0
"""A stream that brings nothing for so long is closed; devices close theirs after a minute."""

RECHECK_SECONDS = 20.0
MAX_BATCH_BYTES = 512 * 1024
MAX_STREAMS_PER_DEVICE = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request's lines. `duplicates` were stored by an earlier request."""

    stored: int
    duplicates: int
    dropped: int


class Ingest:
    """Takes in lines of all devices."""

    def __init__(self, store: Store, access: Access, limiter: RateLimiter) -> None:
        self._store = store
        self._access = access
        self._limiter = limiter
        self._streams: Counter[str] = Counter()

    async def stream(self, caller: Caller, encoding: str, chunks: AsyncIterator[bytes]) -> Outcome:
        """Stores the NDJSON lines of a body while it arrives.

        Raises:
            LogsError: some lines are not stored: the device sends again what no earlier request
                confirmed. Lines with an identity are not doubled by that.
        """
        consent = await self._access.check(caller)
        unpacker = Unpacker(encoding)
        if self._streams[caller.device] >= MAX_STREAMS_PER_DEVICE:
            raise TooManyError("this device has too many log streams open", retry_after=10)
        self._streams[caller.device] += 1
        try:
            intake = _Intake(await self._store.writer(caller.device), self._limiter, caller.device)
            try:
                return await self._take_in(caller, consent, unpacker, chunks, intake)
            except asyncio.CancelledError:
                intake.writer.abandon()
                raise
        finally:
            self._streams[caller.device] -= 1
            if not self._streams[caller.device]:
                del self._streams[caller.device]

    async def _take_in(
        self,
        caller: Caller,
        consent: Consent,
        unpacker: Unpacker,
        chunks: AsyncIterator[bytes],
        intake: "_Intake",
    ) -> Outcome:
        splitter = Splitter()
        watch = _Watch(self._access, caller, consent)
        async for chunk in _impatient(chunks, watch):
            if not await watch.is_allowed():
                await intake.finish()
                raise _refused()
            for piece in unpacker.feed(chunk):
                for raw in splitter.feed(piece):
                    await intake.take(raw)
        for raw in splitter.finish():
            await intake.take(raw)
        outcome = await intake.finish()
        unpacker.finish()
        return outcome

    async def batch(self, caller: Caller, encoding: str, chunks: AsyncIterator[bytes]) -> Outcome:
        """Stores the lines of a JSON array.

        Raises:
            LogsError: as `stream`; a body of another shape stores nothing.
        """
        await self._access.check(caller)
        lines = await _array(Unpacker(encoding), chunks)
        intake = _Intake(await self._store.writer(caller.device), self._limiter, caller.device)
        for fields in lines:
            await intake.take_fields(fields)
        return await intake.finish()


class _Watch:
    """Whether a stream that was allowed may go on; asked anew from time to time, and in doubt."""

    def __init__(self, access: Access, caller: Caller, consent: Consent) -> None:
        self.consent = consent
        self.access = access
        self._caller = caller
        self._checked = access.clock()

    async def is_allowed(self) -> bool:
        """Judge it, where the last answer is old or doubted."""
        now = self.access.clock()
        if now - self._checked >= RECHECK_SECONDS or not self.consent.holds(now):
            still = await self.access.still_allowed(self._caller, self.consent)
            if still is None:
                return False
            self.consent, self._checked = still, now
        return True


def _refused() -> RefusedError:
    return RefusedError(401, "this device may no longer send its log")


class _Intake:
    """One request's lines on their way."""

    def __init__(self, writer: Writer, limiter: RateLimiter, device: str) -> None:
        self.writer = writer
        self._limiter = limiter
        self._device = device
        self._dropped = 0
        self._first_fault = ""

    async def take(self, raw: bytes | None) -> None:
        """A line as it was sent; None: it was too long to be looked at."""
        if raw is None:
            self._drop(f"longer than {MAX_RAW} bytes")
            return
        try:
            line = parse(raw)
        except BadLineError as error:
            self._drop(str(error))
            return
        await self._store(line)

    async def take_fields(self, fields: Any) -> None:
        """A line that was an element of a JSON array."""
        try:
            line = from_fields(fields)
        except BadLineError as error:
            self._drop(str(error))
            return
        await self._store(line)

    async def finish(self) -> Outcome:
        """All is stored when this returns; a line of our own says what was dropped."""
        if self._dropped:
            await self._confess()
        await self.writer.flush()
        stored = self.writer.stored - bool(self._dropped)
        return Outcome(max(stored, 0), self.writer.duplicates, self._dropped)

    async def _store(self, line: Line) -> None:
        await self.writer.write(line)
        wait = self._limiter.take(self._device, len(line.payload))
        if wait > 0:
            await asyncio.sleep(wait)

    def _drop(self, fault: str) -> None:
        self._dropped += 1
        self._first_fault = self._first_fault or fault

    async def _confess(self) -> None:
        amount = "a log line was" if self._dropped == 1 else f"{self._dropped} log lines were"
        text = f"{amount} dropped by the log service; the first: {self._first_fault}"
        # The same fault sent again, after a broken connection, is not told twice.
        identity = "dropped-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        print(f"{self._device}: {text}", flush=True)
        await self.writer.write(system_line(text, round(time.time() * 1000), identity))


async def _impatient(
    chunks: AsyncIterator[bytes], watch: _Watch | None = None
) -> AsyncIterator[bytes]:
    """The chunks, until none comes for IDLE_SECONDS, or who sends them may no longer."""
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS) as limit:
                if watch is None:
                    chunk = await anext(iterator)
                else:
                    with watch.consent.guards(limit, watch.access.clock()):
                        chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            if watch is None or watch.consent.holds(watch.access.clock()):
                raise IdleError(f"no line for {IDLE_SECONDS:.0f} s: open a new stream") from error
            if await watch.is_allowed():
                raise IdleError("the key has changed: open a new stream") from error
            raise _refused() from error
        yield chunk


async def _array(unpacker: Unpacker, chunks: AsyncIterator[bytes]) -> list[Any]:
    body = bytearray()
    async for chunk in _impatient(chunks):
        for piece in unpacker.feed(chunk):
            body += piece
            if len(body) > MAX_BATCH_BYTES:
                raise TooLargeError(f"more than {MAX_BATCH_BYTES} bytes: use the log stream")
    unpacker.finish()
    try:
        lines = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(lines, list):
        raise BadRequestError("the body is not a JSON array of lines")
    return lines
