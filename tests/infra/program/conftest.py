"""The Pulumi program's resources, read from the program itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HARNESS = Path(__file__).with_name("registered.py")
SETTINGS = {"gantry:httpsPort": "8443", "gantry:gitPort": "2222"}


@dataclass(frozen=True)
class Registered:
    """What one run of the program asked for; `error` is why it refused."""

    resources: list[dict[str, Any]]
    error: str | None

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The inputs of all resources whose type ends so, by name."""
        return {
            each["name"]: each["inputs"]
            for each in self.resources
            if each["type"].rpartition(":")[2] == kind
        }

    def files(self, service: str) -> dict[str, str]:
        """The configuration files of a service, by path."""
        uploads = self.of("Container")[service]["uploads"]
        return {each["file"]: each["content"] for each in uploads}


Run = Callable[..., Registered]


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the program for a stack with these settings beside the two that every stack has."""

    def registered(stack: str = "testbots", **settings: str) -> Registered:
        config = SETTINGS | {f"gantry:{key}": value for key, value in settings.items()}
        done = subprocess.run(
            [sys.executable, HARNESS, stack],
            input=json.dumps(config),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        return Registered(answer["resources"], answer.get("error"))

    return registered


@pytest.fixture(scope="session")
def fleet(run: Run) -> Registered:
    """A fleet with default settings."""
    registered = run()
    assert registered.error is None
    return registered
