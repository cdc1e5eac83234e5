"""Log lines: decoding, positions, the bounded buffer."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

import pytest

from gantry.supervisor.cloud import Cloud
from gantry.supervisor.logbuffer import (
    LINE_LIMIT,
    LogBuffer,
    LogLine,
    container_line,
    system_line,
)
from gantry.supervisor.logfollow import LogDecoder, parse_timestamp
from gantry.supervisor.logship import LogShipper
from gantry.supervisor.store import LogPosition

STAMP = "2026-01-02T03:04:05.000000007Z"
NS = parse_timestamp(STAMP)


def frame(stream: int, text: str) -> bytes:
    content = text.encode()
    return struct.pack(">BxxxL", stream, len(content)) + content


def test_timestamps_are_exact_to_the_nanosecond() -> None:
    assert parse_timestamp("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert parse_timestamp("1970-01-01T00:00:02Z") == 2_000_000_000
    assert NS % 1_000_000_000 == 7
    with pytest.raises(ValueError, match="soon"):
        parse_timestamp("soon")


def test_frames_are_put_together_from_any_pieces() -> None:
    stream = frame(1, f"{STAMP} one\n") + frame(2, f"{STAMP} two ü\n") + frame(1, f"{STAMP} \n")
    for size in (1, 3, 7, 1000):
        decoder = LogDecoder(tty=False)
        lines = []
        for start in range(0, len(stream), size):
            lines += decoder.feed(stream[start : start + size])
        assert lines == [(False, NS, "one"), (True, NS, "two ü"), (False, NS, "")]


def test_terminals_are_plain_text() -> None:
    decoder = LogDecoder(tty=True)
    assert decoder.feed(f"{STAMP} one\r\n{STAMP} t".encode()) == [(False, NS, "one")]
    assert decoder.feed(b"wo\n") == [(False, NS, "two")]


def line(number: int, size: int = 0) -> str:
    return f"{number} " + "x" * size


def add(buffer: LogBuffer, number: int, size: int = 0) -> None:
    position = LogPosition(number, 1)
    buffer.append(container_line(line(number, size), "c" * 64, position, "main", 1, False))


def messages(content: bytes) -> list[str]:
    return [json.loads(each)["message"] for each in content.splitlines()]


def test_lines_come_in_order_and_stay_until_they_are_confirmed() -> None:
    buffer = LogBuffer()
    for number in range(3):
        add(buffer, number)
    first = buffer.take()
    assert messages(first) == [line(n) for n in range(3)]
    assert buffer.take() == b""
    add(buffer, 3)
    buffer.take_back()
    assert messages(buffer.take()) == [line(n) for n in range(4)]
    assert buffer.confirm() == {"c" * 64: LogPosition(3, 1)}
    buffer.take_back()
    assert not buffer


def test_the_oldest_are_dropped_and_their_number_is_said_in_their_place() -> None:
    buffer = LogBuffer(capacity=2000)
    for number in range(100):
        add(buffer, number, 100)
    found = messages(buffer.take())
    kept = found[1:]
    assert found[0].startswith(f"{100 - len(kept)} log lines were dropped")
    assert kept == [line(n, 100) for n in range(100 - len(kept), 100)]
    assert buffer.dropped == 0


def test_what_was_sent_is_dropped_first_when_it_comes_back_to_a_full_buffer() -> None:
    buffer = LogBuffer(capacity=2000)
    for number in range(8):
        add(buffer, number, 100)
    buffer.take()
    for number in range(8, 16):
        add(buffer, number, 100)
    buffer.take_back()
    found = messages(buffer.take())
    assert "dropped" in found[0]
    assert found[-1] == line(15, 100)


def test_a_request_is_bounded() -> None:
    buffer = LogBuffer()
    for number in range(20):
        add(buffer, number, 9000)
    assert len(messages(buffer.take())) == 8
    assert buffer.request_is_full
    buffer.confirm()
    assert messages(buffer.take())[0] == line(8, 9000)


def test_long_lines_are_cut_and_odd_ones_are_sent() -> None:
    encoded = container_line("é" * 20_000, "c", LogPosition(5_000_000, 2), "main", None, True)
    fields = json.loads(encoded.encoded)
    assert fields["message"] == "é" * LINE_LIMIT
    assert (fields["timestamp"], fields["isStdErr"], fields["id"]) == (5, True, "c-4c4b40-2")
    assert "serviceId" not in fields
    odd = system_line("half \ud800 pair", 4)
    assert json.loads(odd.encoded)["message"] == "half ? pair"


class Service:
    """A log service that takes nothing until it is told to: a real one is slow when it likes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.taken: list[str] = []

    async def send_logs(self, pieces: AsyncIterator[bytes]) -> None:
        inflate = zlib.decompressobj(wbits=31)
        async for piece in pieces:
            self.asked.set()
            await self.open.wait()
            self.taken += messages(inflate.decompress(piece))

    async def has(self, message: str) -> None:
        """Wait until it has taken a line."""
        while True:
            if message in self.taken:
                return
            await asyncio.sleep(0.02)


async def _ship(work: Callable[[LogShipper, Service], Awaitable[None]]) -> dict[str, LogPosition]:
    confirmed: dict[str, LogPosition] = {}

    async def confirm(positions: Mapping[str, LogPosition]) -> None:
        confirmed.update(positions)

    shipper, service = LogShipper(confirm), Service()
    shipping = asyncio.create_task(shipper.run(cast(Cloud, service)))
    try:
        async with asyncio.timeout(60):
            await work(shipper, service)
    finally:
        shipping.cancel()
        await asyncio.gather(shipping, return_exceptions=True)
    return confirmed


def _line(number: int, size: int = 0) -> LogLine:
    position = LogPosition(number, 1)
    return container_line(f"line {number}" + "x" * size, "c" * 64, position, "main", 1, False)


def test_who_reads_faster_than_is_sent_waits_for_room() -> None:
    async def work(shipper: LogShipper, service: Service) -> None:
        shipper.add(_line(1))
        await service.asked.wait()  # a request is under way, and takes no more
        count = 1
        while not shipper.buffer.is_crowded:
            await shipper.room(100)  # at once: there is some
            count += 1
            shipper.add(_line(count, 5000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await shipper.room(100)
        assert shipper.buffer.dropped == 0
        service.open.set()
        await shipper.room(100)
        shipper.add(_line(count + 1))
        await service.has(f"line {count + 1}")
        numbers = [int(each.split()[1].rstrip("x")) for each in service.taken]
        assert numbers == list(range(1, count + 2))

    asyncio.run(_ship(work))


def test_logs_that_are_switched_off_are_thrown_away_and_count_as_told() -> None:
    async def work(shipper: LogShipper, service: Service) -> None:
        service.open.set()
        shipper.enabled = False
        for number in range(1, 4):
            shipper.add(_line(number))
        await asyncio.sleep(0.1)
        assert not shipper.buffer
        shipper.enabled = True
        shipper.add(_line(4))
        await service.has("line 4")
        assert service.taken == ["line 4"]

    # A restarted supervisor does not begin with what was not to be told.
    assert asyncio.run(_ship(work))["c" * 64].timestamp_ns >= 3
