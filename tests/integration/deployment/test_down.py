"""`make down DATA=1` at a terminal: what is answered decides what is left. No fleet is up."""

import contextlib
import os
import pty
import select
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gantry.deployment import virtual_device
from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer
from tests.fleet_under_test import ROOT, FleetUnderTest, make_fleet, remove_fleet

QUESTION = b"Type the fleet's name: "
CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture
def fleet(tmp_path: Path, client: docker.DockerClient) -> Iterator[FleetUnderTest]:
    """What is left of a fleet whose services are gone: data volumes, and a device."""
    fleet = make_fleet(f"down-{uuid.uuid4().hex[:8]}", tmp_path)
    labels = {virtual_device.FLEET_LABEL: fleet.name}
    device = f"{fleet.name}-1"
    for name in (f"gantry-{fleet.name}-postgres-data", *virtual_device.volume_names(device)):
        client.volumes.create(name, labels=labels)
    client.volumes.create(f"of-{fleet.name}s-neighbour", labels={"gantry.fleet": f"{fleet.name}s"})
    client.containers.create(
        build_image("debian", line_printer(), client=client).tag,
        name=virtual_device.container_name(device),
        labels=labels | {virtual_device.NAME_LABEL: device},
        volumes={virtual_device.volume_names(device)[1]: {"bind": "/mnt/data"}},
    )
    yield fleet
    remove_fleet(fleet)
    client.volumes.get(f"of-{fleet.name}s-neighbour").remove()


def left(fleet: FleetUnderTest, client: docker.DockerClient) -> set[str]:
    """Names of what bears the fleet's label, and of its neighbour's volume."""
    of_it = {"label": f"{virtual_device.FLEET_LABEL}={fleet.name}"}
    containers = {each.name for each in client.containers.list(all=True, filters=of_it)}
    volumes = {each.name for each in client.volumes.list() if fleet.name in each.name}
    return containers | volumes


def down_at_a_terminal(fleet: FleetUnderTest, answer: bytes) -> tuple[int, str]:
    """Exit status and output of `make down DATA=1`, whose question gets `answer`."""
    ours, theirs = pty.openpty()
    # With a controlling terminal, so that Ctrl-C is what it is to a person.
    command = ["setsid", "--ctty", "make", "down", "DATA=1", f"STACK={fleet.name}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=fleet.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output, asked = b"", False
    # Reading fails once nobody is at the terminal's other side.
    with open(ours, "r+b", buffering=0) as screen, contextlib.suppress(OSError):
        while True:
            # Python misses a signal between its question and its wait for the answer: whoever
            # presses Ctrl-C and sees nothing presses it again.
            patience = 5 if asked and answer == CTRL_C else None
            if not select.select([screen], [], [], patience)[0]:
                screen.write(answer)
                continue
            if not (piece := screen.read(4096)):
                break
            output += piece
            if QUESTION in output and not asked:
                asked = True
                screen.write(answer)
    return process.wait(timeout=60), output.decode()


@pytest.mark.parametrize("answer", [b"yes\n", b"devbots\n", CTRL_D, CTRL_C])
def test_another_answer_removes_nothing(
    fleet: FleetUnderTest, client: docker.DockerClient, answer: bytes
) -> None:
    before = left(fleet, client)
    assert len(before) == 6
    status, output = down_at_a_terminal(fleet, answer)
    assert status != 0
    assert "nothing was removed" in output
    assert "Traceback" not in output
    assert left(fleet, client) == before


def test_the_fleets_name_removes_its_data_and_no_other(
    fleet: FleetUnderTest, client: docker.DockerClient
) -> None:
    status, output = down_at_a_terminal(fleet, f"{fleet.name}\n".encode())
    assert status == 0, output
    assert f"removed gantry-{fleet.name}-postgres-data" in output
    assert left(fleet, client) == {f"of-{fleet.name}s-neighbour"}


def test_without_a_terminal_nobody_is_asked_and_nothing_is_removed(
    fleet: FleetUnderTest, client: docker.DockerClient
) -> None:
    before = left(fleet, client)
    command = ["make", "down", "DATA=1", f"STACK={fleet.name}"]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=fleet.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "DATA=1 asks before it removes data: call it in a terminal" in ended.stderr
    assert left(fleet, client) == before


def test_without_data_the_volumes_stay(fleet: FleetUnderTest, client: docker.DockerClient) -> None:
    before = left(fleet, client)
    fleet.run("make", "down", f"STACK={fleet.name}", cwd=ROOT)
    device = virtual_device.container_name(f"{fleet.name}-1")
    assert left(fleet, client) == before - {device}
