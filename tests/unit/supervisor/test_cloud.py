"""Answers of an api that is not well, over a real socket."""

import asyncio
import ssl

import pytest

from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.config import DeviceConfig

MIB = 1024**2


async def ask(head: bytes, piece: bytes, count: int) -> None:
    """Ask for the target; `piece` comes `count` times."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + b"\r\nConnection: close\r\n\r\n")
            for _ in range(count):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = DeviceConfig(
        {"apiEndpoint": f"http://127.0.0.1:{port}", "uuid": "a" * 32, "deviceApiKey": "k"}
    )
    cloud = Cloud(config, ssl.create_default_context())
    try:
        await cloud.target(None)
    finally:
        await cloud.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [b"HTTP/1.1 200 OK", b"HTTP/1.1 500 No"])
def test_an_endless_answer_does_not_fill_the_memory(status: bytes) -> None:
    with pytest.raises(CloudError, match="more than 16 MiB"):
        asyncio.run(ask(status, b" " * MIB, 64))


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"a": ' * 100_000, b"\xff", b"[]"])
def test_what_is_no_target_is_an_error_that_is_waited_out(content: bytes) -> None:
    with pytest.raises(CloudError, match="the target state"):
        asyncio.run(ask(b"HTTP/1.1 200 OK", content, 1))
