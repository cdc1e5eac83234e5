"""The api killed while it writes, and PostgreSQL gone and back: nothing half done, nothing lost."""

import contextlib
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docker
import httpx2 as httpx
import psycopg
import pytest
from docker.models.containers import Container

from gantry.api.limits import ANSWER_SECONDS
from tests.ports import free_port

from .conftest import Api, Device, Fleet, container_postgres, make_config, running
from .test_state import Stream
from .writers import DEVICES, Writers, check, fill

# How long the last of the killed ones writes.
LAST = 3.0
# A request that meets a database that is away is answered within this, however busy the machine.
SOON = 20.0


def test_killed_amid_writes_it_leaves_nothing_half_done_and_starts_again(api: Api) -> None:
    fleet = fill(api)
    for seconds in (0.7, 1.3, LAST):
        writers = Writers(api, fleet)
        writers.start_all()
        time.sleep(seconds)
        if seconds == LAST:
            writers.wait_for_one_of_each()
        assert api.process is not None
        api.process.send_signal(signal.SIGKILL)
        api.process.wait(10)
        writers.finish()
        check(api, writers)
        api.start()
        api.wait()
        fleet = Fleet(api, api.login(), "admin/devbots")
        for name in writers.done["user"][-1:]:
            assert api.login(name, "long enough").get("/user/v1/whoami").status_code == 200
        assert fleet.user.get("/v7/device/$count").json()["d"] >= DEVICES
        fleet.release()
    assert "internal error" not in api.log.read_text()


@dataclass
class Server:
    """A PostgreSQL that can go and come back, at the same address."""

    container: Container
    url: str

    def back(self) -> None:
        """Start it again, and wait until it answers."""
        self.container.start()
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            assert time.monotonic() < deadline, self.container.logs()
            time.sleep(0.2)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    client = docker.from_env(timeout=600)
    name = f"api-test-outage-{secrets.token_hex(4)}"
    try:
        with container_postgres(name, free_port()) as url:
            yield Server(client.containers.get(name), url)
    finally:
        client.close()


@pytest.fixture
def outage_api(server: Server, tmp_path: Path) -> Iterator[Api]:
    with running(make_config(server.url, free_port()), tmp_path) as started:
        yield started


@dataclass
class Poller:
    """A device that asks for its target over and over, and notes each answer."""

    device: Device
    stopped: threading.Event
    seen: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def run(self) -> None:
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                answer = self.device.client.get(f"/device/v3/{self.device.uuid}/state")
            except httpx.TransportError as error:
                self.faults.append(repr(error))
                continue
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.seen[answer.status_code] += 1
            if answer.status_code == 503 and answer.headers.get("Retry-After") != "5":
                self.faults.append(f"503 without Retry-After: {answer.text}")
            time.sleep(0.05)


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_postgresql_goes_and_comes_back(server: Server, outage_api: Api, how: str) -> None:
    api = outage_api
    fleet = fill(api)
    device = fleet.register()
    stream = Stream(api, device)
    stream.wait(1)
    stopped = threading.Event()
    pollers = [Poller(fleet.register(), stopped) for _ in range(4)]
    threads = [threading.Thread(target=each.run, daemon=True) for each in pollers]
    writers = Writers(api, fleet)
    for each in threads:
        each.start()
    writers.start_all()
    time.sleep(1)
    server.container.kill(how)
    server.container.wait(timeout=60)
    time.sleep(1)
    login = {"username": "admin", "password": "wrong"}
    for answer in (
        fleet.user.get("/v7/device"),
        fleet.user.patch(f"/v7/device({device.id})", json={"note": "lost"}),
        api.client().post("/login_", json=login),
        api.client().get("/ping"),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.headers["Retry-After"] == "5"
        assert answer.elapsed.total_seconds() < SOON
    assert api.client().get("/config").status_code == 200
    before = [each.seen[503] for each in pollers]
    time.sleep(2)
    assert all(each.seen[503] > count for each, count in zip(pollers, before, strict=True))
    server.back()
    api.wait(30)
    served = [each.seen[200] for each in pollers]
    time.sleep(2)
    assert all(each.seen[200] > count for each, count in zip(pollers, served, strict=True))
    writers.finish()
    stopped.set()
    for thread, poller in zip(threads, pollers, strict=True):
        thread.join(SOON)
        assert not thread.is_alive()
        assert poller.faults == []
        assert set(poller.seen) == {200, 503}
        assert poller.slowest < SOON
    check(api, writers)
    assert all(writers.done.values()), writers.done
    # The stream is the same one, and hears what happens now.
    heard = len(stream.etags)
    fleet.release()
    stream.wait(heard + 1)
    assert stream.etags[-1] == device.client.get(f"/device/v3/{device.uuid}/state").headers["ETag"]
    assert "internal error" not in api.log.read_text()


def test_postgresql_that_does_not_answer_keeps_nobody_waiting(
    server: Server, outage_api: Api
) -> None:
    """Frozen, it takes requests and connections still; only time tells."""
    fleet = Fleet(outage_api, outage_api.login(), "admin/devbots")
    device = fleet.register()
    stream = Stream(outage_api, device)
    stream.wait(1)
    url = f"/device/v3/{device.uuid}/state"
    answers: list[tuple[httpx.Response, float]] = []

    def ask() -> None:
        begun = time.monotonic()
        headers = {"Authorization": f"Bearer {device.key}"}
        answer = httpx.get(outage_api.url + url, headers=headers, timeout=90)
        answers.append((answer, time.monotonic() - begun))

    server.container.pause()
    try:
        # More than there are connections and threads.
        threads = [threading.Thread(target=ask, daemon=True) for _ in range(60)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(90)
    finally:
        server.container.unpause()
    assert len(answers) == len(threads)
    assert {answer.status_code for answer, _ in answers} == {503}
    assert all(int(answer.headers["Retry-After"]) in (5, 30) for answer, _ in answers)
    assert max(seconds for _, seconds in answers) < ANSWER_SECONDS + SOON
    deadline = time.monotonic() + 60
    while device.client.get(url).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    heard = len(stream.etags)
    fleet.release()
    stream.wait(heard + 1)
    assert "internal error" not in outage_api.log.read_text()
