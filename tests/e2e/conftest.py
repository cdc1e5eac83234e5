"""Two fleets of the tests' own, beside whatever else runs on this host.

The whole way, once, with everything real. The tests build on one another, across modules: each goes
on with the fleet as the one before left it.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_under_test import PYTHON, FleetUnderTest, make_fleet, remove_fleet

ORDER = ("test_first_push", "test_remote_access", "test_way_of_the_data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which a user does it."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else -1)


def _fleet(name: str, folder: Path) -> Iterator[FleetUnderTest]:
    fleet = make_fleet(name, folder)
    remove_fleet(fleet)
    try:
        yield fleet
        _keep_logs(fleet)
    finally:
        if not os.environ.get("GANTRY_KEEP"):
            remove_fleet(fleet)


def _keep_logs(fleet: FleetUnderTest) -> None:
    """What the services said, for who reads a failed run."""
    target = os.environ.get("GANTRY_TEST_LOGS")
    if not target:
        return
    Path(target).mkdir(parents=True, exist_ok=True)
    label = f"label=gantry.fleet={fleet.name}"
    names = fleet.run("docker", "ps", "-a", "--format", "{{.Names}}", "--filter", label).stdout
    for name in names.split():
        with (Path(target) / f"{name}.log").open("wb") as file:
            subprocess.run(["docker", "logs", name], stdout=file, stderr=file, check=False)


@pytest.fixture(scope="session")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    yield from _fleet("alphabots", tmp_path_factory.mktemp("alpha"))


@pytest.fixture(scope="session")
def beta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    yield from _fleet("betabots", tmp_path_factory.mktemp("beta"))


def quickstart(fleet: FleetUnderTest, verb: str) -> str:
    """`make up` or `make down`, but for the set-up that the tests have behind them."""
    command = (str(PYTHON), "-m", "gantry.deployment.quickstart", verb, fleet.name)
    return fleet.run(*command, timeout=1500).stdout
