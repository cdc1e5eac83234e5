"""The supervisor's resident memory, idle and busy, and its idle CPU, in its own image on amd64.

    .venv/bin/python -m tests.benchmarks.supervisor_memory [--seconds 60] [--json]

Idle: one application that says nothing, poll interval of 900 s, announcements followed. Busy: two
applications that write 100 lines a second each, a poll every second, a release of 60 MB pulled and
started, reports. The figures are of the process in the container, as the host's /proc has them.
"""

import argparse
import contextlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

from gantry.contracts.device_types import Architecture
from gantry.deployment.images import build_image
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    import_busybox,
    remove_images,
    run_registry,
    wait_until,
)

TALK = "while true; do for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; sleep 0.1; done"


@dataclass(frozen=True, slots=True)
class Figures:
    """Megabytes are of 1024², as the aims are."""

    idle_rss_mb: float
    idle_cpu_percent: float
    busy_rss_mb: float
    busy_peak_rss_mb: float
    busy_cpu_percent: float


def memory(process: int) -> tuple[float, float]:
    """Resident megabytes now, and at most since they were last reset."""
    fields = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = rest.split()[0] if rest.split() else ""
    return int(fields["VmRSS"]) / 1024, int(fields["VmHWM"]) / 1024


def cpu_seconds(process: int) -> float:
    """Time on the CPU, in seconds (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def observe(process: int, seconds: float) -> tuple[float, float, float]:
    """Mean resident megabytes, their peak and the share of a core, over this time."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{process}/clear_refs").write_text("5")
    before, start = cpu_seconds(process), time.monotonic()
    samples = []
    while time.monotonic() - start < seconds:
        samples.append(memory(process)[0])
        time.sleep(0.5)
    share = (cpu_seconds(process) - before) / (time.monotonic() - start) * 100
    return sum(samples) / len(samples), max(max(samples), memory(process)[1]), share


@contextlib.contextmanager
def supervisor(engine: docker.DockerClient, device: Device, image: str) -> Iterator[Container]:
    """The supervisor in its image, for the device's directories."""
    (device.home / "data").mkdir()
    container = engine.containers.run(
        image,
        detach=True,
        name=f"supervisor-bench-{secrets.token_hex(4)}",
        network_mode="host",
        environment={
            "LISTEN_PORT": str(device.port),
            "LISTEN_ADDRESS": "127.0.0.1",
            "GANTRY_INSTANCE": device.instance,
            "HOST_RUNTIME_DIRECTORY": str(device.home / "runtime"),
        },
        volumes=[
            f"{device.boot}:/mnt/boot",
            f"{device.home / 'data'}:/data",
            "/var/run/docker.sock:/var/run/docker.sock",
        ],
    )
    try:
        yield container
    finally:
        print(container.logs(tail=5).decode(), file=sys.stderr)
        container.remove(force=True, v=True)


def measure(engine: docker.DockerClient, registry: Registry, seconds: float) -> Figures:
    """Run the supervisor and look at it."""
    image = build_image("supervisor", lambda *_: None, arch=Architecture.AMD64).tag
    cloud = Cloud()
    cloud.start()
    with tempfile.TemporaryDirectory() as home:
        device = Device(Path(home), engine, cloud, registry.address)
        try:
            silent = registry.push("trap 'exit 0' TERM; while true; do sleep 1000 & wait; done")
            # A release that has just begun is watched: that is not idling.
            cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "0"}
            cloud.apps = device.app("aaa1", {"main": {"image": silent}})
            with supervisor(engine, device, image) as container:
                wait_until("the first release", device.service, 60)
                container.reload()
                process = int(container.attrs["State"]["Pid"])
                time.sleep(20.0)
                idle = observe(process, seconds)
                busy = make_busy(cloud, device, registry, process, seconds)
        finally:
            device.clean_up()
            cloud.stop()
    return Figures(idle[0], idle[2], busy[0], busy[1], busy[2])


def make_busy(
    cloud: Cloud, device: Device, registry: Registry, process: int, seconds: float
) -> tuple[float, float, float]:
    """Logs, polls and updates at once."""
    services: dict[str, dict[str, Any]] = {
        name: {"image": registry.push(TALK, ballast=60_000_000)} for name in ("one", "two")
    }
    cloud.config |= {"BALENA_SUPERVISOR_POLL_INTERVAL": "1000"}
    cloud.apps = device.app("bbb2", services)
    figures = observe(process, seconds)
    assert len(cloud.messages(serviceName="one")) > 10 * seconds
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each measurement")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    options = parser.parse_args()
    engine = docker.from_env()
    with tempfile.TemporaryDirectory() as work:
        import_busybox(engine, Path(work))
    container, address = run_registry(engine)
    try:
        figures = measure(engine, Registry(engine, address), options.seconds)
    finally:
        container.remove(force=True, v=True)
        remove_images(engine, address)
    if options.json:
        print(json.dumps(asdict(figures)))
        return
    print(f"idle  {figures.idle_rss_mb:5.1f} MB  {figures.idle_cpu_percent:5.2f} % of a core")
    print(
        f"busy  {figures.busy_rss_mb:5.1f} MB  {figures.busy_cpu_percent:5.2f} % of a core"
        f"  (at most {figures.busy_peak_rss_mb:.1f} MB)"
    )


if __name__ == "__main__":
    main()
