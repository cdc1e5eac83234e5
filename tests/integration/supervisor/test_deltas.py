"""Updates by delta: a real engine, registry and supervisor, and deltas made by the library. The
server of deltas is a small one, which misbehaves on command; tests/e2e has the fleet's own."""

import json
import os
import re
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import docker
import pytest

from gantry.contracts.bundle import local_tag
from tests.host_door import HostDoor
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    remove_images,
    wait_until,
)
from tests.integration.supervisor.delta_server import DeltaServer
from tests.integration.supervisor.delta_site import Site
from tests.integration.supervisor.doorway import Proxy


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
    second, size = site.begin()
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
    [asked] = site.cloud.tokens
    assert asked[0] == site.server.url.removeprefix("http://")
    assert asked[1] == [f"repository:{second.partition('/')[2].partition('@')[0]}:pull"]
    metrics = site.device.get("/metrics", headers={"Authorization": f"Bearer {site.key()}"}).text
    assert "gantry_supervisor_delta_images_total 1\n" in metrics
    assert f"gantry_supervisor_delta_bytes_total {size}\n" in metrics
    # Of images that came with the card the engine knows no blobs: `docker load` brings none.
    third = site.push(b"and still more")
    more = site.make(second, third)
    tables = site.root / "image/overlay2/distribution"
    for diff_id in site.layers(second)[1:]:
        known = tables / "v2metadata-by-diffid/sha256" / diff_id.partition(":")[2]
        for each in json.loads(known.read_text()):
            digest = each["Digest"].partition(":")[2]
            (tables / "diffid-by-digest/sha256" / digest).unlink(missing_ok=True)
        known.unlink()
    passed = site.proxy.passed
    site.run(third, "ccc3")
    wait_until("the third release", site.runs(third))
    assert site.proxy.passed - passed < 10_000, "a layer was downloaded"
    assert site.server.sent == size + more


