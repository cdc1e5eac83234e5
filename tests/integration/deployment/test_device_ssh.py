"""`gantry device` as one types it, and a login to the device. No fleet is up."""

import json
import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from gantry.deployment import virtual_device
from gantry.deployment.images import build_image
from gantry.deployment.paths import cache_home
from gantry.deployment.progress import line_printer

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with a home of their own, and a fleet's network."""

    home: Path
    fleet: str
    supervisor: str

    def gantry(self, *arguments: str) -> str:
        """What the command says, on both outputs."""
        ended = self._run([sys.executable, "-m", "gantry.cli.main", "device", *arguments])
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def device(self, name: str, *options: str) -> str:
        config = ("--config", str(self.home / "config.json"))
        image = ("--supervisor-image", self.supervisor)
        return self.gantry("run", "--fleet", self.fleet, "--name", name, *config, *image, *options)

    def login(self, line: str, key: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """The printed command with this key and nobody's question."""
        words = shlex.split(line, comments=True)
        options = ["-i", str(key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-F", "none"]
        return self._run([words[0], *options, *words[1:], *command])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        own = {"HOME": str(self.home), "GANTRY_CONFIG_HOME": str(self.home / "gantry")}
        return subprocess.run(
            command,
            env=os.environ | own | {"GANTRY_CACHE_HOME": str(cache_home())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    client = docker.from_env(timeout=600)
    fleet = f"test-{uuid.uuid4().hex[:8]}"
    config = {"applicationId": "1", "apiEndpoint": f"https://api.{fleet}.gantry.internal:18443"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = client.networks.create(virtual_device.network_name(fleet))
    try:
        image = build_image("supervisor", line_printer(), client=client)
        yield Operator(tmp_path, fleet, image.tag)
    finally:
        for each in virtual_device.devices(client, fleet):
            virtual_device.stop(each.name, client, line_printer(), keep=False)
        network.remove()
        client.close()


def login_line(said: str) -> str:
    """The command that `run --ssh` prints."""
    (line,) = [each for each in said.splitlines() if each.startswith("ssh ")]
    return line


def test_ssh_lets_in_the_operators_key_and_no_other(operator: Operator) -> None:
    name = f"{operator.fleet}-pi"
    without = operator.device(name)
    assert not [each for each in without.splitlines() if each.startswith("ssh ")]
    other = operator.home / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    (listed,) = json.loads(operator.gantry("list", "--fleet", operator.fleet, "--json"))
    assert listed["status"] == "running"
    nobody = operator.login(virtual_device.ssh_command(listed["address"]), other, "true")
    assert "Permission denied (publickey)" in nobody.stdout

    # For a device that runs already, too: `make up` has started one without it.
    line = login_line(operator.device(name, "--ssh"))
    key = operator.home / ".ssh" / "id_ed25519"
    command = ("hostname && id -u && systemctl is-system-running",)
    inside = operator.login(line, key, *command)
    assert inside.stdout.splitlines()[-3:] == [name, "0", "running"], inside.stdout

    refused = operator.login(line, other, "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stdout

    assert f"root@{listed['address']}" in line
    assert "Accepted publickey for root" in operator.gantry("logs", name, "-u", "gantry-ssh")
    operator.gantry("stop", name)
    assert json.loads(operator.gantry("list", "--fleet", operator.fleet, "--json")) == []
