"""A whole fleet for a test: its own stack, config home and names, used as a person uses it."""

import contextlib
import json
import os
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gantry.deployment import hosts
from gantry.deployment.paths import cache_home
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
GANTRY = ROOT / ".venv" / "bin" / "gantry"

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], seconds: float, every: float = 1.0) -> T:
    """What `probe` returns as soon as it is truthy; fails with the last answer after `seconds`."""
    deadline = time.monotonic() + seconds
    last: T | None = None
    while time.monotonic() < deadline:
        last = probe()
        if last:
            return last
        time.sleep(every)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}; last seen: {last!r}")


@dataclass(frozen=True, slots=True)
class FleetUnderTest:
    """One stack and the commands on it. `workspace` holds the project file, stacks and config."""

    name: str
    workspace: Path
    https_port: int
    git_port: int
    vpn_port: int

    @property
    def host(self) -> str:
        return f"{self.name}.gantry.internal"

    @property
    def home(self) -> Path:
        return self.workspace / "home"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "GANTRY_CONFIG_HOME": str(self.workspace / "config"),
            "GANTRY_FLEET": self.name,
            "GANTRY_PROJECT": str(self.workspace),
            # OpenSSH asks the user database for the home folder, not HOME.
            "HOME": str(self.home),
            "GIT_SSH_COMMAND": f"ssh -F {self.home / '.ssh' / 'config'}",
            "GANTRY_CACHE_HOME": str(cache_home()),
            "PULUMI_HOME": os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi")),
            "NO_COLOR": "1",
        }

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 900,
        cwd: Path | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the fleet's operator; its output is in the failure's message."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=cwd or self.workspace,
            text=True,
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        if check:
            said = f"{done.stdout}{done.stderr or ''}"
            assert done.returncode == 0, f"{' '.join(command)} → {done.returncode}\n{said}"
        return done

    def gantry(self, *arguments: str, check: bool = True, timeout: float = 900) -> str:
        return self.run(str(GANTRY), *arguments, check=check, timeout=timeout).stdout

    def gantry_json(self, *arguments: str) -> Any:
        """What a command writes for programs. How far it is, it says on standard error."""
        command = (str(GANTRY), *arguments, "--json")
        return json.loads(self.run(*command, stderr=subprocess.PIPE).stdout)

    def run_with_input(self, text: str, program: str) -> None:
        """Run a Python program that reads `text`: secrets stay off the command line."""
        command = [str(PYTHON), "-c", program]
        subprocess.run(command, env=self.environment, input=text, text=True, check=True)

    def ask(self, path: str, token: str) -> int:
        """The status of a GET at the api with somebody's token."""
        trusted = ssl.create_default_context(
            cafile=str(self.workspace / "config" / self.name / "ca.crt")
        )
        request = urllib.request.Request(
            f"https://api.{self.host}:{self.https_port}{path}",
            headers={"Authorization": f"Bearer {token}"},
        )
        try:
            with urllib.request.urlopen(request, context=trusted, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    # The repository of an application

    def repository(self, name: str, application: str | None = None) -> "Repository":
        folder = self.workspace / name
        folder.mkdir()
        repository = Repository(self, folder)
        repository.git("init", "-q", "-b", "main")
        repository.git("config", "user.name", "Tester")
        repository.git("config", "user.email", "tester@example.com")
        app = application or self.name
        repository.git("remote", "add", self.name, f"admin@{self.host}:admin/{app}.git")
        return repository

    # Devices

    def device(self, name: str) -> dict[str, Any]:
        for each in self.gantry_json("devices"):
            if each["name"] == name:
                found: dict[str, Any] = each
                return found
        return {}

    def in_device(self, name: str, *command: str, check: bool = True) -> str:
        return self.run("docker", "exec", f"gantry-device-{name}", *command, check=check).stdout

    def wait_until_runs(self, name: str, commit: str, seconds: float = 180) -> dict[str, Any]:
        def probe() -> dict[str, Any] | None:
            seen = self.device(name)
            return seen if seen.get("commit") == commit and seen["is_online"] else None

        return wait_for(f"{name} to run {commit[:7]}", probe, seconds)


@dataclass(frozen=True, slots=True)
class Repository:
    """A checkout of an application, with the fleet as its remote."""

    fleet: FleetUnderTest
    folder: Path

    def git(self, *arguments: str, check: bool = True) -> str:
        return self.fleet.run("git", *arguments, check=check, cwd=self.folder).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *options: str, check: bool = True, timeout: float = 1200) -> str:
        return self.fleet.run(
            "git",
            "push",
            *options,
            self.fleet.name,
            "HEAD:main",
            check=check,
            cwd=self.folder,
            timeout=timeout,
        ).stdout


def make_fleet(name: str, folder: Path) -> FleetUnderTest:
    """A project folder as a checkout has it: the real program, a stack file of the test's own."""
    https_port, git_port, vpn_port = free_port(), free_port(), free_port()
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    project["main"] = str(ROOT / "infra")
    project["runtime"]["options"]["virtualenv"] = str(ROOT / ".venv")
    project["backend"]["url"] = f"file://{folder / 'config' / 'state'}"
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    settings = {"host": f"{name}.gantry.internal", "httpsPort": https_port, "gitPort": git_port}
    config: dict[str, Any] = {f"gantry:{key}": str(value) for key, value in settings.items()}
    stack = {"config": config | {"gantry:vpn": {"port": vpn_port}}}
    (folder / "stacks").mkdir()
    (folder / "stacks" / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump(stack))
    (folder / "home").mkdir(mode=0o700)
    (folder / "config" / "state").mkdir(parents=True, mode=0o700)
    passphrase = folder / "config" / "pulumi-passphrase"
    passphrase.write_text(secrets.token_urlsafe())
    passphrase.chmod(0o600)
    return FleetUnderTest(name, folder, https_port, git_port, vpn_port)


def remove_fleet(fleet: FleetUnderTest) -> None:
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
