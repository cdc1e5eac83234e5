"""One connection to NATS, from its beginning to its end. It never reconnects by itself.

nats-py would keep what it could not send and send it after a reconnection, behind lines that were
lost in the socket: the order would be gone. Here everything that a broken connection still owed
fails, and `gantry.logs.store` opens a new one.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

STREAM = "LOGS"
PING_SECONDS = 5
CONNECT_SECONDS = 5
HEARTBEAT_SECONDS = 5.0
DUPLICATE_WINDOW = timedelta(minutes=15)
"""How long a line's identity is remembered: a device that resends within it doubles nothing."""

_BATCH = 256
_BATCH_BYTES = 1024**2
_PULL_SECONDS = 30
_NANOSECONDS = 1_000_000_000


class ConnectionLostError(Exception):
    """JetStream did not answer or said no; what was under way may or may not have been done."""


def subject(device: str) -> str:
    """The subject of a device's lines."""
    return f"{STREAM.lower()}.{device}"


class Connection:
    """JetStream, for as long as one TCP connection to it lives."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._client = Client()
        self._jetstream = JetStreamContext(self._client)
        self._acknowledgements: set[asyncio.Future[api.PubAck]] = set()
        self._inboxes: set[asyncio.Queue[Msg | None]] = set()

    async def open(self, url: str, token: str | None) -> None:
        """Connects.

        Raises:
            ConnectionLostError: nobody answers there, or they refuse the token.
        """
        try:
            await self._client.connect(
                url,
                token=token,
                name="gantry-logs",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=PING_SECONDS,
                error_cb=_ignore,
                closed_cb=self._on_closed,
            )
        except (NatsError, OSError, TimeoutError) as error:
            raise ConnectionLostError(_reason(error)) from error

    async def close(self) -> None:
        """Ends the connection; whoever waits for something fails."""
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            await self._client.close()
        await self._on_closed()

    async def ensure_stream(self, config: api.StreamConfig) -> None:
        """Makes the stream, or brings an existing one to this configuration.

        Raises:
            ConnectionLostError: no answer, or JetStream refuses; it says why.
        """
        try:
            try:
                await self._jetstream.stream_info(STREAM)
            except NotFoundError:
                await self._jetstream.add_stream(config)
            else:
                await self._jetstream.update_stream(config)
        except (NatsError, TimeoutError) as error:
            raise ConnectionLostError(_reason(error)) from error

    async def publish(
        self, device: str, payload: bytes, message_id: str | None
    ) -> asyncio.Future[api.PubAck]:
        """Sends one line; the future is done when JetStream has stored it.

        Raises:
            ConnectionLostError: the connection is closed.
        """
        headers = {api.Header.MSG_ID.value: message_id} if message_id else None
        try:
            future = await self._jetstream.publish_async(
                subject(device), payload, stream=STREAM, headers=headers
            )
        except (NatsError, OSError) as error:
            raise ConnectionLostError(_reason(error)) from error
        if self.closed.is_set():
            future.cancel()
            raise ConnectionLostError("the connection to NATS closed")
        self._acknowledgements.add(future)
        future.add_done_callback(self._acknowledgements.discard)
        return future

    async def bounds(self) -> tuple[int, int]:
        """The sequences of the first and the last line of all devices.

        Raises:
            ConnectionLostError: no answer.
        """
        try:
            state = (await self._jetstream.stream_info(STREAM)).state
        except (NatsError, TimeoutError) as error:
            raise ConnectionLostError(_reason(error)) from error
        return state.first_seq, state.last_seq

    async def count(self, start: api.ConsumerConfig) -> int:
        """How many lines a reader that begins at `start` has before it.

        Raises:
            ConnectionLostError: no answer.
        """
        async with self._consumer(start) as info:
            return info.num_pending or 0

    @asynccontextmanager
    async def tail(self, start: api.ConsumerConfig) -> AsyncIterator["Tail"]:
        """A reader that begins at `start`.

        Raises:
            ConnectionLostError: no answer.
        """
        async with self._consumer(start) as info:
            inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
            address = self._client.new_inbox()
            try:
                subscription = await self._client.subscribe(address, cb=inbox.put)
            except (NatsError, OSError) as error:
                raise ConnectionLostError(_reason(error)) from error
            self._inboxes.add(inbox)
            try:
                yield Tail(self._client, info, address, inbox)
            finally:
                self._inboxes.discard(inbox)
                with contextlib.suppress(NatsError, OSError):
                    await subscription.unsubscribe()

    @asynccontextmanager
    async def _consumer(self, start: api.ConsumerConfig) -> AsyncIterator[api.ConsumerInfo]:
        """An ephemeral consumer. Without us JetStream forgets it by itself."""
        try:
            info = await self._jetstream.add_consumer(STREAM, start)
        except (NatsError, TimeoutError, OSError) as error:
            raise ConnectionLostError(_reason(error)) from error
        try:
            yield info
        finally:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await self._jetstream.delete_consumer(STREAM, info.name)

    async def _on_closed(self) -> None:
        self.closed.set()
        for future in tuple(self._acknowledgements):
            if not future.done():
                future.set_exception(ConnectionLostError("the connection to NATS closed"))
        for inbox in self._inboxes:
            inbox.put_nowait(None)


class Tail:
    """A reader's place among a device's lines. It asks for a batch when it has read the last one,
    so that nothing piles up for a reader who is slow.
    """

    def __init__(
        self,
        client: Client,
        info: api.ConsumerInfo,
        address: str,
        inbox: asyncio.Queue[Msg | None],
    ) -> None:
        self.waiting = info.num_pending or 0
        self._client = client
        self._request = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{info.name}"
        self._address = address
        self._inbox = inbox
        self._wanted = 0

    async def next(self, timeout: float) -> Msg | None:  # noqa: ASYNC109 - its meaning is "or None"
        """The next line; None when none came for `timeout` seconds.

        Raises:
            ConnectionLostError: the connection closed, or JetStream fell silent.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            if self._wanted <= 0:
                await self._ask()
            try:
                silence = 3 * HEARTBEAT_SECONDS
                message = await asyncio.wait_for(self._inbox.get(), min(left, silence))
            except TimeoutError:
                if left >= silence:
                    raise ConnectionLostError("JetStream fell silent") from None
                return None
            if message is None:
                raise ConnectionLostError("the connection to NATS closed")
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None:
                self._wanted -= 1
                return message
            self._on_status(status, (message.headers or {}).get("Description", ""))
        return None

    async def _ask(self) -> None:
        request = {
            "batch": _BATCH,
            "max_bytes": _BATCH_BYTES,
            "expires": _PULL_SECONDS * _NANOSECONDS,
            "idle_heartbeat": int(HEARTBEAT_SECONDS * _NANOSECONDS),
        }
        try:
            await self._client.publish(
                self._request, json.dumps(request).encode(), reply=self._address
            )
        except (NatsError, OSError) as error:
            raise ConnectionLostError(_reason(error)) from error
        self._wanted = _BATCH

    def _on_status(self, status: str, description: str) -> None:
        """Status messages of a pull (NATS ADR-37): 100 heartbeat; the others end the request."""
        if status == "100":
            return
        if "consumer" in description.lower() or status in ("500", "503"):
            raise ConnectionLostError(f"JetStream: {status} {description}")
        self._wanted = 0


async def _ignore(error: Exception) -> None:
    """Nothing: what an error means shows where it is waited for."""


def _reason(error: BaseException) -> str:
    if isinstance(error, APIError) and error.description:
        return str(error.description)
    return str(error) or type(error).__name__


def stream_config(lines: int, days: float, storage_bytes: int) -> api.StreamConfig:
    """The stream: `lines` a device, at most `days` old and `storage_bytes` in all; oldest go."""
    age = timedelta(days=days)
    return api.StreamConfig(
        name=STREAM,
        subjects=[f"{STREAM.lower()}.*"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        max_msgs_per_subject=lines,
        max_age=age.total_seconds(),
        max_bytes=storage_bytes,
        duplicate_window=min(DUPLICATE_WINDOW, age).total_seconds(),
    )
