"""What is outside goes wrong: a full disk, a slow line, broken blobs, an api out of its mind, a
clock in another year. What runs goes on running, and all recovers by itself."""

import datetime
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
import pytest

from tests.integration.supervisor.certificates import self_signed
from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.doorway import Beats, Proxy
from tests.integration.supervisor.own_engine import OwnEngine

FOREVER = "echo begun; while true; do sleep 1; done"
MEGABYTE = 1_000_000


class Site:
    """A device with an engine of its own, and proxies before its registry and its api."""

    def __init__(
        self,
        stack: ExitStack,
        outer: docker.DockerClient,
        registry: Registry,
        home: Path,
        disk: int,
    ) -> None:
        self.engine = OwnEngine(outer, home, disk)
        stack.callback(self.engine.close)
        self.cloud = Cloud()
        self.cloud.start()
        stack.callback(self.cloud.stop)
        host, port = registry.address.split(":")
        gateway = self.engine.gateway
        self.blobs = stack.enter_context(Proxy(gateway, (host, int(port))))
        self.api = stack.enter_context(Proxy("127.0.0.1", ("127.0.0.1", self.cloud.port)))
        self.beats = Beats(gateway)
        stack.callback(self.beats.close)
        self.registry = registry
        self.device = Device(home, self.engine.client, self.cloud, self.blobs.address)
        self.device.environment = {"DOCKER_SOCKET": str(self.engine.socket)}
        self.device.write_config(self.device.config | {"apiEndpoint": f"http://{self.api.address}"})
        self.cloud.config = {"BALENA_SUPERVISOR_POLL_INTERVAL": "2000"}
        stack.callback(self.stop)

    def stop(self) -> None:
        if self.device.process is not None:
            self.device.signal(signal.SIGKILL)
            print(self.device.log()[-20_000:])

    def push(self, release: str, ballast: int = 0) -> str:
        """An image that beats under this name."""
        image = self.registry.push(self.beats.script(release), ballast)
        return image.replace(self.registry.address, self.blobs.address, 1)

    def aim(self, commit: str, image: str) -> None:
        service = {"image": image, "composition": {"network_mode": "host"}}
        self.cloud.apps = self.device.app(commit, {"main": service})

    def runs(self, image: str) -> bool:
        return self.engine.containers() == [(image, "running")]

    def says(self, text: str) -> Callable[[], bool]:
        """Whether the supervisor says this from now on."""
        offset = len(self.device.log())
        return lambda: text in self.device.log()[offset:]


@pytest.fixture
def site(
    engine: docker.DockerClient,
    registry: Registry,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, engine, registry, tmp_path, getattr(request, "param", 0))


def first_release(site: Site) -> str:
    image = site.push("first")
    site.aim("aaa1", image)
    site.device.start()
    wait_until("the first release", lambda: site.runs(image))
    wait_until("it beats", lambda: site.beats.last() == "first")
    return image


@pytest.mark.parametrize("site", [96], indirect=True)
def test_a_full_disk_is_told_and_recovered_from(site: Site) -> None:
    first = first_release(site)
    free = "df -m /var/lib/docker | tail -1 | awk '{print $4}'"
    room = int(site.engine.sh(free))
    # All but a few megabytes are taken by something else.
    filler = "/var/lib/docker/filler"
    site.engine.sh(f"head -c {(room - 6) * 1024 * 1024} /dev/urandom > {filler}")
    second = site.push("second", 16 * MEGABYTE)
    told = site.says("no space left on device")
    told_before = site.says("room")
    site.aim("bbb2", second)
    wait_until("it is told", lambda: told() or told_before())
    assert site.runs(first)
    site.engine.sh(f"rm {filler}")
    wait_until("it recovers by itself", lambda: site.runs(second), 180)
    wait_until("it beats", lambda: site.beats.last() == "second")


