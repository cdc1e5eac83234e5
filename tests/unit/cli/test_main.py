"""The command itself: how it starts and how it ends."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gantry import __version__
from gantry.cli.main import STACK_COMMANDS


def processor_seconds() -> float:
    """The processor's time that ended child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def gantry(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GANTRY_CONFIG_HOME": str(home), "HOME": str(home)} | more
    environment.pop("GANTRY_FLEET", None)
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "gantry.cli.main", *arguments],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_version(tmp_path: Path) -> None:
    assert gantry(tmp_path, "--version").stdout == f"gantry {__version__}\n"


def test_help_is_quick_and_has_everything(tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        began = processor_seconds()
        shown = gantry(tmp_path, "--help")
        times.append(processor_seconds() - began)
    assert shown.returncode == 0
    for name in ("login", "devices", "logs", "device", "remote", *STACK_COMMANDS):
        assert f" {name} " in shown.stdout
    # Not by the clock, for tests share their machine. 0.35 s on 2 cores, amd64.
    assert min(times) < 0.8


def test_slow_modules_are_not_imported_for_help() -> None:
    code = (
        "import sys, gantry.cli.main\n"
        "print([m for m in ('docker', 'pulumi', 'httpx2', 'boto3', 'yaml') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_slow_modules_are_not_imported_for_a_login() -> None:
    """docs/decisions/0008: ssh waits for its ProxyCommand."""
    code = (
        "import sys, gantry.client.tunnel_stdio\n"
        "print([m for m in ('typer', 'rich', 'httpx2', 'asyncio', 'docker') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments", [("device", "-h"), ("device", "run", "--help"), ("up", "--help"), ("up", "-h")]
)
def test_commands_of_other_modules_are_there(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    shown = gantry(tmp_path, *arguments)
    assert shown.returncode == 0, shown.stderr
    assert f"gantry {arguments[0]}" in shown.stdout


def test_the_fleet_may_stand_before_and_after_the_command(tmp_path: Path) -> None:
    for arguments in (("-f", "mine", "devices"), ("devices", "--fleet", "mine")):
        ended = gantry(tmp_path, *arguments)
        assert ended.returncode == 4
        assert ended.stderr == "gantry: not logged in to mine: `gantry login --fleet mine`\n"
    assert "to theirs:" in gantry(tmp_path, "devices", GANTRY_FLEET="theirs").stderr


def test_a_password_is_never_an_argument(tmp_path: Path) -> None:
    assert "--password " not in gantry(tmp_path, "login", "--help").stdout
    ended = gantry(tmp_path, "login", "ann", "--url", "https://localhost:9")
    assert ended.returncode == 2
    assert "--password-file" in ended.stderr


def test_a_traceback_only_on_demand(tmp_path: Path) -> None:
    (tmp_path / "devbots" / "session.json").mkdir(parents=True)
    ended = gantry(tmp_path, "devices")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "Traceback" in gantry(tmp_path, "devices", GANTRY_DEBUG="1").stderr


def test_completion(tmp_path: Path) -> None:
    ended = gantry(
        tmp_path, _GANTRY_COMPLETE="complete_bash", COMP_WORDS="gantry rel", COMP_CWORD="1"
    )
    assert ended.stdout == "releases\n"


@pytest.mark.parametrize(
    ("words", "proposals"),
    [
        ("gantry device re", ["restart", "reboot", "refresh"]),
        ("gantry device run --mount", ["--mount-source"]),
        ("gantry up t", ["testingbots"]),
        ("gantry preview --j", ["--json"]),
    ],
)
def test_completion_of_commands_of_other_modules(
    tmp_path: Path, words: str, proposals: list[str]
) -> None:
    ended = gantry(
        tmp_path,
        _GANTRY_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
    )
    assert ended.stdout.split() == proposals, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("up", "nobots"), "there is no stack nobots"),
        (("outputs", "nobots"), "stack nobots is not deployed"),
        (("export", "nobots"), "stack nobots is not deployed"),
    ],
)
def test_an_unknown_stack_is_not_found(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "pulumi-passphrase").write_text("a passphrase")
    ended = gantry(tmp_path, *arguments, "--engine", "builtin")
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1), ended.stderr
    assert sentence in ended.stderr


def test_an_interrupted_command_ends_with_130(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from gantry.cli import main\n"
        "main.app.command('hang')(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "sys.argv = ['gantry', 'hang']\n"
        "main.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
