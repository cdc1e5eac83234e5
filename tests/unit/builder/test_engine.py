"""What the engine's words become. A stand-in at a socket: no real engine fails on demand."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from gantry.builder.engine import Engine, EngineError

REGISTRY = "registry.devbots.gantry.internal:8443"
IMAGE = f"{REGISTRY}/v2/0123:abc"


async def push(folder: Path, events: Iterable[dict[str, object]]) -> str:
    """Push to an engine that answers with these events."""
    body = b"".join(json.dumps(each).encode() + b"\n" for each in events)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / "engine.sock")
    engine = Engine(folder / "engine.sock", REGISTRY, "builder", "secret")
    try:
        return await engine.push(IMAGE, lambda _: None)
    finally:
        await engine.close()
        server.close()
        await server.wait_closed()


def test_a_registry_that_refuses_is_named(tmp_path: Path) -> None:
    words = "received unexpected HTTP status: 502 Bad Gateway"
    with pytest.raises(EngineError) as caught:
        asyncio.run(push(tmp_path, [{"status": "Preparing", "id": "1"}, {"error": words}]))
    assert str(caught.value) == f"{REGISTRY} did not take the image: {words}"


def test_the_digest_is_the_registrys(tmp_path: Path) -> None:
    assert asyncio.run(push(tmp_path, [{"aux": {"Digest": "sha256:1"}}])) == "sha256:1"
