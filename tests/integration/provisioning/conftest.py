"""The module `gantry_fleet` as playbooks run it, before a real api (with its PostgreSQL)."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import ADMIN_PASSWORD, Api, postgres
from tests.integration.cli.conftest import GANTRY, api

__all__ = ["api", "postgres"]

ROOT = Path(__file__).parents[3]
Module = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def application() -> str:
    return f"robots{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def home(api: Api, tmp_path_factory: pytest.TempPathFactory, application: str) -> Path:
    """The settings of an operator who is logged in as admin, with that application."""
    folder = tmp_path_factory.mktemp("home")
    environment = os.environ | {"GANTRY_CONFIG_HOME": str(folder)}
    for arguments in (
        ["login", "admin", "--url", api.url, "--password-file", "-"],
        ["fleets", "create", application, "--type", "raspberrypi3"],
    ):
        subprocess.run(
            [*GANTRY, *arguments],
            env=environment,
            input=f"{ADMIN_PASSWORD}\n",
            text=True,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture
def gantry_fleet(home: Path, tmp_path: Path) -> Module:
    """The module with these options, as Ansible runs it on the controller; its answer."""

    def run(*, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = tmp_path / "arguments.json"
        given = {"ANSIBLE_MODULE_ARGS": options | {"_ansible_check_mode": check}}
        arguments.write_text(json.dumps(given))
        ended = subprocess.run(
            [sys.executable, str(ROOT / "plugins/modules/gantry_fleet.py"), str(arguments)],
            env=os.environ | {"GANTRY_CONFIG_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer

    return run
