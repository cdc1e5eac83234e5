"""A fleet of the tests' own, and a machine that becomes its device."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_under_test import FleetUnderTest, make_fleet, remove_fleet
from tests.vm import machine as machines
from tests.vm.disk import make_disk
from tests.vm.machine import Machine


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetUnderTest]:
    fleet = make_fleet("machinebots", tmp_path_factory.mktemp("machinebots"))
    remove_fleet(fleet)
    try:
        fleet.gantry("up", fleet.name)
        fleet.gantry("connect", fleet.name)
        yield fleet
    finally:
        if not os.environ.get("GANTRY_KEEP"):
            remove_fleet(fleet)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    disk = make_disk()
    folder: Path = tmp_path_factory.mktemp("machine")
    machine = machines.start(disk, folder)
    try:
        yield machine
    finally:
        machine.stop()
