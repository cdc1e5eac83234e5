"""Bytes both ways, until an end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gantry.vpn.relay import BUFFER_BYTES, Count, End, closing, relay


@asynccontextmanager
async def road() -> AsyncIterator[tuple[End, End, End, End]]:
    """A person, their end here, the device's end here, the device."""
    pairs = (*socket.socketpair(), *socket.socketpair())
    ends = [End(*await asyncio.open_connection(sock=each)) for each in pairs]
    try:
        yield ends[0], ends[1], ends[2], ends[3]
    finally:
        for each in ends:
            if not each.writer.is_closing():
                each.writer.transport.abort()
        await asyncio.sleep(0)


def test_both_directions_end_one_after_the_other() -> None:
    async def run() -> None:
        async with road() as (person, first, second, device):
            count = Count()
            task = asyncio.create_task(relay(first, second, count, 5))
            person.writer.write(b"question")
            person.writer.write_eof()
            assert await device.reader.read() == b"question"  # the end of it came through
            device.writer.write(b"a long answer")
            device.writer.write_eof()
            assert await person.reader.read() == b"a long answer"
            await task
            assert (count.there, count.back) == (8, 13)

    asyncio.run(run())


def test_a_slow_reader_gets_what_was_sent_before_the_end() -> None:
    async def carried(first: End, second: End) -> None:
        async with closing(first.writer, 0.1), closing(second.writer, 0.1):
            await relay(first, second, Count(), 30)

    async def run() -> None:
        async with road() as (person, first, second, device):
            first.writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
            task = asyncio.create_task(carried(first, second))
            person.writer.write_eof()
            # More than reader and system hold, and less than lies here before the sender waits.
            device.writer.write(b"x" * 500_000)
            device.writer.write_eof()
            await asyncio.sleep(1)
            assert len(await person.reader.read()) == 500_000
            await task

    asyncio.run(run())


def test_silence_ends_it_and_bytes_keep_it() -> None:
    async def run() -> None:
        async with road() as (person, first, second, device):
            loop = asyncio.get_running_loop()
            task = asyncio.create_task(relay(first, second, Count(), 0.3))
            begun = loop.time()
            for _ in range(4):
                await asyncio.sleep(0.15)
                device.writer.write(b"x")
                assert await person.reader.read(1) == b"x"
            await task
            assert 0.8 < loop.time() - begun < 2

    asyncio.run(run())


def test_a_broken_end_ends_it() -> None:
    async def run() -> None:
        async with road() as (person, first, second, device):
            task = asyncio.create_task(relay(first, second, Count(), 30))
            await asyncio.sleep(0.01)
            person.writer.transport.abort()
            device.writer.write(b"x" * 10_000_000)
            async with asyncio.timeout(5):
                await task

    asyncio.run(run())


def test_a_slow_reader_holds_the_sender_back() -> None:
    async def run() -> None:
        async with road() as (_, first, second, device):
            count = Count()
            task = asyncio.create_task(relay(first, second, count, 30))
            device.writer.write(b"x" * 20_000_000)  # nobody reads it
            await asyncio.sleep(0.3)
            assert count.back < 5_000_000
            assert second.reader  # the rest lies with who sent it
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