def test_power_that_is_lost_costs_no_byte_twice(site: Site) -> None:
    second, size = site.begin(os.urandom(900_000))
    site.server.rate = 400_000
    site.run(second, "bbb2")
    wait_until("half of it is here", lambda: site.server.sent > size // 2, every=0.02)
    site.lost_power()
    # Only now: all that is left would be on its way before the power is lost.
    site.server.rate = None
    wait_until("it is being applied", site.children, every=0.005)
    # What was on its way when power was lost is all that is sent again.
    sent = site.server.sent
    assert size <= sent < size + 250_000
    site.lost_power()
    wait_until("the second release", site.runs(second))
    assert site.server.sent == sent
    assert not site.says(f"Downloading image '{second}'")
    spans = site.server.files()
    assert spans[0] is None
    assert len(spans) == 2
    assert int(str(spans[1]).removeprefix("bytes=").removesuffix("-")) > size // 4
    wait_until("nothing is left", site.is_clean)


def test_what_is_no_longer_wanted_ends_at_once_and_leaves_nothing(site: Site) -> None:
    second, size = site.begin(os.urandom(400_000))
    site.server.rate = 50_000
    site.run(second, "bbb2")
    wait_until("it is on its way", lambda: site.server.sent > 100_000)
    metrics = site.device.get("/metrics", headers={"Authorization": f"Bearer {site.key()}"}).text
    told = re.findall(r'^gantry_service_download(\w*)_bytes{.*,way="delta"} (.*)$', metrics, re.M)
    assert dict(told).keys() == {"", "_size"}
    assert 0 < float(dict(told)[""]) <= site.server.sent < float(dict(told)["_size"]) == size
    site.run(site.first)
    wait_until("nothing is left", site.is_clean, seconds=10)
    sent = site.server.sent
    time.sleep(1)
    assert site.server.sent <= sent + 16 * 1024
    # The same again, from the beginning, in the middle of its being applied.
    site.server.rate = None
    site.run(second, "bbb2")
    wait_until("it is being applied", site.children, every=0.005)
    site.run(site.first)
    wait_until("nothing is left", site.is_clean, seconds=10)
    assert site.runs(site.first)()


def test_one_that_would_take_longer_than_a_pull_is_not_waited_for(site: Site) -> None:
    second, _ = site.begin()
    site.server.working = 1000
    site.server.expected = {"seconds": 900, "size": 2000, "whole": 2_000_000}
    site.run(second, "bbb2")
    wait_until("the second release", site.runs(second))
    # The first release told how fast a pull is.
    assert site.says(
        f"No delta for image '{second}': it would be here in about 900 s, and a pull takes about "
    )
    assert site.server.working == 999
    third = site.push(b"and still more")
    site.make(second, third)
    site.server.working, site.server.expected = 1, {"seconds": 2}
    site.run(third, "ccc3")
    wait_until("the third release", site.runs(third))
    assert site.says(f"Waiting for the delta for image '{third}': it is being made, for about 2 s")
    assert not site.says(f"Downloading image '{third}'")


def test_what_cannot_be_applied_is_pulled_and_not_tried_again(site: Site) -> None:
    second, _ = site.begin()
    third = site.push(b"other things")
    site.make(second, third)
    pairs = site.server.pairs
    for pair, (content, whole) in pairs.items():
        if pair[1] == second:
            middle = len(content) * 3 // 4
            changed = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
            pairs[pair] = (changed, whole)
    # When its source has gone, it is forgotten: somebody else needs that here.
    holder = site.device.engine.containers.create(site.first)
    site.run(second, "bbb2")
    wait_until("the second release", site.runs(second))
    assert site.says(f"No delta for image '{second}': ")
    assert site.says(f"Downloading image '{second}'")
    assert len(site.server.files()) == 1
    # Nor after a restart, should it be wanted again.
    site.run(site.first)
    wait_until("the first release again", site.runs(site.first))
    site.lost_power()
    with suppress(docker.errors.ImageNotFound):
        site.device.engine.images.remove(second, force=True)
    site.run(second, "bbb2")
    wait_until("the second release again", site.runs(second))
    assert site.device.log().count(f"Downloading image '{second}'") == 2
    assert len(site.server.files()) == 1
    holder.remove()
    # What the next one is made from is changed where the engine has it.
    app = site.folders(second)[-1] / "app"
    app.write_bytes(b"?" + app.read_bytes()[1:])
    site.run(third, "ccc3")
    wait_until("the third release", site.runs(third))
    assert site.says(f"No delta for image '{third}': it cannot be applied: ")
    wait_until("nothing is left", site.is_clean)


def test_a_moments_trouble_on_the_device_is_no_verdict(site: Site) -> None:
    second, size = site.begin(os.urandom(900_000))
    third = site.push(os.urandom(900_000))
    more = site.make(second, third)
    site.run(second, "bbb2")
    children = wait_until("it is being applied", site.children, every=0.005)
    os.kill(children[0], signal.SIGKILL)
    wait_until("the second release", site.runs(second))
    assert site.says(f"image '{second}': it was not applied: its process was ended by signal 9")
    assert site.server.sent == size
    # What was verified as it came is damaged on the disk, before it is read.
    site.proxy.rate = 500
    site.run(third, "ccc3")
    file = wait_until("the delta is here", lambda: site.file(more), every=0.02)
    with file.open("r+b") as stream:
        stream.seek(more // 2)
        byte = stream.read(1)
        stream.seek(more // 2)
        stream.write(bytes([byte[0] ^ 0xFF]))
    site.proxy.rate = None
    wait_until("the third release", site.runs(third))
    assert site.says(f"image '{third}': the delta was damaged on the disk here (")
    assert site.server.sent == size + 2 * more
    assert not any(site.says(f"Downloading image '{each}'") for each in (second, third))
    wait_until("nothing is left", site.is_clean)


class Host:
    """A host whose engine says that the supervisor's container is of this image: in a test, there
    is no such container. All else of its door is real."""

    def __init__(self, home: Path, image: str) -> None:
        self.image = image
        self.door = HostDoor(home / "host")
        fleet = {"registryEndpoint": image.partition("/")[0]}
        (self.door.boot / "config.json").write_text(json.dumps(fleet))
        (self.door.home / "supervisor.json").write_text('{"architecture": "aarch64"}')
        told = {"Image": "id", "Config": {"Image": image}, "RepoDigests": [image]}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                return

        self.door.engine = str(home / "host.sock")
        self._engine = socketserver.ThreadingUnixStreamServer(self.door.engine, Handler)
        threading.Thread(target=self._engine.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.door.close()
        self._engine.shutdown()
        self._engine.server_close()


@pytest.fixture
def host(site: Site, tmp_path: Path) -> Iterator[Host]:
    """The host of a device that is at rest, with a supervisor of the fleet's registry."""
    old = site.push(b"", "gantry/aarch64-supervisor")
    site.device.engine.images.pull(old)
    one = Host(tmp_path, old)
    try:
        site.device.environment["HOST_DOOR"] = str(one.door.path)
        # What is on trial would be waited for.
        site.cloud.config |= {
            "BALENA_SUPERVISOR_ROLLBACK": "0",
            "BALENA_SUPERVISOR_POLL_INTERVAL": "1000",
        }
        site.first = site.push()
        site.run(site.first)
        site.device.start()
        wait_until("the release", site.runs(site.first))
        yield one
    finally:
        one.close()


def test_the_next_supervisor_comes_by_delta_before_the_host_is_asked(
    site: Site, host: Host
) -> None:
    new, newer = (site.push(each, "gantry/aarch64-supervisor") for each in (b"1", b"2"))
    size, more = site.make(host.image, new), site.make(host.image, newer)
    passed = site.proxy.passed
    site.cloud.supervisor = {"version": "99.0.0", "image": new}
    wait_until("the host is asked", lambda: host.door.runs)
    assert host.door.runs[0].endswith(new)
    assert site.says(f"Downloading delta for image '{new}'")
    assert site.layers(new) != site.layers(host.image)
    assert site.device.engine.images.list(name=str(local_tag(new)))
    assert site.server.sent == size
    # It never runs, for another one is wanted.
    site.cloud.supervisor = {"version": "99.0.1", "image": newer}
    wait_until("the host is asked again", lambda: len(host.door.runs) == 2)
    assert site.server.sent == size + more
    assert site.proxy.passed - passed < 20_000, "a layer was downloaded"
    assert site.device.engine.images.list(name=str(local_tag(newer)))
    assert not site.device.engine.images.list(name=str(local_tag(new)))
    wait_until("nothing is left", site.is_clean)


@pytest.mark.soak
def test_the_next_supervisor_survives_a_loss_of_power_but_not_another_will(
    site: Site, host: Host
) -> None:
    new, newer = (site.push(os.urandom(900_000), "gantry/aarch64-supervisor") for _ in range(2))
    size = site.make(host.image, new)
    site.make(host.image, newer)
    site.server.rate = 400_000
    site.cloud.supervisor = {"version": "99.0.0", "image": new}
    wait_until("half of it is here", lambda: site.server.sent > size // 2, every=0.02)
    site.lost_power()
    site.server.rate = None
    wait_until("the host is asked", lambda: host.door.runs)
    # What was on its way when power was lost is all that is sent again.
    assert site.server.sent < size + 250_000
    site.server.rate = 50_000
    site.cloud.supervisor = {"version": "99.0.1", "image": newer}
    sent = site.server.sent
    wait_until("another one is on its way", lambda: site.server.sent > sent + 100_000)
    site.cloud.supervisor = None
    wait_until("nothing is left", site.is_clean, seconds=10)
    assert len(host.door.runs) == 1
