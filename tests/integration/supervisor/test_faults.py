"""Power is lost in the middle of an update: `kill -9` of the supervisor or of dockerd at a point
that a seed chooses. Whatever is hit, the device comes to its target, and something runs meanwhile.

Each seed tells what it did: `pytest -k 'seed7' -s` does the same again. The applications say
themselves that they run, by a heartbeat, since an engine that was killed cannot.
"""

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import docker
import pytest

from tests.integration.supervisor.conftest import Cloud, Device, Registry, wait_until
from tests.integration.supervisor.doorway import Beats, Proxy
from tests.integration.supervisor.own_engine import OwnEngine

# Where an update is hit, and up to how many seconds later.
POINTS = {"download": 0.6, "extract": 0.3, "stop": 1.3, "start": 0.4, "report": 0.4}
VICTIMS = ("supervisor", "dockerd")
BALLAST = 3_000_000
RATE = 6_000_000.0
# The strategy is download-then-kill: nothing runs between the old one's stop (a second here) and
# the new one's start, and while an engine that was killed starts again. The rest is for machines
# that are busy.
SILENCE_AT_MOST = 60.0
LOGGED = {
    "download": "Downloading image",
    "stop": "Killing service",
    "start": "Starting service",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens when. `report` is the number of the report that is hit, in this update."""

    seed: int
    victim: str
    point: str
    delay: float
    report: int

    def __str__(self) -> str:
        return f"seed {self.seed}: kill -9 of {self.victim} at {self.point} + {self.delay:.2f} s"


def fault_of(seed: int) -> Fault:
    """Ten seeds in a row hit every victim at every point."""
    dice = random.Random(seed)  # noqa: S311 (what was seen can be seen again)
    victim = VICTIMS[seed % 2]
    point = tuple(POINTS)[seed // 2 % len(POINTS)]
    return Fault(seed, victim, point, dice.uniform(0.0, POINTS[point]), dice.randint(1, 2))


class Rig:
    """A device with an engine of its own, a slow line to its registry, and four releases."""

    def __init__(self, engine: OwnEngine, proxy: Proxy, device: Device, registry: Registry) -> None:
        self.engine = engine
        self.proxy = proxy
        self.device = device
        self.cloud = device.cloud
        self.beats = Beats(engine.gateway)
        self.images = {
            commit: registry.push(self.beats.script(commit), BALLAST).replace(
                registry.address, proxy.address, 1
            )
            for commit in ("aaa1", "bbb2", "ccc3", "ddd4")
        }
        self.runs = ""

    def aim(self, commit: str) -> None:
        composition = {"network_mode": "host"}
        service = {"image": self.images[commit], "composition": composition}
        self.cloud.apps = self.device.app(commit, {"main": service})

    def is_at(self, commit: str) -> bool:
        """Whether this release runs alone, and the api knows it."""
        app = self.cloud.reported().get("apps", {}).get(f"uuid{self.device.app_id}", {})
        status = app.get("releases", {}).get(commit, {}).get("update_status")
        if (app.get("release_uuid"), status) != (commit, "done") or self.beats.last() != commit:
            return False
        return self.engine.containers() == [(self.images[commit], "running")]

    def strike(self, fault: Fault) -> str:
        """Update to the next release and hit the update; what came of it."""
        commits = list(self.images)
        old, new = self.runs, commits[(commits.index(self.runs) + 1) % len(commits)]
        image = self.images[new]
        wait_until("it is to be downloaded", lambda: image not in self.engine.images())
        offset, passed = len(self.device.log()), self.proxy.passed
        reported = threading.Event()
        reports = iter(range(1, 1000))

        def hear(_report: object) -> None:
            if next(reports) >= fault.report:
                reported.set()

        def is_there() -> bool:
            if fault.point == "report":
                # Reports keep a pace: all of an update may be in one.
                return reported.is_set() or self.is_at(new)
            if fault.point == "extract":
                # An engine that was killed as it removed an image may have its layers still.
                return self.proxy.passed - passed >= BALLAST or self.is_at(new)
            return LOGGED[fault.point] in self.device.log()[offset:]

        self.cloud.before_report = hear
        start = time.monotonic()
        self.aim(new)
        self.runs = new  # whatever becomes of it: the next seed is another test
        wait_until(f"{fault.point} of {new}", is_there, every=0.01)
        time.sleep(fault.delay)
        if fault.victim == "supervisor":
            self.device.signal(signal.SIGKILL)
            self.device.start()
        else:
            self.engine.kill()
        hit = time.monotonic()
        wait_until(f"{new} after {fault}", lambda: self.is_at(new), 180)
        seconds = time.monotonic() - hit
        silence = self.beats.silence(start, {old, new})
        assert silence < SILENCE_AT_MOST
        outcome = f"{fault}: {old} → {new}, at the target {seconds:.1f} s later, "
        return f"{outcome}none ran for {silence:.1f} s{self._end_strays(start, {old, new})}"

    def _end_strays(self, start: float, releases: set[str]) -> str:
        """The engine's own fault, which no supervisor sees: it is told, and ended by the test."""
        strays = self.engine.strays()
        others = {each for moment, each in self.beats.heard if moment > start} - releases
        assert strays or not others, f"{others} ran, too"
        if not strays:
            return ""
        self.engine.sh(f"kill -9 {' '.join(strays)}")
        return f"; the engine had lost sight of {len(strays)} process that ran on"


@pytest.fixture(scope="module")
def rig(
    engine: docker.DockerClient,
    registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("faults")
    own = OwnEngine(engine, home)
    cloud = Cloud()
    cloud.start()
    host, port = registry.address.split(":")
    with Proxy(own.gateway, (host, int(port))) as proxy:
        device = Device(home, own.client, cloud, proxy.address)
        device.environment = {"DOCKER_SOCKET": str(own.socket)}
        try:
            # Each release is the good one before the next comes, and older images are gone.
            cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "0"}
            one = Rig(own, proxy, device, registry)
            one.aim("aaa1")
            device.start()
            wait_until("the first release", lambda: one.is_at("aaa1"))
            one.runs = "aaa1"
            proxy.rate = RATE
            yield one
            one.beats.close()
        finally:
            print(device.log()[-20_000:] if device.process is not None else "never started")
            if device.process is not None:
                device.signal(signal.SIGKILL)
            cloud.stop()
            own.close()


def _strike(rig: Rig, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    fault = fault_of(seed)
    try:
        outcome = rig.strike(fault)
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error
    with capsys.disabled():
        print(f"\n  {outcome}", end=" ", file=sys.stdout, flush=True)


@pytest.mark.parametrize("seed", range(10), ids=lambda seed: f"seed{seed}")
def test_an_update_survives_the_loss_of_power(
    rig: Rig, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _strike(rig, seed, capsys)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 210), ids=lambda seed: f"seed{seed}")
def test_many_updates_survive_the_loss_of_power(
    rig: Rig, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _strike(rig, seed, capsys)
