"""`gantry device`: what it ends with when it cannot do what it was asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNKNOWN = "no virtual device deployment-nobody: there "


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("run", "--fleet", "nobots"), 4, "not logged in to nobots: `gantry login --fleet nobots`"),
        (("run", "--name", "No_Name"), 1, "'No_Name' cannot be a device's name"),
        (("stop", "deployment-nobody"), 3, UNKNOWN),
        (("refresh", "deployment-nobody"), 3, UNKNOWN),
        (("logs", "deployment-nobody", "-f", "-u", "ssh"), 3, UNKNOWN),
        (("run", "--count", "0"), 2, "--count"),
    ],
)
def test_codes(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gantry.cli.main", "device", *arguments],
        env=os.environ | {"GANTRY_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code, ended.stderr
    assert sentence in ended.stderr


def test_no_engine(tmp_path: Path) -> None:
    environment = os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    command = [sys.executable, "-m", "gantry.cli.main", "device", "list"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("gantry: Docker: ")
    assert ended.stderr.count("\n") == 1