def test_a_slow_line_and_broken_blobs_are_worked_through(site: Site) -> None:
    first = first_release(site)
    second = site.push("second", 2 * MEGABYTE)
    # First what comes is not what was asked for.
    site.blobs.breaks = True
    told = site.says("Failed to download image")
    site.aim("bbb2", second)
    wait_until("it is told", told)
    assert site.runs(first)
    # Then it is right, and slow: it is told how far it is, every ten seconds.
    site.blobs.breaks = False
    site.blobs.rate = 0.1 * MEGABYTE
    app = f"uuid{site.device.app_id}"
    progress: set[int] = set()

    def is_done() -> bool:
        release = site.cloud.reported()["apps"][app]["releases"].get("bbb2", {})
        service = release.get("services", {}).get("main", {})
        progress.add(service.get("download_progress", 0))
        return site.runs(second)

    wait_until("the second release", is_done, 180)
    assert progress - {0}
    assert {release for _, release in site.beats.heard} <= {"first", "second"}


def test_an_api_out_of_its_mind_disturbs_nothing(site: Site) -> None:
    first = first_release(site)
    second = site.push("second")
    site.cloud.status = 500
    told = site.says("500 as the test asks")
    site.aim("bbb2", second)
    wait_until("it is told", told)
    site.cloud.status = None
    for garbage in (
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"half": ',
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100,
    ):
        site.api.garbage = garbage
        told = site.says("no target")
        # A new start asks at once.
        site.device.signal(signal.SIGKILL)
        site.device.start()
        wait_until(f"{garbage[:40]!r} is told", told)
        assert site.runs(first)
        assert site.device.get("/v1/healthy").status_code == 200
    # Answers that end in their middle, whatever is asked.
    site.api.garbage, site.api.cut = None, 300
    told = site.says("no target")
    site.device.signal(signal.SIGKILL)
    site.device.start()
    wait_until("half answers are told", told)
    assert site.runs(first)
    site.api.cut = None
    wait_until("it catches up", lambda: site.runs(second), 180)


@contextmanager
def fake_time(folder: Path) -> Iterator[Callable[[str], dict[str, str]]]:
    """A clock that can be set (libfaketime, Debian's); the variables that give it to a process."""
    package = subprocess.run(
        ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "libfaketime"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    if package.returncode:
        pytest.skip(f"libfaketime cannot be had: {package.stderr.strip()}")
    archive = next(folder.glob("libfaketime*.deb"))
    subprocess.run(["dpkg-deb", "--extract", archive, folder / "root"], check=True)
    library = next(folder.glob("root/usr/lib/**/libfaketime.so.1"))
    setting = folder / "clock"

    def set_clock(offset: str) -> dict[str, str]:
        setting.with_suffix(".new").write_text(f"{offset}\n")
        setting.with_suffix(".new").replace(setting)
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(setting),
            "FAKETIME_CACHE_DURATION": "1",
            # What waits, waits by the monotonic clock.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    yield set_clock


def test_a_clock_in_another_year_is_waited_out(
    engine: docker.DockerClient, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "time").mkdir()
    now = datetime.datetime.now(datetime.UTC)
    year = datetime.timedelta(days=365)
    authority, files = self_signed(tmp_path, now - datetime.timedelta(days=1), now + year)
    cloud = Cloud(files)
    cloud.start()
    device = Device(tmp_path, engine, cloud, registry.address)
    try:
        with fake_time(tmp_path / "time") as set_clock:
            # The first boot of a device without a clock of its own: no certificate is valid yet.
            device.environment = set_clock("-3y")
            device.write_config(device.config | {"balenaRootCA": authority})
            cloud.config = {"BALENA_SUPERVISOR_POLL_INTERVAL": "2000"}
            cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
            device.start()
            wait_until("it is told", lambda: "certificate is not yet valid" in device.log())
            assert not cloud.registrations
            set_clock("+0")
            container = wait_until("it runs once the time is right", device.service)
            # Years ahead every certificate has expired. Nothing stops, and all comes back.
            set_clock("+5y")
            wait_until("the jump is told", lambda: "the clock jumped by 15" in device.log())
            wait_until("it is told", lambda: "certificate has expired" in device.log())
            assert device.service() == container
            assert device.get("/v1/healthy").status_code == 200
            set_clock("+0")
            wait_until("the way back is told", lambda: "jumped by -15" in device.log())
            polls = len(cloud.polls)
            wait_until("it polls again", lambda: len(cloud.polls) > polls)
            assert device.service() == container
            lines = len(cloud.messages(serviceName="main"))
            container.restart(timeout=0)
            wait_until("logs go on", lambda: len(cloud.messages(serviceName="main")) > lines)
    finally:
        print(device.log())
        device.clean_up()
        cloud.stop()
