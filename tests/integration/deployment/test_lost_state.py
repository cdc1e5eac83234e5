"""A fleet that is there while its state is not: said before anything is changed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gantry.deployment.fleet_objects import FLEET_LABEL, SERVICE_LABEL
from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer
from tests.fleet_under_test import GANTRY, FleetUnderTest, make_fleet, remove_fleet

BUILTIN = ("--engine", "builtin")


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetUnderTest]:
    fleet = make_fleet(f"lost-{uuid.uuid4().hex[:8]}", tmp_path)
    yield fleet
    remove_fleet(fleet)


@pytest.mark.parametrize("command", [("up",), ("preview",), ("destroy", "--yes")])
def test_services_without_a_state_are_left_alone_and_the_way_on_is_said(
    fleet: FleetUnderTest, client: docker.DockerClient, command: tuple[str, ...]
) -> None:
    image = build_image("debian", line_printer(), client=client).tag
    name = f"gantry-{fleet.name}-api"
    labels = {FLEET_LABEL: fleet.name, SERVICE_LABEL: "api"}
    container = client.containers.create(image, name=name, labels=labels)
    done = fleet.run(str(GANTRY), command[0], fleet.name, *command[1:], *BUILTIN, check=False)
    assert done.returncode == 1
    state = fleet.workspace / "config" / "engine" / f"{fleet.name}.json"
    said = " ".join(done.stdout.split())
    assert f"{name}: there already, but {state} is not" in said
    assert 'docs/runbooks/backup.md, "State or passphrase lost"' in said
    found = client.containers.list(all=True, filters={"label": f"{FLEET_LABEL}={fleet.name}"})
    assert [each.id for each in found] == [container.id]
    assert not client.networks.list(filters={"label": f"{FLEET_LABEL}={fleet.name}"})


def test_data_volumes_from_before_are_named_as_used(
    fleet: FleetUnderTest, client: docker.DockerClient
) -> None:
    labels = {FLEET_LABEL: fleet.name}
    client.volumes.create(f"gantry-{fleet.name}-postgres-data", labels=labels)
    client.volumes.create(f"{fleet.name}-device", labels=labels | {"gantry.device": "x"})
    said = " ".join(fleet.gantry("destroy", fleet.name, "--yes", *BUILTIN).split())
    assert f"data volumes of {fleet.name} are there from before (1)" in said
