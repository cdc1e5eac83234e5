"""What devices cost the api: processor time of a request in ms, and what an open stream takes.

.venv/bin/python -m tests.benchmarks.requests [--count 600] [--streams 400]
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from gantry.simulator.servers import look
from tests.benchmarks import machine
from tests.benchmarks.devices import CloudSide, cloud_side
from tests.integration.api.conftest import Device

WATCHED_SECONDS = 30.0


def processor_seconds(process: int) -> float:
    """What a process and its threads have used, from /proc (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests(cloud: CloudSide, count: int) -> list[list[str]]:
    """The time of each kind of request: one client, one after the other."""
    device = cloud.fleet.register()
    path = f"/device/v3/{device.uuid}/state"
    known = {"If-None-Match": device.client.get(path).headers["etag"]}
    kinds: Mapping[str, Callable[[int], Any]] = {
        "state poll, nothing new (304)": lambda _: device.client.get(path, headers=known),
        "state poll, new target (200)": lambda _: device.client.get(path),
        "report of figures": lambda number: device.client.patch(
            "/device/v3/state", json={device.uuid: {"cpu_usage": number % 100}}
        ),
    }
    rows = []
    for name, ask in kinds.items():
        for number in range(100):
            ask(number)
        before = processor_seconds(cloud.processes["api"])
        for number in range(count):
            assert ask(number).status_code in (200, 304)
        spent = processor_seconds(cloud.processes["api"]) - before
        rows.append([name, f"{spent / count * 1000:.1f} ms"])
    return rows


def streams(cloud: CloudSide, count: int) -> list[list[str]]:
    """What so many streams take that are open at once."""
    process = cloud.processes["api"]
    before = processor_seconds(process)
    devices = [cloud.fleet.register() for _ in range(count)]
    rows = [["registration", _each(process, before, count)]]
    memory = look({"api": process})["api"].memory

    async def watched() -> None:
        async with AsyncExitStack() as held:
            begun = processor_seconds(process)
            for device in devices:
                await _open(cloud, device, held)
            rows.append(["stream of announcements, opened", _each(process, begun, count)])
            taken = look({"api": process})["api"].memory - memory
            rows.append(["the same, held open", f"{taken / count / 1024:.0f} KiB"])
            await asyncio.sleep(1.0)
            begun = processor_seconds(process)
            await asyncio.sleep(WATCHED_SECONDS)
            minutes = count * WATCHED_SECONDS / 60.0
            rows.append(["its signs of life in a minute", _each(process, begun, minutes)])

    asyncio.run(watched())
    return rows


def _each(process: int, begun: float, count: float) -> str:
    return f"{(processor_seconds(process) - begun) / count * 1000:.1f} ms"


async def _open(cloud: CloudSide, device: Device, held: AsyncExitStack) -> None:
    """Open a stream, without a client whose own work would be most of it."""
    port = cloud.fleet.api.config["listen_port"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    held.callback(writer.close)
    request = (
        f"GET /device/v3/{device.uuid}/events HTTP/1.1\r\nHost: api\r\n"
        f"Authorization: Bearer {device.key}\r\nAccept: text/event-stream\r\n\r\n"
    )
    writer.write(request.encode())
    await reader.readuntil(b"event: target")


def main(arguments: Sequence[str] | None = None) -> int:
    """Take the figures."""
    parser = argparse.ArgumentParser(description="what devices cost the api")
    parser.add_argument("--count", type=int, default=600, help="of each; default: 600")
    parser.add_argument("--streams", type=int, default=400, help="open at once; default: 400")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, cloud_side(Path(folder)) as cloud:
        cloud.fleet.release()
        rows = [*requests(cloud, asked.count), *streams(cloud, asked.streams)]
    print(machine.table(["what", "of the api"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
