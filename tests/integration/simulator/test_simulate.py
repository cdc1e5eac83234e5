"""Some simulated devices, with compressed intervals, before a real api and a real PostgreSQL."""

import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The fixtures of the api and of the log service are theirs; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from gantry.simulator.simulation import Plan, Simulation
from tests.benchmarks.devices import document
from tests.integration.api.conftest import (
    SOURCES,
    Api,
    Fleet,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)
from tests.integration.cli.conftest import Operator

__all__ = ["postgres"]

DEVICES = 60
# No machine knows it, whatever fleets are deployed there.
HOST = "fleet.invalid"


@pytest.fixture(scope="module")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with own_database(postgres) as url:
        config = make_config(url, free_port()) | {"host": HOST}
        with running(config, folder) as started:
            yield started


@pytest.fixture
def fleet(api: Api) -> Fleet:
    user = api.login()
    name = f"app-{secrets.token_hex(4)}"
    body = {"app_name": name, "is_for__device_type": "raspberrypi3-64"}
    assert user.post("/v7/application", json=body).status_code == 201
    return Fleet(api, user, f"admin/{name}")


def rows(fleet: Fleet, select: str) -> list[dict[str, Any]]:
    query = {"$select": select, "$filter": f"belongs_to__application eq {fleet.id}"}
    found: list[dict[str, Any]] = fleet.user.get("/v7/device", params=query).json()["d"]
    return found


def simulate(
    fleet: Fleet, plan: Plan, release: Callable[[], str] | None = None
) -> tuple[Simulation, dict[str, Any]]:
    process = fleet.api.process
    assert process is not None
    simulation = Simulation(document(fleet), plan, print, release, {"api": process.pid})
    return simulation, asyncio.run(simulation.run(asyncio.Event()))


def test_devices_live_and_follow_a_release(fleet: Fleet) -> None:
    """Half of them hear of the release at once, the others with their next poll, here 6 s later."""
    first = fleet.release()
    plan = Plan(
        devices=DEVICES, duration=14.0, ramp=3.0, scale=150.0, streams=0.5, release_after=2.0
    )
    made: list[str] = []

    def release() -> str:
        made.append(fleet.release()["commit"])
        return made[0]

    _, found = simulate(fleet, plan, release)
    assert found["errors"] == {}
    told = found["releases"][made[0]]
    assert told["seen"]["devices"] == told["running"]["devices"] == DEVICES
    assert told["seen"]["max"] <= 6.0 + 5.0
    assert found["requests"]["register"]["count"] == DEVICES
    assert found["requests"]["state"]["count"] >= 3 * DEVICES
    assert found["requests"]["report"]["count"] >= 3 * DEVICES
    assert 0.2 * DEVICES < found["requests"]["events"]["count"] < 0.8 * DEVICES
    assert found["servers"]["memory"]["api"] > 0
    # The api was told what they run, and what each figure of the machine is.
    commits = {"$expand": "is_running__release($select=commit)"}
    query = {"$select": "status,memory_usage", "$filter": f"belongs_to__application eq {fleet.id}"}
    devices = fleet.user.get("/v7/device", params=query | commits).json()["d"]
    assert len(devices) == DEVICES
    assert {each["is_running__release"][0]["commit"] for each in devices} == {made[0]}
    assert first["commit"] != made[0]
    assert all(each["memory_usage"] > 0 for each in devices)


def test_a_seed_brings_the_same_devices_back(fleet: Fleet) -> None:
    plan = Plan(devices=5, duration=0.5, ramp=0.0, scale=100.0, seed=secrets.randbits(40))
    _, first = simulate(fleet, plan)
    known = rows(fleet, "id,uuid")
    simulation, second = simulate(fleet, plan)
    assert first["errors"] == second["errors"] == {}
    assert rows(fleet, "id,uuid") == known
    assert {each["uuid"] for each in known} == {each.uuid for each in simulation.devices}


def test_what_the_api_refuses_is_counted(fleet: Fleet) -> None:
    """A device whose uuid is taken, as after an image was copied."""
    plan = Plan(devices=1, duration=0.5, ramp=0.0, seed=secrets.randbits(40))
    simulation = Simulation(document(fleet), plan, print)
    (taken,) = (each for each in simulate(fleet, plan)[0].devices)
    assert taken.is_registered
    fleet.user.delete(f"/v7/device(uuid='{taken.uuid}')")
    fleet.register(uuid=taken.uuid)
    stop = asyncio.Event()

    async def some_time() -> dict[str, Any]:
        asyncio.get_running_loop().call_later(3.0, stop.set)
        return await simulation.run(stop)

    assert set(asyncio.run(some_time())["errors"]) == {"register: 409"}


@pytest.fixture
def operator(tmp_path: Path, api: Api) -> Operator:
    made = Operator(tmp_path, api.url, {"PYTHONPATH": str(SOURCES)})
    made.run(
        *("login", "admin", "--url", api.url, "--password-file", "-"),
        stdin=f"{api.config['admin_password']}\n",
    )
    return made


def test_the_command_refuses_a_fleet_that_is_elsewhere(operator: Operator, fleet: Fleet) -> None:
    """The api of these tests calls itself by a name that this machine does not know."""
    name = fleet.application["slug"]
    ended = operator.ended("simulate", "--devices", "2", "-a", name)
    assert ended.returncode == 2, ended.stderr
    assert f"api.{HOST} is not known here" in ended.stderr
    assert json.loads(operator.run("devices", "-a", name, "--json")) == []


@pytest.fixture
def start_from(tmp_path: Path, fleet: Fleet) -> Path:
    """The config.json of the application, with the api's own address."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document(fleet)))
    return file


def test_the_command_says_how_it_went_and_removes_its_devices(
    operator: Operator, fleet: Fleet, start_from: Path, tmp_path: Path
) -> None:
    old, new = fleet.release(), fleet.release()
    assert fleet.api.process is not None
    printed = operator.run(
        *("simulate", "-a", fleet.application["slug"], "--config", str(start_from)),
        *("--devices", "8", "--ramp", "1", "--duration", "15", "--time-scale", "100"),
        *("--release", old["commit"], "--release-after", "1", "--remove"),
        *("--watch", str(fleet.api.process.pid), "--json", str(tmp_path / "figures.json")),
    )
    assert f"after {old['commit'][:7]}: at most" in printed
    assert "memory at most" in printed
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["errors"] == {}
    assert found["releases"][old["commit"]]["running"]["devices"] == 8
    assert rows(fleet, "id") == []
    assert new["commit"] != old["commit"]


def test_ctrl_c_ends_the_command_with_its_figures(
    operator: Operator, fleet: Fleet, start_from: Path
) -> None:
    process = operator.start(
        *("simulate", "-a", fleet.application["slug"], "--config", str(start_from)),
        *("--devices", "3", "--ramp", "0", "--duration", "600", "--remove"),
    )
    deadline = time.monotonic() + 30
    while [each["is_online"] for each in rows(fleet, "is_online")] != [True] * 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "register" in output
    assert "Traceback" not in errors
    assert "3 devices removed" in errors
    assert rows(fleet, "id") == []
