"""`gantry backup`: who stands still while what is written. PostgreSQL is the real one; of the other
services only their containers and volumes are there, for that is all that a backup sees of them."""

import io
import tarfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import psycopg
import pytest

from gantry.deployment import volumes
from gantry.deployment.fleet_objects import FLEET_LABEL, SERVICE_LABEL
from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer
from tests.fleet_under_test import FleetUnderTest, make_fleet, remove_fleet
from tests.integration.api.conftest import container_postgres

STORES = ("identity", "git", "registry", "nats")
# Ends at once when it is asked to.
WAITS = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 60 & wait; done"]


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture
def fleet(tmp_path: Path, client: docker.DockerClient) -> Iterator[FleetUnderTest]:
    """A fleet, as far as a backup looks at it."""
    fleet = make_fleet(f"saved-{uuid.uuid4().hex[:8]}", tmp_path)
    image = build_image("debian", line_printer(), client=client).tag
    with ExitStack() as stack:
        stack.callback(remove_fleet, fleet)
        url = stack.enter_context(container_postgres(f"gantry-{fleet.name}-postgres"))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table alembic_version as select '0005' as version_num")
        for each in STORES:
            volume = volumes.data_volume(fleet.name, each)
            client.volumes.create(volume, labels={FLEET_LABEL: fleet.name})
            with volumes.opened(client, volume) as shelf:
                shelf.put_archive(volumes.FOLDER, _archive(each))
        for each in ("git", "registry", "nats", "collector"):
            client.containers.run(
                image, WAITS, name=f"gantry-{fleet.name}-{each}", detach=True,
                labels={FLEET_LABEL: fleet.name, SERVICE_LABEL: each},
            )  # fmt: skip
        yield fleet


def _archive(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("data")
        entry.size = len(name)
        archive.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


@contextmanager
def heard(fleet: FleetUnderTest) -> Iterator[list[tuple[str, str]]]:
    """What the engine says of the fleet's services meanwhile: `(service, what happened)`."""
    told: list[tuple[str, str]] = []
    own = docker.from_env(timeout=600)
    stream = own.events(decode=True, filters={"type": "container"})

    def listen() -> None:
        # Closed, it ends with whatever it was at.
        with suppress(Exception):
            for event in stream:
                _hear(event, f"gantry-{fleet.name}-", told)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield told
    finally:
        stream.close()
        thread.join(30)
        own.close()


def _hear(event: dict[str, Any], prefix: str, told: list[tuple[str, str]]) -> None:
    name, action = event["Actor"]["Attributes"].get("name", ""), event["Action"]
    if action.startswith("exec_create: pg_dump"):
        action = "dump"
    if name.startswith(prefix) and action in ("die", "start", "pause", "unpause", "dump"):
        told.append((name.removeprefix(prefix), action))


def status(client: docker.DockerClient, fleet: FleetUnderTest, service: str) -> str:
    return str(client.containers.get(f"gantry-{fleet.name}-{service}").status)


def test_the_collector_removes_nothing_between_the_database_and_the_images(
    fleet: FleetUnderTest, client: docker.DockerClient, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    with heard(fleet) as told:
        fleet.gantry("backup", fleet.name, "--to", str(folder))
    assert told == [
        ("collector", "die"),
        ("git", "pause"),
        ("postgres", "dump"),
        ("git", "unpause"),
        ("registry", "pause"),
        ("registry", "unpause"),
        ("collector", "start"),
        ("nats", "pause"),
        ("nats", "unpause"),
    ]
    assert status(client, fleet, "collector") == "running"
    with tarfile.open(folder / "registry.tar") as archive:
        assert any(each.name.endswith("/data") for each in archive)


def test_a_backup_that_fails_amid_it_lets_the_collector_go_on(
    fleet: FleetUnderTest, client: docker.DockerClient, tmp_path: Path
) -> None:
    client.containers.get(f"gantry-{fleet.name}-registry").pause()
    with heard(fleet) as told:
        said = fleet.gantry("backup", fleet.name, "--to", str(tmp_path / "saved"), check=False)
    assert f"registry of {fleet.name} is paused" in said
    assert [each for each in told if each[0] == "collector"] == [
        ("collector", "die"),
        ("collector", "start"),
    ]
    assert not list(tmp_path.glob("saved*"))


def test_a_collector_that_did_not_run_is_not_started(
    fleet: FleetUnderTest, client: docker.DockerClient, tmp_path: Path
) -> None:
    client.containers.get(f"gantry-{fleet.name}-collector").stop()
    with heard(fleet) as told:
        fleet.gantry("backup", fleet.name, "--to", str(tmp_path / "saved"))
    assert ("postgres", "dump") in told
    assert not [each for each in told if each[0] == "collector"]
    assert status(client, fleet, "collector") == "exited"
