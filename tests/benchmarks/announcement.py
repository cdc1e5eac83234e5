"""From the announcement of a release to its container's start, when its image is there already.

    .venv/bin/python -m tests.benchmarks.announcement [--times 20] [--json]

The next release has the same image and another variable, so nothing is downloaded, and the old
container (which ends at once when it is told to) is replaced. The clock begins when the api writes
the announcement into the device's event stream, and ends at the engine's `StartedAt`. The
supervisor is a process of this machine, before a cloud of the tests.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import docker
from docker.models.containers import Container

from tests.benchmarks import machine
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    import_busybox,
    remove_images,
    run_registry,
    wait_until,
)

SILENT = "trap 'exit 0' TERM; while true; do sleep 1000 & wait; done"


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds from the announcement until the new container was created, and was started."""

    created: float
    started: float


def _moment(text: str) -> float:
    """Seconds since the epoch of the engine's time, which has nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def sample(cloud: Cloud, device: Device, image: str, number: int) -> Sample:
    """Announce the next release, and wait for it."""
    old = device.service()
    before = cloud.announced_at
    environment = {"NUMBER": str(number)}
    cloud.apps = device.app(
        f"{number:040x}", {"main": {"image": image, "environment": environment}}
    )

    def replaced() -> Container | None:
        found = device.service()
        return found if found is not None and found != old else None

    container: Container = wait_until("the next release", replaced, every=0.2)
    assert cloud.announced_at > before
    attributes = container.attrs
    return Sample(
        created=_moment(attributes["Created"]) - cloud.announced_at,
        started=_moment(attributes["State"]["StartedAt"]) - cloud.announced_at,
    )


def measure(times: int, say: Callable[[str], None]) -> list[Sample]:
    """So many updates of one device, one after the other."""
    engine = docker.from_env()
    with tempfile.TemporaryDirectory() as work:
        import_busybox(engine, Path(work))
    container, address = run_registry(engine)
    cloud = Cloud()
    cloud.start()
    try:
        with tempfile.TemporaryDirectory() as home:
            device = Device(Path(home), engine, cloud, address)
            try:
                image = Registry(engine, address).push(SILENT)
                cloud.apps = device.app("aaa1", {"main": {"image": image}})
                device.start()
                wait_until("the first release", device.service)
                found = []
                for number in range(times):
                    time.sleep(5.0)  # until all is quiet again
                    found.append(sample(cloud, device, image, number))
                    say(f"update {number + 1} of {times}: {found[-1].started:.2f} s")
                return found
            finally:
                device.clean_up()
    finally:
        cloud.stop()
        container.remove(force=True, v=True)
        remove_images(engine, address)
        engine.close()


def report(found: list[Sample]) -> str:
    """A table of them."""
    rows = [
        [
            "the new container is created",
            machine.spread([each.created * 1000 for each in found], "ms"),
        ],
        [
            "the new container is started",
            machine.spread([each.started * 1000 for each in found], "ms"),
        ],
    ]
    return machine.table(["from the announcement until", f"of {len(found)} updates"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20, help="updates")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    options = parser.parse_args()
    found = measure(options.times, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    print(json.dumps([asdict(each) for each in found]) if options.json else report(found))


if __name__ == "__main__":
    main()
