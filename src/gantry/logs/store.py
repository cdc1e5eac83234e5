"""The lines of all devices, in JetStream: written in order, read from any place."""

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from nats.aio.msg import Msg
from nats.js import api

from gantry.logs.connection import (
    Connection,
    ConnectionLostError,
    Tail,
    stream_config,
    subject,
)
from gantry.logs.errors import UnavailableError
from gantry.logs.lines import Line, StoredLine

WINDOW = 64
"""Lines of one writer that are on the way to JetStream at once."""

ACKNOWLEDGE_SECONDS = 10.0
RETRY_SECONDS = 1.0
_FORGET_SECONDS = 60.0
# A device's clock may be ahead of ours by this much, for `since` to find its lines.
_CLOCK_SKEW_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader begins: the last `count` lines (None: all) of those that a device wrote since
    `since_ms`, or those that follow the cursor `after`.
    """

    count: int | None = None
    since_ms: int | None = None
    after: int | None = None


class Store:
    """The doorway to JetStream. Keeps one connection open, for ever trying again."""

    def __init__(
        self, url: str, token: str | None, *, lines: int, days: float, storage_bytes: int
    ) -> None:
        self._url = url
        self._token = token
        self._config = stream_config(lines, days, storage_bytes)
        self._connection: Connection | None = None
        self._changed = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether lines can be stored now."""
        return self._connection is not None

    async def run(self) -> None:
        """Connects, and again whenever the connection is lost, until cancelled."""
        said = ""
        while True:
            connection = Connection()
            try:
                await connection.open(self._url, self._token)
                await connection.ensure_stream(self._config)
                print(f"connected to JetStream at {self._url}", flush=True)
                said = ""
                self._announce(connection)
                await connection.closed.wait()
                print("the connection to JetStream is lost", flush=True)
            except ConnectionLostError as error:
                if str(error) != said:  # once, not every second
                    said = str(error)
                    print(f"JetStream at {self._url} cannot be used: {said}", flush=True)
            finally:
                self._announce(None)
                await connection.close()
            await asyncio.sleep(RETRY_SECONDS)

    def _announce(self, connection: Connection | None) -> None:
        self._connection = connection
        self._changed.set()
        self._changed = asyncio.Event()

    async def connection(self, patience: float = 0.0) -> Connection:
        """The open connection, waited for at most `patience` seconds.

        Raises:
            UnavailableError: there is none.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._connection is None:
                    await self._changed.wait()
        if self._connection is None:
            raise UnavailableError("the log store is not reachable: send it again later")
        return self._connection

    async def writer(self, device: str) -> "Writer":
        """For one request of one device.

        Raises:
            UnavailableError: JetStream is away.
        """
        return Writer(await self.connection(), device)

    async def locate(self, device: str, place: Place) -> tuple[api.ConsumerConfig, int]:
        """Where `place` is now, and how many lines are between it and the end.

        Raises:
            UnavailableError: JetStream is away.
        """
        connection = await self.connection()
        try:
            if place.after is not None:
                start = await _known(connection, _from_sequence(device, place.after + 1))
                return start, await connection.count(start)
            start = _from_time(device, place.since_ms)
            total = await connection.count(start)
            if place.count is None or place.count >= total:
                return start, total
            first, last = await connection.bounds()
            sequence = await _last(connection, device, place.count, first, last + 1)
            return _from_sequence(device, sequence), place.count
        except ConnectionLostError as error:
            raise UnavailableError(f"the log store cannot be read: {error}") from error

    async def read(
        self, device: str, start: api.ConsumerConfig, *, beat: float, patience: float
    ) -> AsyncGenerator[StoredLine | None, None]:
        """Lines from `start` on, for ever, in order and each once; None after `beat` seconds of
        silence. A connection that breaks is waited for `patience` seconds.

        Raises:
            UnavailableError: it did not come back.
        """
        while True:
            connection = await self.connection(patience)
            try:
                start = await _known(connection, start)
                async with connection.tail(start) as tail:
                    async for line in _lines(tail, beat):
                        if line is not None:
                            start = _from_sequence(device, line.sequence + 1)
                        yield line
            except ConnectionLostError:
                await asyncio.sleep(RETRY_SECONDS)


class Writer:
    """The lines of one request, on one connection: they are stored in order or not at all."""

    def __init__(self, connection: Connection, device: str) -> None:
        self._connection = connection
        self._device = device
        self._window: deque[asyncio.Future[api.PubAck]] = deque()
        self.stored = 0
        self.duplicates = 0

    async def write(self, line: Line) -> None:
        """Sends a line; waits when WINDOW of them are on the way.

        Raises:
            UnavailableError: a line could not be stored, nor could those after it.
        """
        if len(self._window) >= WINDOW:
            await self._settle(self._window.popleft())
        try:
            acknowledgement = await self._connection.publish(
                self._device, line.payload, self._message_id(line)
            )
        except ConnectionLostError as error:
            raise UnavailableError(f"the line could not be stored: {error}") from error
        self._window.append(acknowledgement)

    async def flush(self) -> None:
        """Returns when everything written is stored.

        Raises:
            UnavailableError: something is not.
        """
        while self._window:
            await self._settle(self._window.popleft())

    async def _settle(self, acknowledgement: asyncio.Future[api.PubAck]) -> None:
        try:
            answer = await asyncio.wait_for(acknowledgement, ACKNOWLEDGE_SECONDS)
        except Exception as error:
            self.abandon()
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"a line could not be stored: {reason}") from error
        if answer.duplicate:
            self.duplicates += 1
        else:
            self.stored += 1

    def abandon(self) -> None:
        """Forgets what is on the way; JetStream may store it yet."""
        for acknowledgement in self._window:
            acknowledgement.cancel()
        self._window.clear()

    def _message_id(self, line: Line) -> str | None:
        """Headers take no line breaks and the server remembers each id: a hash of 32 characters."""
        if line.message_id is None:
            return None
        text = f"{self._device}\0{line.message_id}"
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


async def _lines(tail: Tail, beat: float) -> AsyncIterator[StoredLine | None]:
    while True:
        message = await tail.next(beat)
        yield None if message is None else _stored(message)


def _stored(message: Msg) -> StoredLine:
    metadata = message.metadata
    return StoredLine(
        sequence=metadata.sequence.stream,
        stored_ms=round(metadata.timestamp.timestamp() * 1000),
        payload=message.data,
    )


async def _last(connection: Connection, device: str, count: int, low: int, high: int) -> int:
    """The sequence from which on there are `count` lines of a device, searched by halves.

    JetStream knows how many lines of a subject follow a sequence, not which was the n-th last.
    """
    if count == 0:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if await connection.count(_from_sequence(device, middle)) >= count:
            low = middle
        else:
            high = middle
    return low


async def _known(connection: Connection, start: api.ConsumerConfig) -> api.ConsumerConfig:
    """`start`; the beginning, when the store was made anew and has not come as far yet. A reader
    who waited for its old place would see nothing for a long time, and not know it.
    """
    if start.opt_start_seq is None:
        return start
    _, last = await connection.bounds()
    if start.opt_start_seq <= last + 1:
        return start
    return replace(start, deliver_policy=api.DeliverPolicy.ALL, opt_start_seq=None)


def _from_sequence(device: str, sequence: int) -> api.ConsumerConfig:
    policy = api.DeliverPolicy.BY_START_SEQUENCE
    return replace(_consumer(device), deliver_policy=policy, opt_start_seq=sequence)


def _from_time(device: str, since_ms: int | None) -> api.ConsumerConfig:
    """By when lines arrived: no line arrives before it is written, clocks being nearly right."""
    if since_ms is None:
        return _consumer(device)
    seconds = min(max(since_ms / 1000 - _CLOCK_SKEW_SECONDS, 0), time.time())
    return replace(
        _consumer(device),
        deliver_policy=api.DeliverPolicy.BY_START_TIME,
        opt_start_time=datetime.fromtimestamp(seconds, UTC),
    )


def _consumer(device: str) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        deliver_policy=api.DeliverPolicy.ALL,
        filter_subject=subject(device),
        ack_policy=api.AckPolicy.NONE,
        inactive_threshold=_FORGET_SECONDS,
        mem_storage=True,
    )
