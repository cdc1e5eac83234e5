"""Carries bytes both ways between two connections until either ends."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024
# What a slow reader may leave lying here; then the sender waits.
BUFFER_BYTES = 256 * 1024
# So long a slow reader has for what lies here when the sender has ended.
REST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class End:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Count:
    """Bytes that a relay has carried: to the second end, and back."""

    there: int = 0
    back: int = 0


async def relay(first: End, second: End, count: Count, idle_seconds: float) -> None:
    """Until both directions have ended, an end is broken, or nothing came for `idle_seconds`. Both
    are closed then; what was carried has been sent, as far as there is anybody to take it.
    """
    # TLS has no half-closed connections: without one direction there is no other.
    whole = not (first.writer.can_write_eof() and second.writer.can_write_eof())
    tasks: tuple[asyncio.Task[None], ...] = ()
    try:
        async with asyncio.timeout(idle_seconds) as idle:
            tasks = (
                asyncio.create_task(_copy(first, second, count, idle, idle_seconds, back=False)),
                asyncio.create_task(_copy(second, first, count, idle, idle_seconds, back=True)),
            )
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not whole and not any(each.exception() for each in done):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except TimeoutError:
        pass
    finally:
        for each in tasks:
            each.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ends:
        # A connection that breaks is nobody's fault.
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise error
    await asyncio.gather(*(_close(each.writer, REST_SECONDS) for each in (first, second)))


async def _copy(
    source: End,
    sink: End,
    count: Count,
    idle: asyncio.Timeout,
    idle_seconds: float,
    *,
    back: bool,
) -> None:
    loop = asyncio.get_running_loop()
    while piece := await source.reader.read(PIECE_BYTES):
        idle.reschedule(loop.time() + idle_seconds)
        sink.writer.write(piece)
        await sink.writer.drain()
        if back:
            count.back += len(piece)
        else:
            count.there += len(piece)
    if sink.writer.can_write_eof():
        sink.writer.write_eof()


def prepare(writer: asyncio.StreamWriter) -> None:
    """Small pieces go at once; a peer that is gone is noticed."""
    writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
    end = writer.get_extra_info("socket")
    if end is not None:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter, seconds: float = 5.0) -> AsyncIterator[None]:
    """Closes it afterwards: what is written is sent, unless that takes longer."""
    try:
        yield
    finally:
        is_closed = False
        try:
            is_closed = await _close(writer, seconds)
        finally:
            # A transport that has sent the rest and closed has no loop any more to abort it.
            if not is_closed:
                writer.transport.abort()


async def _close(writer: asyncio.StreamWriter, seconds: float) -> bool:
    """Has what is written sent; False: that takes longer."""
    try:
        writer.close()
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    except TimeoutError:
        return False
    except (OSError, RuntimeError):
        pass  # it is broken, and gone all the same
    return True
