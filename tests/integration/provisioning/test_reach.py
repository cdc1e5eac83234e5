"""Playbooks find out by themselves whether a host is a device already: port 22222, and root."""

import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gantry.deployment.images import build_image
from tests.fleet_under_test import wait_for

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = f"""\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_tasks: {ROOT}/playbooks/tasks/reach.yml
    - ansible.builtin.command: sh -c 'echo "reached as $(id -un)"'
"""
# One program is all that runs there: sshd on the port of the argument.
START = "mkdir -p /run/sshd && ssh-keygen -A >/dev/null && exec /usr/sbin/sshd -D -p"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(words, check=True)
    return path


@pytest.fixture
def host(request: pytest.FixtureRequest, key: Path) -> Iterator[str]:
    """The address of a host that lets the key in, as root and as pi, on the port of the test."""
    public = key.with_suffix(".pub").read_text().strip()
    allow = (
        f"for home in /root /home/pi; do mkdir -p $home/.ssh; echo '{public}' > "
        "$home/.ssh/authorized_keys; done; id pi 2>/dev/null || useradd --shell /bin/sh pi; "
        "chown -R pi /home/pi; usermod -p '*' pi; "
    )
    client = docker.from_env(timeout=600)
    container = client.containers.run(
        build_image("raspberry-pi-os", print, client=client).tag,
        entrypoint=["sh", "-c", f"{allow}{START} {request.param}"],
        name=f"reach-test-{uuid.uuid4().hex[:8]}",
        detach=True,
    )
    try:
        container.reload()
        (attached,) = container.attrs["NetworkSettings"]["Networks"].values()
        wait_for("sshd", lambda: answers(attached["IPAddress"], request.param), 60)
        yield attached["IPAddress"]
    finally:
        print(container.logs().decode())
        container.remove(force=True, v=True)
        client.close()


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def reach(host: str, key: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    playbook = folder / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return subprocess.run(
        [
            *(str(ROOT / ".venv/bin/ansible-playbook"), str(playbook), "-v"),
            *("-i", f"{host},", "-u", "pi", "--private-key", str(key)),
            *("--ssh-common-args", options),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(("host", "user"), [(22, "pi"), (22222, "root")], indirect=["host"])
def test_a_plain_host_and_a_device(host: str, user: str, key: Path, tmp_path: Path) -> None:
    done = reach(host, key, tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"reached as {user}" in done.stdout
