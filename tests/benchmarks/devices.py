"""Simulated devices before an api and a PostgreSQL that are set up as a fleet's are.

    .venv/bin/python -m tests.benchmarks.devices --devices 100,1000,10000 [--duration 600]

The api is a process, as in its container; PostgreSQL is the fleet's image with the fleet's settings
and limit of memory. Both are this benchmark's own, and gone afterwards.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg
from docker.models.containers import Container

from gantry.deployment.images import build_image
from gantry.simulator import results
from gantry.simulator.simulation import Plan, Simulation
from tests.benchmarks import machine
from tests.integration.api.conftest import Api, Fleet, make_config
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
POSTGRES_USER = 10002
# What the fleet's program says of its services; read in a process of its own, for its modules'
# names are short.
_DEPLOYED = """
import dataclasses, json, config, postgres
memory = config.Memory()
print(json.dumps({"settings": postgres.SETTINGS, "api": memory.api, "postgres": memory.postgres}))
"""


@dataclass(frozen=True)
class CloudSide:
    """An api with its PostgreSQL, and an application of the administrator's.

    `limits` are the deployed services' limits of memory in MiB, by name; `database` is the name of
    PostgreSQL's container.
    """

    api: Api
    database: str
    fleet: Fleet
    processes: Mapping[str, int]
    limits: Mapping[str, int]


def deployed() -> dict[str, Any]:
    """PostgreSQL's settings and the limits of memory (MiB) of a fleet's program."""
    path = os.pathsep.join((str(ROOT / "infra"), str(ROOT / "src")))
    command = [sys.executable, "-c", _DEPLOYED]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def cloud_side(folder: Path) -> Iterator[CloudSide]:
    """An api and a PostgreSQL of their own; the api's files are in `folder`."""
    settings = deployed()
    with _postgres(settings) as (container, url):
        config = make_config(url, free_port())
        api = Api(config, folder / "api.json", folder / "api.log")
        os.environ["MALLOC_ARENA_MAX"] = "2"  # as in the api's image
        api.start()
        try:
            api.wait()
            assert api.process is not None
            processes = {"api": api.process.pid, "postgres": container.attrs["State"]["Pid"]}
            limits = {name: settings[name] for name in processes}
            fleet = Fleet(api, api.login(), f"admin/{config['fleet']}")
            yield CloudSide(api, container.name, fleet, processes, limits)
        finally:
            api.stop()


@contextlib.contextmanager
def _postgres(settings: Mapping[str, Any]) -> Iterator[tuple[Container, str]]:
    client = docker.from_env(timeout=600)
    password = secrets.token_hex(16)
    limit = settings["postgres"] * 1024**2
    container = client.containers.create(
        build_image("postgres", lambda _: None, client=client).tag,
        name=f"benchmark-postgres-{secrets.token_hex(4)}",
        mem_limit=limit,
        memswap_limit=limit,
    )
    try:
        files = {"postgres-password": password, "postgresql.conf": settings["settings"]}
        container.put_archive("/", _archive(files))
        container.start()
        container.reload()
        # Its own address: Docker's proxy for published ports would be a server more.
        address = container.attrs["NetworkSettings"]["IPAddress"]
        url = f"postgresql://gantry:{password}@{address}:5432/gantry"
        _wait(url, container)
        yield container, url
    finally:
        container.remove(force=True, v=True)
        client.close()


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"etc/gantry/{name}")
            entry.size, entry.mode = len(text.encode()), 0o400
            entry.uid = entry.gid = POSTGRES_USER
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _wait(url: str, container: Container, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=2).close()
            return
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.2)


def document(fleet: Fleet, **more: Any) -> dict[str, Any]:
    """A config.json for devices of this application, which reach its api without a proxy."""
    answer = fleet.user.post("/download-config", json={"appId": fleet.id})
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "apiEndpoint": fleet.api.url, "balenaRootCA": "", **more}


def measure(cloud: CloudSide, plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """The figures of one simulation; a release is there before the devices are, and another is
    made where the plan has one."""
    cloud.fleet.release()
    simulation = Simulation(
        document(cloud.fleet),
        plan,
        say,
        lambda: str(cloud.fleet.release()["commit"]),
        cloud.processes,
    )
    return asyncio.run(_until_ctrl_c(simulation))


async def _until_ctrl_c(simulation: Simulation) -> dict[str, Any]:
    """The figures until the end, or until then."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    return await simulation.run(stop)


def report(found: list[dict[str, Any]]) -> str:
    """A column for each number of devices."""
    head = ["", *(f"{each['devices']:,} devices" for each in found)]
    rows = [[name, *(value(each) for each in found)] for name, value in _ROWS.items()]
    return machine.table(head, rows)


def _milliseconds(kind: str, phase: str | None = None) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        kinds = found["phases"][phase] if phase else found["requests"]
        each = kinds.get(kind)
        return f"{each['p50']:.0f} / {each['p99']:.0f} / {each['max']:.0f}" if each else "–"

    return text


def _seconds(what: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        for release in found["releases"].values():
            each = release[what]
            return f"{each['p50']:.1f} / {each['p99']:.1f} / {each['max']:.1f}"
        return "–"

    return text


def _cores(phase: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        cores = found["servers"]["cores"].get(phase, {})
        return ", ".join(f"{name} {each:.2f}" for name, each in cores.items()) or "–"

    return text


def _after_release(found: dict[str, Any]) -> str:
    peaks = (each["peak_requests_per_second"] for each in found["releases"].values())
    return str(next(peaks, "–"))


_ROWS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "state polls, ms (p50 / p99 / most)": _milliseconds("state"),
    "the same, at rest": _milliseconds("state", "steady"),
    "the same, after a release": _milliseconds("state", "release"),
    "reports, ms": _milliseconds("report"),
    "registrations, ms": _milliseconds("register"),
    "release seen, s": _seconds("seen"),
    "release runs, s": _seconds("running"),
    "most requests in a second": lambda found: str(found["peak_requests_per_second"]),
    "most of them after the release": _after_release,
    "cores at rest": _cores("steady"),
    "cores after a release": _cores("release"),
    "memory, MiB": lambda found: ", ".join(
        f"{name} {each}" for name, each in found["servers"]["memory"].items()
    ),
    "errors": lambda found: str(sum(found["errors"].values())),
}


def main() -> int:
    """Take the figures, each number of devices with servers of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="100,1000,10000", help="numbers of devices")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds of each")
    parser.add_argument("--ramp", type=float, help="seconds; else 12 devices a second")
    parser.add_argument("--scale", type=float, default=1.0, help="as fast as real devices")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    found = []
    print(f"{machine.describe()}; {time.strftime('%Y-%m-%d')}\n", flush=True)
    for count in map(int, options.devices.split(",")):
        plan = Plan(
            devices=count,
            duration=options.duration,
            ramp=count / 12 if options.ramp is None else options.ramp,
            scale=options.scale,
            release_after=options.duration / 10,
        )
        before = machine.load()
        with tempfile.TemporaryDirectory() as folder, cloud_side(Path(folder)) as cloud:
            one = measure(cloud, plan, lambda text: print(f"  {text}", file=sys.stderr))
        found.append(one)
        for line in results.lines(one):
            print(line)
        print(f"load before and after: {before:.1f}, {machine.load():.1f}\n", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(report(found))
    return 1 if any(each["errors"] for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
