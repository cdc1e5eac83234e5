"""Two fleets of the tests' own, beside whatever else runs on this host."""

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gantry.deployment import hosts
from tests.e2e.fleet_under_test import PYTHON, ROOT, FleetUnderTest


def _make(name: str, folder: Path, https_port: int, git_port: int) -> FleetUnderTest:
    """A project folder as a checkout has it: the real program, a stack file of the test's own."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project["main"] = str(ROOT / "infra")
    project["runtime"]["options"]["virtualenv"] = str(ROOT / ".venv")
    project["backend"]["url"] = f"file://{folder / 'config' / 'state'}"
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    settings = {"host": f"{name}.gantry.internal", "httpsPort": https_port, "gitPort": git_port}
    stack = {"config": {f"gantry:{key}": str(value) for key, value in settings.items()}}
    (folder / "stacks").mkdir()
    (folder / "stacks" / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump(stack))
    (folder / "home").mkdir(mode=0o700)
    (folder / "config" / "state").mkdir(parents=True, mode=0o700)
    passphrase = folder / "config" / "pulumi-passphrase"
    passphrase.write_text(secrets.token_urlsafe())
    passphrase.chmod(0o600)
    return FleetUnderTest(name, folder, https_port, git_port)


def _remove(fleet: FleetUnderTest) -> None:
    """All that bears the fleet's label, whatever state the test left it in."""
    label = ["--filter", f"label=gantry.fleet={fleet.name}"]
    for kind, listing, removal in (
        ("container", ["ls", "-aq"], ["rm", "-f", "-v"]),
        ("network", ["ls", "-q"], ["rm"]),
        ("volume", ["ls", "-q"], ["rm", "-f"]),
    ):
        found = fleet.run("docker", kind, *listing, *label, check=False).stdout.split()
        if found:
            fleet.run("docker", kind, *removal, *found, check=False)
    with contextlib.suppress(OSError):
        hosts.remove(fleet.name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fleet(name: str, folder: Path) -> Iterator[FleetUnderTest]:
    fleet = _make(name, folder, _free_port(), _free_port())
    _remove(fleet)
    try:
        yield fleet
        _keep_logs(fleet)
    finally:
        if not os.environ.get("GANTRY_KEEP"):
            _remove(fleet)


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
