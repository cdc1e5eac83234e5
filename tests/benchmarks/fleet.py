"""A fleet that is up, and in it an application and a device of the benchmark's own."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from gantry.client import session
from gantry.client.errors import ClientError

GANTRY = Path(sys.executable).with_name("gantry")
APPLICATION = "benchmark"
ANSWER_SECONDS = 30.0

T = TypeVar("T")


class BenchmarkError(Exception):
    """A figure cannot be taken; the message says why and what to do."""


def wait_for(what: str, probe: Callable[[], T | None], seconds: float, every: float = 0.5) -> T:
    """What `probe` returns as soon as it is truthy.

    Raises:
        BenchmarkError: it was not within `seconds`.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(every)
    raise BenchmarkError(f"waited {seconds:.0f} s in vain for {what}")


def run(*command: str, cwd: Path | None = None) -> str:
    """The output of a command.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"`{' '.join(command)}` → {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet's cloud side that somebody is logged in to."""

    name: str
    api: httpx2.Client

    def gantry(self, *arguments: str) -> str:
        return run(str(GANTRY), "--fleet", self.name, *arguments)

    def rows(self, path: str, **query: str) -> list[dict[str, Any]]:
        """What the api's resource model answers."""
        answer = self.api.get(f"/v7/{path}", params={f"${key}": query[key] for key in query})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["d"]
        return found


@contextmanager
def fleet_that_is_up(name: str) -> Iterator[Fleet]:
    """
    Raises:
        BenchmarkError: nobody is logged in, or the fleet does not answer.
    """
    how = f"bring it up with `make up STACK={name}`, or name another with --fleet"
    try:
        login = session.load(name)
    except ClientError as error:
        raise BenchmarkError(f"fleet {name} is not known on this machine: {how}") from error
    certificate = session.ca_path(name)
    trust = ssl.create_default_context(cafile=certificate if certificate.exists() else None)
    headers = {"Authorization": f"Bearer {login.token}"}
    with httpx2.Client(
        base_url=login.url, headers=headers, verify=trust, timeout=ANSWER_SECONDS
    ) as api:
        try:
            api.get("/user/v1/whoami").raise_for_status()
        except httpx2.HTTPStatusError as error:
            raise BenchmarkError(
                f"{login.url} refuses the session ({error.response.status_code}): "
                f"`gantry login --fleet {name}`"
            ) from error
        except httpx2.HTTPError as error:
            raise BenchmarkError(f"{login.url} does not answer ({error}): {how}") from error
        yield Fleet(name, api)


@dataclass(frozen=True, slots=True)
class Device:
    """The virtual device that runs the benchmark's application."""

    name: str

    def __call__(self, *command: str) -> str:
        """Run a command inside."""
        return run("docker", "exec", f"gantry-device-{self.name}", *command)

    def journal(self, since: float) -> list[tuple[float, str]]:
        """What its supervisor said from then on: seconds since the epoch, and the sentence."""
        unit = ("-u", "gantry-supervisor", "-o", "json", f"--since=@{since:.6f}")
        entries = [json.loads(line) for line in self("journalctl", *unit).splitlines()]
        return [
            (int(each["__REALTIME_TIMESTAMP"]) / 1e6, str(each.get("MESSAGE"))) for each in entries
        ]


@contextmanager
def application(fleet: Fleet, folder: Path) -> Iterator[tuple[Path, Device]]:
    """An application named `benchmark`, a checkout that is pushed to it, a device that runs it.

    All three are removed afterwards, and what an earlier run that was killed has left before.
    """
    device = Device(f"{fleet.name}-{APPLICATION}")
    _remove(fleet, device)
    try:
        fleet.gantry("fleets", "create", APPLICATION)
        remote = json.loads(fleet.gantry("remote", "-a", APPLICATION, "--json"))["ssh"]
        run("git", "init", "-q", "-b", "main", str(folder))
        run("git", "remote", "add", "fleet", remote, cwd=folder)
        joined = ("--name", device.name, "--application", APPLICATION)
        fleet.gantry("device", "run", "--fleet", fleet.name, *joined)
        yield folder, device
    finally:
        _remove(fleet, device)
        shutil.rmtree(folder, ignore_errors=True)


def _remove(fleet: Fleet, device: Device) -> None:
    here = json.loads(fleet.gantry("device", "list", "--json"))
    if any(each["name"] == device.name for each in here):
        fleet.gantry("device", "stop", device.name)
    for each in fleet.rows("application", filter=f"app_name eq '{APPLICATION}'", select="id"):
        fleet.api.delete(f"/v7/application({each['id']})").raise_for_status()


def git_environment() -> dict[str, str]:
    """Commits by nobody in particular, whatever this user's git is told."""
    author = {"NAME": "Benchmark", "EMAIL": "benchmark@localhost"}
    names = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in author.items()
    }
    return {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull}
