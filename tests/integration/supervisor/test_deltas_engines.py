"""Updates by delta with engines of their own: another store, one that is killed, a full disk."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from gantry.contracts.bundle import local_tag
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.delta_server import DeltaServer
from tests.integration.supervisor.delta_site import Site
from tests.integration.supervisor.doorway import Proxy
from tests.integration.supervisor.own_engine import OwnEngine
from tests.integration.supervisor.second_engine import Bridge, SecondEngine

pytestmark = pytest.mark.soak
MakeSite = Callable[[docker.DockerClient, str, Path | None], Site]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


@pytest.fixture
def make(stack: ExitStack, cloud: Cloud, registry: Registry, tmp_path: Path) -> MakeSite:
    """A device with this engine (its client and socket)."""

    def site(client: docker.DockerClient, socket: str, root: Path | None) -> Site:
        server = DeltaServer(tmp_path / "deltas")
        stack.callback(server.close)
        host, port = registry.address.split(":")
        proxy = stack.enter_context(Proxy("127.0.0.1", (host, int(port))))
        device = Device(tmp_path, client, cloud, registry.address)
        device.environment["DOCKER_SOCKET"] = socket
        stack.callback(device.clean_up)
        stack.callback(lambda: print(device.log() if (tmp_path / "log").exists() else ""))
        return Site(device, cloud, registry, server, proxy, root)

    return site


def test_containerds_store_takes_deltas_too(
    stack: ExitStack, engine: docker.DockerClient, make: MakeSite, tmp_path: Path
) -> None:
    bridge = Bridge()
    stack.callback(bridge.close)
    own = OwnEngine(engine, tmp_path, snapshotter=True, bridge=bridge.name)
    stack.callback(own.close)
    assert own.client.info()["Driver"] == "overlayfs"
    site = make(own.client, str(own.socket), Path(str(own.storage)))
    site.host_network = True
    second, size = site.begin()
    third = site.push(b"and still more")
    more = site.make(second, third)
    passed = site.proxy.passed
    for image, commit in ((second, "bbb2"), (third, "ccc3")):
        site.run(image, commit)
        wait_until(f"release {commit}", site.runs(image))
        wait_until("nothing is left", site.is_clean)
    assert site.server.sent == size + more
    assert site.proxy.passed - passed < 20_000, "a layer was downloaded"
    # It is not cleaned away as a stranger under the digest that this store gives it.
    time.sleep(2)
    layers = site.layers(third)
    site.device.kill()
    wait_until("it ended", site.device.has_ended)
    own.client.images.remove(str(local_tag(third)), force=True)
    assert own.client.images.pull(third).attrs["RootFS"]["Layers"] == layers


@pytest.fixture
def second(stack: ExitStack, make: MakeSite) -> Site:
    """A device with an engine like this machine's, of its own, on a small disk."""
    # Short: sockets are in it.
    place = Path(tempfile.mkdtemp(prefix="engine"))
    stack.callback(place.rmdir)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", place], check=True)
    # It leaves a mount of its own there.
    stack.callback(lambda: subprocess.run(["umount", "--recursive", place], check=True))
    own = SecondEngine(place)
    stack.callback(own.close)
    site = make(own.client, own.socket, None)
    site.host_network = True
    site.second = own
    return site


def test_an_engine_that_is_killed_as_it_pulls_goes_on_with_the_delta(second: Site) -> None:
    site = second
    site.cloud.config |= {"BALENA_SUPERVISOR_DELTA_RETRY_INTERVAL": "15000"}
    image, size = site.begin(os.urandom(500_000))
    assert site.second is not None
    site.run(image, "bbb2")
    wait_until("it is being applied", site.children, every=0.005)
    site.second.kill()
    site.second.start()
    wait_until("the second release", site.runs(image))
    assert site.says(f"Failed to download delta for image '{image}': engine at ")
    assert not site.says(f"Downloading image '{image}'")
    assert site.server.sent == size
    wait_until("nothing is left", site.is_clean)


def test_a_disk_that_is_too_full_is_said_and_nothing_is_left(second: Site) -> None:
    site = second
    image, _ = site.begin(os.urandom(30_000_000))
    # The supervisor's own folder is on a larger disk here, so that its look beforehand finds room.
    filler = site.root.parent / "filler"
    free = os.statvfs(site.root).f_bavail * os.statvfs(site.root).f_frsize
    filler.write_bytes(bytes(free - 20_000_000))
    site.run(image, "bbb2")
    wait_until("it is told", lambda: site.says(f"No delta for image '{image}': "))
    wait_until("the pull fails too", lambda: site.says(f"Failed to download image '{image}'"))
    assert "no space left on device" in site.device.log()
    assert site.runs(site.first)()
    filler.unlink()
    wait_until("the second release", site.runs(image), seconds=120)
    wait_until("nothing is left", site.is_clean)
