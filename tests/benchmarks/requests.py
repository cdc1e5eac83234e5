"""What a poll and a report cost the api: its processor time, in ms.

.venv/bin/python -m tests.benchmarks.requests [--count 600]
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks import machine
from tests.benchmarks.devices import cloud_side


def processor_seconds(process: int) -> float:
    """What a process and its threads have used, from /proc (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Take the figures: one client, requests one after the other."""
    parser = argparse.ArgumentParser(description="processor time of the api, for each request")
    parser.add_argument("--count", type=int, default=600, help="of each; default: 600")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder, cloud_side(Path(folder)) as cloud:
        cloud.fleet.release()
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
            rows.append([name, f"{spent / count * 1000:.1f}"])
    print(machine.table(["request", "ms"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
