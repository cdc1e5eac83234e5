"""`make up` and `make down`: from nothing to a device that runs the example, and back.

Every step is what a person would type, in the same order; each says what it does and how long it
took, and changes nothing where its result is there already.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantry.deployment import hosts, marked_block, ssh_config
from gantry.deployment.paths import fleet_home, repository_root
from gantry.deployment.progress import Progress, duration, line_printer, step

EXAMPLE = Path("examples") / "opentrons-api"
DEVICE_SECONDS = 900
ANSWER_SECONDS = 60
BRANCH = "refs/heads/main"
# The example's commit is the same wherever it is made: a second `make up` has nothing to push.
FIXED_IDENTITY = {
    "GIT_AUTHOR_NAME": "Gantry",
    "GIT_AUTHOR_EMAIL": "gantry@localhost",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "Gantry",
    "GIT_COMMITTER_EMAIL": "gantry@localhost",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


class QuickstartError(Exception):
    """A step failed; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A deployed fleet, as its stack's outputs tell it."""

    name: str
    host: str
    https_port: int
    git_port: int
    admin: str

    @property
    def device(self) -> str:
        """The name of the virtual device that `make up` starts."""
        return f"{self.name}-1"

    @property
    def remote(self) -> str:
        return f"{self.admin}@{self.host}:{self.admin}/{self.name}.git"

    @property
    def remote_url(self) -> str:
        return f"ssh://{self.admin}@{self.host}:{self.git_port}/{self.admin}/{self.name}.git"


def up(stack: str) -> None:
    """Deploy the fleet, start a device, push the example and wait until the device runs it.

    Raises:
        QuickstartError: a step failed; what was made stays, and the next call goes on from there.
    """
    say = line_printer()
    started = time.monotonic()
    with step(f"the cloud side of {stack}", say):
        # What was removed by hand since is made again.
        _gantry("up", stack, "--refresh")
    fleet = connect(stack)
    with step(f"a virtual device, {fleet.device}", say):
        _ensure_device(fleet)
    with step("the example's push", say) as tell:
        commit = _push_example(fleet, tell)
    with step(f"{fleet.device} runs {commit[:7]}", say) as tell:
        _wait_for_device(fleet, commit, tell)
    print(_summary(fleet, time.monotonic() - started), flush=True)


def connect(stack: str) -> Fleet:
    """Let this machine and this user know a fleet that is deployed here.

    Raises:
        QuickstartError: the fleet is not deployed, or it does not take the login.
    """
    shown = _captured(_command("outputs", stack, "--json", "--show-secrets"))
    outputs: dict[str, Any] = json.loads(shown)
    if "host" not in outputs:
        raise QuickstartError(f"{stack} is not deployed: `gantry up {stack}` first")
    fleet = fleet_of(stack, outputs)
    with step(f"names, host key and login of {stack} on this machine", line_printer()):
        introduce(fleet, outputs)
    return fleet


def down(stack: str, *, data: bool) -> None:
    """Remove what `up` made: devices, cloud side, names. The data volumes only with `data`.

    Raises:
        QuickstartError: not confirmed, or a step failed.
    """
    say = line_printer()
    if data and not _confirmed(stack):
        raise QuickstartError("nothing was removed")
    with step(f"virtual devices of {stack}", say):
        for name in _device_names(stack):
            _gantry("device", "stop", name, *([] if data else ["--keep"]))
    with step(f"the cloud side of {stack}", say):
        _gantry("destroy", stack, "--yes")
    with step(f"names and host key of {stack} on this machine", say):
        _forget(stack)
    if data:
        with step(f"data volumes of {stack}", say) as tell:
            _remove_volumes(stack, tell)


def introduce(fleet: Fleet, outputs: Mapping[str, Any]) -> None:
    """Let this machine and this user know the fleet: CA, names, ssh, login, public key."""
    home = fleet_home(fleet.name)
    marked_block.write_atomically(home / "ca.crt", str(outputs["ca_certificate"]), 0o644)
    marked_block.write_atomically(home / "admin-password", f"{outputs['admin_password']}\n", 0o600)
    address = json.dumps({"host": fleet.host, "git_port": fleet.git_port})
    marked_block.write_atomically(home / "address.json", address, 0o600)
    hosts.add(fleet.name, fleet.host)
    identity = ssh_config.ensure_identity()
    key = str(outputs["ssh_host_public_key"])
    ssh_config.add(fleet.name, fleet.host, fleet.git_port, key, identity=identity)
    # A session that holds is kept: the password may have been changed since it was generated.
    known = subprocess.run(
        _command("--fleet", fleet.name, "whoami"), check=False, capture_output=True
    )
    if known.returncode != 0:
        url = str(outputs["urls"]["api"])
        password = ["--password-file", str(home / "admin-password")]
        _gantry("--fleet", fleet.name, "login", fleet.admin, "--url", url, *password)
    _gantry("--fleet", fleet.name, "key", "add", str(identity.public))


def fleet_of(stack: str, outputs: Mapping[str, Any]) -> Fleet:
    return Fleet(
        name=stack,
        host=str(outputs["host"]),
        https_port=int(outputs["https_port"]),
        git_port=int(outputs["git_port"]),
        admin=str(outputs["admin_username"]),
    )


def _devices(stack: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_captured(_command("device", "list", "--json")))
    return [each for each in found if each["fleet"] == stack]


def _device_names(stack: str) -> list[str]:
    return [str(each["name"]) for each in _devices(stack)]


