"""The ports of a server, before anybody has shown who they are."""

import asyncio
import contextlib
import socket
import tracemalloc
from pathlib import Path

import httpx2

from gantry.deployment.certificates import issue, make_authority
from gantry.vpn.service import Service
from tests.ports import free_port

from .parts import CONFIG

CONNECTIONS = 20
# 1,000 of them must leave room for devices in 512 MiB.
MOST_BYTES = 128 * 1024


def test_who_has_only_connected_costs_little(tmp_path: Path) -> None:
    pair = issue(make_authority("Test"), "vpn.x", dns_names=["vpn.x"])
    (tmp_path / "tls.crt").write_text(pair.certificate_pem)
    (tmp_path / "tls.key").write_text(pair.key_pem)
    names = ("openvpn", "tunnels", "services", "public_urls", "health")
    ports = dict(zip(names, (free_port() for _ in names), strict=True))
    listen = CONFIG.listen.model_copy(update={"host": "127.0.0.1", **ports})
    config = CONFIG.model_copy(update={"certificates": tmp_path, "listen": listen})

    async def run() -> None:
        async with httpx2.AsyncClient() as client, contextlib.AsyncExitStack() as stack:
            await Service(config, client).listen(stack)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(CONNECTIONS):
                there = stack.enter_context(socket.socket())
                there.setblocking(False)
                await asyncio.get_running_loop().sock_connect(
                    there, ("127.0.0.1", ports["tunnels"])
                )
            await asyncio.sleep(0.2)
            each = (tracemalloc.get_traced_memory()[0] - before) / CONNECTIONS
            tracemalloc.stop()
            assert 0 < each < MOST_BYTES
        await asyncio.sleep(0.2)  # their ends are seen

    asyncio.run(run())
