"""`ansible-inventory` as a process, before a real api (with its PostgreSQL)."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# The fixtures of the api are its tests' own; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.integration.api.conftest import (
    Api,
    Fleet,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)

__all__ = ["postgres"]

ROOT = Path(__file__).parents[3]


def plain(value: dict[str, Any]) -> Any:
    """`ansible-inventory` marks texts that are no templates: those of the api are none."""
    return value["__ansible_unsafe"] if value.keys() == {"__ansible_unsafe"} else value


@dataclass
class Inventory:
    """Somebody with a home of their own, who types Ansible's commands in a folder."""

    home: Path
    fleet: Fleet
    url: str
    token: str
    folder: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)

    def log_in(self) -> None:
        """What `gantry login` keeps."""
        session = self.home / "gantry" / "devbots" / "session.json"
        session.parent.mkdir(mode=0o700, parents=True)
        session.write_text(
            json.dumps({"url": self.url, "username": "somebody", "token": self.token})
        )

    def run(
        self, text: str = "", *, command: tuple[str, ...] = ("ansible-inventory", "--list")
    ) -> subprocess.CompletedProcess[str]:
        """The command, with an inventory file of these lines."""
        path = self.home / "robots.gantry.yml"
        path.write_text(f"plugin: gantry\n{text}")
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [Path(sys.executable).parent / command[0], "-i", path, *command[1:]],
            cwd=self.folder,
            env=kept
            | {"HOME": str(self.home), "GANTRY_CONFIG_HOME": str(self.home / "gantry")}
            | self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def listed(self, text: str = "") -> dict[str, Any]:
        """What `ansible-inventory --list` says."""
        done = self.run(text)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        found: dict[str, Any] = json.loads(done.stdout, object_hook=plain)
        return found

    def hosts(self, text: str = "") -> set[str]:
        """The names of the hosts."""
        return set(self.listed(text)["_meta"]["hostvars"])

    def refused(self, text: str = "") -> str:
        """The one line that is said, when the file cannot be used."""
        done = self.run(text)
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        return line.removeprefix(f"{self.home}/robots.gantry.yml: ")


@pytest.fixture(scope="session")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    with own_database(postgres) as url, running(make_config(url, free_port()), folder) as started:
        yield started


@pytest.fixture
def inventory(api: Api, tmp_path: Path) -> Inventory:
    """Somebody who is logged in as a new user with an application `robots`."""
    name = f"user{secrets.token_hex(4)}"
    made = api.login().post("/v7/user", json={"username": name, "password": "long enough"})
    assert made.status_code == 201, made.text
    user = api.login(name, "long enough")
    body = {"app_name": "robots", "is_for__device_type": "raspberrypi3-64"}
    assert user.post("/v7/application", json=body).status_code == 201
    token = user.headers["Authorization"].removeprefix("Bearer ")
    person = Inventory(tmp_path, Fleet(api, user, f"{name}/robots"), api.url, token)
    person.log_in()
    return person
