"""The HTTP API over a real socket."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from gantry.supervisor import httpserver, web
from gantry.supervisor.keys import EVERYTHING, Scope


class Stub:
    """A supervisor that is as the test wants it, and waits to be provisioned."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def scope_of(self, key: str) -> Scope | None:
        return EVERYTHING if key == "right" else None

    def asks_no_key(self) -> bool:
        return False

    def complaints(self) -> list[str]:
        return self.wrong

    def bundles(self) -> Any:
        """Nobody asks for them here."""

    def services(self) -> None:
        return None


Scenario = Callable[[Stub, httpx2.AsyncClient, int], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        stub = Stub()
        server = await httpserver.serve(web.application(stub), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await scenario(stub, client, port)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_ping_and_health_need_no_key() -> None:
    async def scenario(stub: Stub, client: httpx2.AsyncClient, _port: int) -> None:
        assert (await client.get("/ping")).text == "OK"
        assert (await client.get("/v1/healthy")).status_code == 200
        stub.wrong = ["stuck"]
        assert (await client.get("/v1/healthy")).status_code == 500
        assert (await client.get("/nothing")).status_code == 404
        assert (await client.post("/ping")).status_code == 405
        assert (await client.head("/ping")).status_code == 200

    run(scenario)


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("", None, 401),
        ("?apikey=wrong", None, 401),
        ("?apikey=", None, 401),
        ("?apikey=right", None, 503),
        ("", "Bearer right", 503),
        ("", "ApiKey right", 503),
        ("", "Basic right", 401),
        ("", "Bearer", 401),
    ],
)
def test_a_key_is_given_in_either_way(query: str, header: str | None, status: int) -> None:
    async def scenario(_stub: Stub, client: httpx2.AsyncClient, _port: int) -> None:
        headers = {"Authorization": header} if header else {}
        answer = await client.get(f"/v1/device{query}", headers=headers)
        assert answer.status_code == status
        if status == 503:
            assert "not provisioned yet" in answer.json()["message"]

    run(scenario)


def test_bodies() -> None:
    async def scenario(_stub: Stub, client: httpx2.AsyncClient, _port: int) -> None:
        async def many() -> Any:
            for _ in range(11):
                yield b" " * 1024**2

        url = "/v1/update?apikey=right"
        for content in (b'{"force": true}', b"{}", b"", b" "):
            assert (await client.post(url, content=content)).status_code == 503
        assert (await client.post(url, data={"force": "true"})).status_code == 503
        for content in (b"not json", b"[]", b'"force"', b"[" * 100_000):
            answer = await client.post(url, content=content)
            assert answer.status_code == 400
            assert answer.json()["status"] == "failed"
        assert (await client.post(url, content=many())).status_code == 413

    run(scenario)


def test_what_is_no_http_is_refused_and_silence_ends() -> None:
    async def scenario(_stub: Stub, client: httpx2.AsyncClient, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        await writer.wait_closed()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ping HTTP/1.1\r\nX: " + b"y" * 40_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431")
        writer.close()
        await writer.wait_closed()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        assert (await client.get("/ping")).text == "OK"

    run(scenario)


def test_too_many_connections_are_turned_away() -> None:
    async def scenario(_stub: Stub, client: httpx2.AsyncClient, port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(64)]
        await asyncio.sleep(0.1)
        with pytest.raises(httpx2.HTTPError):
            await client.get("/ping")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.1)
        assert (await client.get("/ping")).text == "OK"

    run(scenario)


def test_one_address_does_not_keep_others_out() -> None:
    async def scenario(_stub: Stub, client: httpx2.AsyncClient, port: int) -> None:
        held = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            for _ in range(70)
        ]
        await asyncio.sleep(0.1)
        assert (await client.get("/ping")).text == "OK"
        for _, writer in held:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    run(scenario)
