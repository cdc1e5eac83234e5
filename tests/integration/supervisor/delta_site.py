"""A device with a delta server, and releases that are much alike."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import docker

from gantry.contracts.bundle import local_tag
from gantry.supervisor.storage import Overlay2, chain_ids
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    wait_until,
)
from tests.integration.supervisor.delta_server import DeltaServer
from tests.integration.supervisor.doorway import Proxy
from tests.integration.supervisor.second_engine import SecondEngine

FOREVER = b"echo begun; while true; do sleep 1; done"


class Site:
    """A device whose fleet has a delta server, and its releases. `root` is where its engine's
    storage is, if not where the engine says."""

    def __init__(
        self,
        device: Device,
        cloud: Cloud,
        registry: Registry,
        server: DeltaServer,
        proxy: Proxy,
        root: Path | None = None,
    ) -> None:
        self.device = device
        self.cloud = cloud
        self.registry = registry
        self.server = server
        self.proxy = proxy
        self.root = root or Path(device.engine.info()["DockerRootDir"])
        device.environment["ENGINE_STORAGE"] = str(self.root)
        device.write_config(
            device.config | {"deltaEndpoint": server.url, "registryEndpoint": proxy.address}
        )
        cloud.config = {"BALENA_SUPERVISOR_DELTA_RETRY_INTERVAL": "300"}
        self.base, self.ballast = os.urandom(3_000_000), os.urandom(2_000_000)
        self.first = ""
        # Where the engine has no network of its own that works.
        self.host_network = False
        self.second: SecondEngine | None = None

    def push(self, change: bytes = b"", repository: str | None = None) -> str:
        """A release like all others of this site, but for what its application has more."""
        application = self.ballast + change
        image = self.registry.push_layers(
            [{"base": self.base}, {"run": FOREVER, "app": application}], repository
        )
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
        composition = {"network_mode": "host"} if self.host_network else {}
        service = {"image": image, "composition": composition}
        self.cloud.apps = self.device.app(commit, {"main": service})

    def runs(self, image: str) -> Callable[[], bool]:
        """Whether it runs, alone."""
        names = (image, image.replace("@sha256:", ":sha256-"))

        def check() -> bool:
            return [e.attrs["Config"]["Image"] for e in self.device.containers()] in (
                [names[0]],
                [names[1]],
            )

        return check

    def begin(self, change: bytes = b"and more") -> tuple[str, int]:
        """Have the first release run; the next one, and the size of its delta."""
        self.first, second = self.push(), self.push(change)
        size = self.make(self.first, second)
        self.run(self.first)
        self.device.start()
        wait_until("the first release", self.runs(self.first))
        return second, size

    def layers(self, image: str) -> list[str]:
        """The diffIDs of an image that is here."""
        for name in (image, str(local_tag(image))):
            with suppress(docker.errors.ImageNotFound):
                return list(self.device.engine.images.get(name).attrs["RootFS"]["Layers"])
        raise AssertionError(f"{image} is not here")

    def folders(self, image: str) -> list[Path]:
        """Where the engine has the files of an image's layers."""
        storage = Overlay2(self.root)
        return [Path(str(storage.folder(each))) for each in chain_ids(self.layers(image))]

    def key(self) -> str:
        """The key of the device's HTTP API that opens everything."""
        return str(self.cloud.reported()["api_secret"])

    def lost_power(self) -> None:
        """Take the supervisor's power away, and give it back."""
        self.device.kill()
        wait_until("it ended", self.device.has_ended)
        wait_until("no child goes on without it", lambda: not self.children(), every=0.02)
        self.device.start()

    def says(self, text: str) -> bool:
        """Whether the supervisor has said this."""
        return text in self.device.log()

    def is_clean(self) -> bool:
        """Whether nothing is left behind but images by their names."""
        folder = self.device.home / "data" / "deltas"
        files = [*folder.iterdir()] if folder.exists() else []
        names = [e for e in image_names(self.device.engine) if self.device.instance in e]
        return not files and not names and not self.children()

    def file(self, size: int) -> Path | None:
        """The delta that is here, once it has this size."""
        folder = self.device.home / "data" / "deltas"
        files = [*folder.iterdir()] if folder.exists() else []
        return next((each for each in files if each.stat().st_size == size), None)

    def children(self) -> list[int]:
        """Processes that rebuild layers for this device."""
        found = []
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = each.read_bytes().split(b"\0")
            except OSError:
                continue
            mine = any(str(self.device.home).encode() in word for word in words)
            if b"gantry.deltas.apply" in words and mine:
                found.append(int(each.parent.name))
        return found