def _ensure_device(fleet: Fleet) -> None:
    running = [each["name"] for each in _devices(fleet.name) if each["status"] == "running"]
    if not running:
        _gantry("device", "run", "--fleet", fleet.name, "--name", fleet.device)


def _push_example(fleet: Fleet, tell: Progress) -> str:
    """The commit that the fleet is to run: the example's, or what its user has pushed already."""
    pushed = _captured(["git", "ls-remote", fleet.remote_url, BRANCH]).split()
    with tempfile.TemporaryDirectory(prefix="gantry-example-") as folder:
        commit = _example_commit(Path(folder))
        if pushed and pushed[0] != commit:
            tell(f"main is at {pushed[0][:7]} already, which is not the example: left as it is")
            return pushed[0]
        if pushed:
            tell("pushed already")
        else:
            _run(["git", "-C", folder, "push", fleet.remote_url, f"HEAD:{BRANCH}"])
    return commit


def _example_commit(folder: Path) -> str:
    shutil.copytree(
        repository_root() / EXAMPLE,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    environment = {**FIXED_IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "--all"],
        ["commit", "-q", "-m", "The Opentrons API, as an example"],
    ):
        _captured(["git", "-C", str(folder), *command], environment)
    return _captured(["git", "-C", str(folder), "rev-parse", "HEAD"]).strip()


def _wait_for_device(fleet: Fleet, commit: str, tell: Progress) -> None:
    deadline = time.monotonic() + DEVICE_SECONDS
    last = ""
    while time.monotonic() < deadline:
        seen: list[dict[str, Any]] = json.loads(
            _captured(_command("--fleet", fleet.name, "devices", "--json"))
        )
        for each in seen:
            if each["commit"] == commit and each["is_online"]:
                return
            line = f"{each['name']}: {each['status'] or 'starting'}"
            if each["progress"] is not None:
                line += f", {each['progress']} %"
            if line != last:
                tell(line)
                last = line
        time.sleep(2)
    raise QuickstartError(
        f"no device of {fleet.name} ran {commit[:7]} within {duration(DEVICE_SECONDS)} "
        f"(last: {last or 'none is known'}): see `gantry device logs {fleet.device} -n 100`"
    )


def _forget(stack: str) -> None:
    address = fleet_home(stack) / "address.json"
    hosts.remove(stack)
    if address.exists():
        where = json.loads(address.read_text())
        ssh_config.remove(stack, where["host"], where["git_port"])
    for name in ("address.json", "session.json", "admin-password", "ca.crt"):
        (fleet_home(stack) / name).unlink(missing_ok=True)


def _remove_volumes(stack: str, tell: Progress) -> None:
    filters = ["--filter", f"label=gantry.fleet={stack}"]
    for name in _captured(["docker", "volume", "ls", "-q", *filters]).split():
        _captured(["docker", "volume", "rm", name])
        tell(f"removed {name}")


def _confirmed(stack: str) -> bool:
    if not sys.stdin.isatty():
        raise QuickstartError("DATA=1 asks before it removes data: call it in a terminal")
    question = f"Remove all data of {stack}: releases, users, keys, logs, certificate authority?"
    try:
        return input(f"{question} Type the fleet's name: ").strip() == stack
    except (EOFError, KeyboardInterrupt):
        # Ctrl-D and Ctrl-C are no answers; the message begins a line of its own.
        print()
        return False


def _summary(fleet: Fleet, seconds: float) -> str:
    home = fleet_home(fleet.name)
    port = "" if fleet.https_port == 443 else f":{fleet.https_port}"
    base = f"{fleet.host}{port}"
    return f"""
{fleet.name} is up, after {duration(seconds)}.

  api               https://api.{base}
  registry          https://registry.{base}
  admin             {fleet.admin}, password in {home / "admin-password"}
  certificate       {home / "ca.crt"} (the fleet's own authority)
  git remote        {fleet.remote}
                    {fleet.remote_url}

Next, in your application's repository:
  git remote add {fleet.name} {fleet.remote}
  git push {fleet.name} main
  {_executable()} devices
  {_executable()} logs {fleet.device} -f
  {_executable()} ssh {fleet.device}

`make down{"" if fleet.name == "devbots" else f" STACK={fleet.name}"}` takes it down again.\
"""


def _executable() -> str:
    found = shutil.which("gantry")
    return "gantry" if found else os.path.relpath(Path(sys.executable).with_name("gantry"))


def _command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("gantry")), *arguments]


def _gantry(*arguments: str) -> None:
    _run(_command(*arguments))


def _run(command: list[str]) -> None:
    """Run a command whose output the user is to see as it happens."""
    if (status := subprocess.run(command, check=False).returncode) != 0:
        raise QuickstartError(f"`{_spoken(command)}` failed with status {status}, see above")


def _captured(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        raise QuickstartError(
            f"`{_spoken(command)}` failed with status {done.returncode}: {done.stderr.strip()}"
        )
    return done.stdout


def _spoken(command: list[str]) -> str:
    return " ".join([Path(command[0]).name, *command[1:]])


def main(arguments: list[str]) -> int:
    """`up STACK` or `down STACK` (with DATA=1 in the environment: data too)."""
    try:
        match arguments:
            case ["up", stack]:
                up(stack)
            case ["down", stack]:
                down(stack, data=os.environ.get("DATA") == "1")
            case _:
                print(f"usage: {main.__doc__}", file=sys.stderr)
                return 2
    except QuickstartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the next `make {arguments[0]}` goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
