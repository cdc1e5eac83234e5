"""Carries bytes both ways between two connections until either ends."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PIECE_BYTES = 64 * 1024
# What a slow reader may leave lying here; then the sender waits.
BUFFER_BYTES = 256 * 1024


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
    """Until both directions have ended, an end is broken, or nothing came for `idle_seconds`."""
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
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            writer.close()
            async with asyncio.timeout(seconds):
                await writer.wait_closed()
        writer.transport.abort()
