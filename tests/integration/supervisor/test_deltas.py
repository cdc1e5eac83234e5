"""Updates by delta: a real engine, registry and supervisor, and deltas made by the library. The
server of deltas is a small one, which misbehaves on command; tests/e2e has the fleet's own."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gantry.contracts.bundle import local_tag
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    remove_images,
    wait_until,
)
from tests.integration.supervisor.delta_server import DeltaServer
from tests.integration.supervisor.doorway import Proxy

FOREVER = b"echo begun; while true; do sleep 1; done"
BASE = random.Random(1).randbytes(3_000_000)  # noqa: S311 (what is large and cannot be packed)


class Site:
    """A device whose fleet has a delta server, and its first release, which runs."""

    def __init__(
        self, device: Device, cloud: Cloud, registry: Registry, server: DeltaServer, proxy: Proxy
    ) -> None:
        self.device = device
        self.cloud = cloud
        self.registry = registry
        self.server = server
        self.proxy = proxy
        root = device.engine.info()
        device.environment["ENGINE_STORAGE"] = root["DockerRootDir"]
        device.write_config(
            device.config | {"deltaEndpoint": server.url, "registryEndpoint": proxy.address}
        )
        cloud.config = {"BALENA_SUPERVISOR_DELTA_RETRY_INTERVAL": "300"}
        self.ballast = os.urandom(2_000_000)

    def push(self, *changes: bytes) -> str:
        """A release like all others of this site, but for these changes of its application."""
        application = b"".join((self.ballast, *changes))
        image = self.registry.push_layers([{"base": BASE}, {"run": FOREVER, "app": application}])
        return image.replace(self.registry.address, self.proxy.address, 1)

    def make(self, first: str, second: str) -> int:
        """Make the delta; its size."""
        back = (self.proxy.address, self.registry.address)
        size = self.server.make([first.replace(*back)], second.replace(*back))
        (content,) = [self.server.pairs.popitem()[1]]
        self.server.pairs[frozenset([first]), second] = content
        return size

    def run(self, image: str, commit: str = "aaa1") -> None:
        """Aim at this image; it is to run later."""
        self.cloud.apps = self.device.app(commit, {"main": {"image": image}})

    def runs(self, image: str) -> Callable[[], bool]:
        """Whether it runs, alone."""
        names = (image, image.replace("@sha256:", ":sha256-"))

        def check() -> bool:
            return [e.attrs["Config"]["Image"] for e in self.device.containers()] in (
                [names[0]],
                [names[1]],
            )

        return check

    def begin(self) -> tuple[str, str, int]:
        """Have the first release run; it, the next one, and the delta's size."""
        first, second = self.push(), self.push(b"and more")
        size = self.make(first, second)
        self.run(first)
        self.device.start()
        wait_until("the first release", self.runs(first))
        return first, second, size

    def is_clean(self) -> bool:
        """Whether nothing is left behind but images by their names."""
        folder = self.device.home / "data" / "deltas"
        files = [*folder.iterdir()] if folder.exists() else []
        names = [e for e in image_names(self.device.engine) if self.device.instance in e]
        return not files and not names and not self.children()

    def children(self) -> list[int]:
        """Processes that rebuild layers for this device."""
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = each.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"gantry.deltas.apply" in words and str(self.device.home).encode() in words[-3]:
                found.append(int(each.parent.name))
        return found


@pytest.fixture
def site(device: Device, cloud: Cloud, registry: Registry, tmp_path: Path) -> Iterator[Site]:
    server = DeltaServer(tmp_path / "deltas")
    host, port = registry.address.split(":")
    with Proxy("127.0.0.1", (host, int(port))) as proxy:
        one = Site(device, cloud, registry, server, proxy)
        try:
            yield one
        finally:
            server.close()
            remove_images(device.engine, proxy.address)


def test_a_release_comes_by_delta_and_is_the_one_that_a_pull_gives(site: Site) -> None:
    _, second, size = site.begin()
    assert size < 2000
    passed, site.server.working = site.proxy.passed, 1
    site.run(second, "bbb2")
    wait_until("the second release", site.runs(second))
    log = site.device.log()
    assert f"Downloading delta for image '{second}' ({size / 1000:.1f} kB instead of 2.0 MB)" in log
    assert f"Downloaded image '{second}'" in log
    assert f"Downloading image '{second}'" not in log
    assert site.proxy.passed - passed < 10_000, "a layer was downloaded"
    assert site.server.sent == size
    wait_until("nothing is left", site.is_clean)
    here = site.device.engine.images.get(str(local_tag(second)))
    assert here.id == site.device.engine.images.pull(second).id
